"""All formats, by name.

| name | standard | what is lost |
| --- | --- | --- |
| `native` | the gateway's own JSON | nothing |
| `cloudevents` | CloudEvents 1.0 | nothing: native under `data` |
| `ocsf` | OCSF 1.8.0 | nothing with `unmapped` `full`: native under it |
| `ecs` | ECS 9.4 | nothing with `original`: native under `event.original` |
| `cef` | CEF:0 | `data`, targets beyond the first, microseconds, `actor.key_id`, long ends |
| `rfc5424` | syslog | nothing: native is the message |
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.formats.cef import cef_encoder
from gateway.formats.cloudevents import cloudevents_encoder
from gateway.formats.ecs import ecs_encoder
from gateway.formats.format import Format, FormatOptions
from gateway.formats.names import FORMAT_NAMES
from gateway.formats.ocsf import ocsf_encoder
from gateway.formats.rfc5424 import rfc5424_encoder

_JSON: dict[str, Callable[[FormatOptions], Callable[[bytes], bytes]]] = {
    "cloudevents": cloudevents_encoder,
    "ocsf": ocsf_encoder,
    "ecs": ecs_encoder,
}
_TEXT = {"cef": cef_encoder, "rfc5424": rfc5424_encoder}
NATIVE = Format("native", True, lambda native: native)


def make_formats(options: FormatOptions | None = None) -> dict[str, Format]:
    """Every format by its name, with the choices of `options`."""
    chosen = options or FormatOptions()
    made = {name: Format(name, True, make(chosen)) for name, make in _JSON.items()}
    made |= {name: Format(name, False, make(chosen)) for name, make in _TEXT.items()}
    made["native"] = NATIVE
    return {name: made[name] for name in FORMAT_NAMES}
