"""Mapping of records, as they were read, to the lines of NDJSON that the gateway takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.ingest.marked import fitting
from gateway.ingest.sources import cloudtrail, github, kubernetes, okta
from gateway.ingest.sources.identity import SeenIds, event_id

_encode = msgspec.json.Encoder().encode
# Members that a gateway, from which this event was read, put at its beginning.
_SET_BY_GATEWAY = re.compile(rb'\A\{"cursor":"[^"]*","recorded_at":"[^"]*",')
_LINE_BREAKS = re.compile(rb"[\r\n]")
# Mappings of the formats that can be imported; events in the gateway's own form need none.
FORMATS: dict[str, Callable[[dict[str, Any]], dict[str, Any]] | None] = {
    "native": None,
    "cloudtrail": cloudtrail.to_event,
    "kubernetes": kubernetes.to_event,
    "github": github.to_event,
    "okta": okta.to_event,
}


def one_line(raw: bytes) -> bytes:
    """JSON text on one line: line breaks occur only between tokens, and become spaces."""
    return _LINE_BREAKS.sub(b" ", raw.strip())


class EventLines:
    """Mapper of the records of one import.

    `tenant` is the tenant of events that name none; None leaves the choice to the
    gateway.
    """

    def __init__(self, format_name: str, tenant: str | None = None) -> None:
        self._to_event = FORMATS[format_name]
        self._tenant = tenant
        self._seen = SeenIds()
        # Number of records that were truncated, since they are too deep or too large.
        self.truncated = 0

    def line(self, record: dict[str, Any], raw: bytes) -> bytes:
        """Event of a record as one line, without a line break. `raw` is the record as it was read.

        The bytes of `raw` go into the event unchanged: numbers keep their digits,
        and the gateway can still refuse duplicate members.
        Raises `Unmappable`.
        """
        line, is_cut = fitting(self._line(record, one_line(raw)))
        self.truncated += is_cut
        return line

    def _line(self, record: dict[str, Any], line: bytes) -> bytes:
        if self._to_event is None:
            return self._completed(record, line)
        event = self._to_event(record)
        event["id"] = self._seen.settle(event["id"], record)
        if self._tenant is not None:
            event["tenant"] = self._tenant
        event["data"] = msgspec.Raw(line)
        return _encode(event)

    def _completed(self, event: dict[str, Any], line: bytes) -> bytes:
        line = _SET_BY_GATEWAY.sub(b"{", line, count=1)
        added = {}
        if "id" not in event:
            added["id"] = event_id(event, None)
        if self._tenant is not None and "tenant" not in event:
            added["tenant"] = self._tenant
        if not added or not event:
            return line
        return _encode(added)[:-1] + b"," + line[1:]
