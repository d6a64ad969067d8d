"""Bodies of the HTTP Event Collector of Splunk (HEC): objects behind each other, or lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from gateway.ingest.protocols.stacked_values import BrokenValue, is_json, stacked_values

# Codes of what is wrong with an event.
INVALID, NO_EVENT, BLANK, FIELDS = 6, 12, 13, 15
_BLANK = re.compile(rb'null|"[ \t]*+"')
_CHANNEL = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE
)
_LINE = re.compile(rb"\S[^\r\n]*+")
_ENCODE = msgspec.json.Encoder().encode


class HecEvent(NamedTuple):
    """One event: the whole object, and of its members the event itself, its source type, the tenant
    among its fields, and the JSON of its time.

    Where it cannot be taken, `code` is HEC's for that and `reason` says why.
    """

    raw: bytes
    event: bytes = b""
    sourcetype: str = ""
    code: int = 0
    reason: str = ""
    tenant: Any = None
    time: bytes = b""


class _Object(msgspec.Struct):
    event: msgspec.Raw | UnsetType = UNSET
    sourcetype: Any = None
    fields: Any = None
    time: msgspec.Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Object).decode


def events_of(body: bytes) -> Iterator[HecEvent]:
    """The events in a body of objects."""
    for value in stacked_values(body, _decode):
        yield (
            HecEvent(value.raw, code=INVALID, reason=value.reason)
            if isinstance(value, BrokenValue)
            else _event_of(*value)
        )


def events_of_lines(body: bytes, metadata: Mapping[str, str]) -> Iterator[HecEvent]:
    """The lines of a body as events, with the metadata of the request: JSON as it is, else as
    text."""
    sourcetype = metadata.get("sourcetype", "")
    about = {name: metadata[name] for name in ("host", "source", "sourcetype") if name in metadata}
    prefix = _ENCODE(about)[:-1] + (b"," if about else b"")
    for found in _LINE.finditer(body):
        text = event = found[0].rstrip()
        if text[:1] != b"{" or not is_json(text):
            event = _ENCODE(text.decode(errors="backslashreplace"))
        yield HecEvent(prefix + b'"event":' + event + b"}", event, sourcetype)


def is_channel(text: str) -> bool:
    """Whether a text can be the id of a channel."""
    return _CHANNEL.fullmatch(text) is not None


def _event_of(value: bytes, found: _Object | None) -> HecEvent:
    """The event that an object is; `found` is what it decodes to, where that is known."""
    if value[:1] != b"{":
        return HecEvent(value, code=INVALID, reason="an event is a JSON object")
    try:
        if found is None:
            found = _decode(value)
    except RecursionError:
        # What its source makes of it is a marked event.
        return HecEvent(value, b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return HecEvent(value, code=INVALID, reason=f"not valid JSON: {error}")
    if found.event is UNSET:
        return HecEvent(value, code=NO_EVENT, reason="`event` is needed")
    event = bytes(found.event)
    if event[:1] != b"{" and _BLANK.fullmatch(event):
        return HecEvent(value, code=BLANK, reason="`event` is blank")
    if found.fields is not None and not _is_flat(found.fields):
        return HecEvent(value, code=FIELDS, reason="`fields` is an object of texts and lists")
    named = found.sourcetype if isinstance(found.sourcetype, str) else ""
    tenant = found.fields.get("tenant") if found.fields else None
    time = b"" if found.time is UNSET else bytes(found.time)
    return HecEvent(value, event, named, 0, "", tenant, time)


def _is_flat(fields: Any) -> bool:
    return isinstance(fields, dict) and not any(
        isinstance(one, dict | list)
        for value in fields.values()
        for one in (value if isinstance(value, list) else (value,))
    )
