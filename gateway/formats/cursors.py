"""Where each format has the cursor of an event, for readers that keep their position."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
# Values hold neither `=` nor a quote that is not escaped. The quote that ends one may look like the
# begin of another, as in `id="x cursor="`, but not of two.
_IN_CEF = re.compile(rb" cs3Label=cursor cs3=(\S+)")
_IN_SYSLOG = re.compile(rb' recorded="[^"\\]+" cursor="([^"\\]+)"')

# First bytes of an event in each format; no control message begins so.
BEGINS = {
    "native": b'{"cursor":',
    "cloudevents": b'{"specversion":',
    "ocsf": b'{"activity_id":',
    "ecs": b'{"@timestamp":',
    "cef": b"CEF:0|",
    "rfc5424": b"<1",
}


def cursor_in(format: str, line: bytes) -> str | None:
    """The cursor of an event in a format; None if the line is none."""
    if not line.startswith(BEGINS[format]):
        return None
    return _FINDERS[format](line)


def _in_json(*path: str) -> Callable[[bytes], str | None]:
    def find(line: bytes) -> str | None:
        value: bytes | msgspec.Raw = line
        try:
            for name in path:
                value = _decode(value)[name]
            return _decode_text(value)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
            return None

    return find


def _in_text(pattern: re.Pattern[bytes]) -> Callable[[bytes], str | None]:
    def find(line: bytes) -> str | None:
        found = pattern.search(line)
        return None if found is None else found[1].decode()

    return find


_FINDERS: dict[str, Callable[[bytes], str | None]] = {
    "native": _in_json("cursor"),
    "cloudevents": _in_json("cursor"),
    "ocsf": _in_json("unmapped", "cursor"),
    "ecs": _in_json("labels", "cursor"),
    "cef": _in_text(_IN_CEF),
    "rfc5424": _in_text(_IN_SYSLOG),
}
