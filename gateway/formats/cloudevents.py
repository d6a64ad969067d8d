"""CloudEvents 1.0 in JSON (structured mode). Lossless: `data` is the native event, byte for byte.

Source and id together identify an event, as CloudEvents demands: an id is unique in its tenant, and
the tenant is the end of the source. The epoch of the log is no part of it, so that a restored log
keeps its identities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from gateway.formats.format import FormatOptions
from gateway.formats.shown_event import shown_event

BATCH_TYPE = "application/cloudevents-batch+json"
EVENT_TYPE = "application/cloudevents+json"
# What strings in the context must not contain (1.0.2, "Type System").
_DISALLOWED = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 65536))
    + "]"
)
_ENCODE = msgspec.json.Encoder().encode


def cloudevents_encoder(options: FormatOptions) -> Callable[[bytes], bytes]:
    """Encoder of single events."""
    prefix = options.type_prefix
    if prefix and not prefix.endswith("."):
        prefix += "."

    def encode(native: bytes) -> bytes:
        event = shown_event(native)
        context = {
            "specversion": "1.0",
            "id": event.id,
            "source": options.source + event.tenant,
            "type": f"{prefix}{event.category}.{event.action}",
        }
        subject, trace = event.first_urn(), event.request.trace_id
        if subject and not _DISALLOWED.search(subject):
            context["subject"] = subject
        rest: dict[str, str | int | msgspec.Raw] = {
            **context,
            "time": event.time,
            "datacontenttype": "application/json",
            "tenant": event.tenant,
            "recordedtime": event.recorded_at,
            "cursor": event.cursor,
            "severity": event.severity,
        }
        if trace and not _DISALLOWED.search(trace):
            rest["traceid"] = trace
        rest["data"] = msgspec.Raw(native)
        return _ENCODE(rest)

    return encode


def cloudevents_batch(events: Iterable[bytes]) -> bytes:
    """Body of `BATCH_TYPE` with encoded events."""
    return b"[%b]" % b",".join(events)
