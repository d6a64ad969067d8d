"""Which source maps a log record: the one that it names, else the source `otlp`.

The record is that source's as a whole, or else its body is, as the body of a request would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson

from gateway.http.request.decoding import SLICE_BYTES
from gateway.ingest.content import canonical_of
from gateway.ingest.mapping.code import Options
from gateway.ingest.mapping.definition import SourceDefinition
from gateway.ingest.otlp.log_records import LogEncoding, SentRecord, joined
from gateway.ingest.sources.catalog import Sources, map_apart, source_apart
from gateway.ingest.sources.declared_owner import declared_owner
from gateway.ingest.sources.lines import NATIVE, native_event
from gateway.ingest.sources.source import ANYBODY, Mapped, NotMapped, Owner, RecordSource
from gateway.ingest.strict_json import Refused
from gateway.scheduling.loop_work import Slices

_SOURCE, _TENANT, _OTLP, _CLOUDEVENTS = "audit.source", "audit.tenant", "otlp", "cloudevents"
_CLOUDEVENT = '{"specversion"'
_OBSERVED = "observedTimeUnixNano"
_IDS = ("audit.id", "event_id", "log.record.uid")
Found = Sequence[Mapped | NotMapped]


class LogMapping:
    """Mapping of the records of one request. `named` is the source that it names for all, `usual`
    the owner of records of named sources, which say themselves whose they are."""

    def __init__(
        self,
        sources: Sources,
        owner: Owner,
        most: int,
        named: str | None = None,
        usual: Owner = ANYBODY,
    ) -> None:
        otlp = sources.named(_OTLP)
        assert otlp is not None
        self._otlp = otlp
        self._sources = sources
        self._owner = owner
        self._most = most
        self._named = named
        self._usual = usual

    async def map(self, sent: SentRecord, encoding: LogEncoding, slices: Slices) -> Found:
        """What becomes of a record. Raises `Refused` if it is none."""
        if sent.origin.refused is not None:
            raise sent.origin.refused
        large = len(sent.raw) > SLICE_BYTES
        decode = partial(encoding.record, sent.raw)
        record = joined(await slices.in_process(decode) if large else decode(), sent.origin)
        try:
            raw = orjson.dumps(record)
        except (TypeError, RecursionError) as error:
            raise Refused("", f"it cannot be written as JSON: {error}") from None
        if self._name_of(record) == NATIVE:
            native = partial(native_event, _body(record), self._usual_of(record))
            return (_told(await slices.in_process(native) if large else native(), record),)
        source, may_be_other = self._source_of(record)
        if source is not None:
            text = raw if source.takes(record) else _body(record)
            found = await self._by(source, text, self._usual_of(record), large, slices)
            if not may_be_other or any(map(_is_taken, found)):
                return [_told(one, record) for one in found]
        otlp = self._otlp
        if large:
            work = partial(_made_apart, otlp.definition, otlp.options, raw, self._owner)
            return (await slices.in_process(work),)
        return (_made(otlp, record, raw, self._owner),)

    def _name_of(self, record: dict[str, Any]) -> Any:
        """Name of the source that the request or the record says."""
        if self._named is not None:
            return self._named
        return record["attributes"].get(_SOURCE, record["resource"].get(_SOURCE))

    def _source_of(self, record: dict[str, Any]) -> tuple[RecordSource | None, bool]:
        """Source that a record names, if any, and whether the record may be of another one."""
        name, body = self._name_of(record), record.get("body")
        if type(name) is str and (source := self._sources.known_as(name)) is not None:
            return source, False
        if type(body) is str and body.startswith(_CLOUDEVENT):
            return self._sources.named(_CLOUDEVENTS), True
        scope = record["scope"].get("name")
        return (self._sources.named(scope) if scope and scope != _OTLP else None), True

    def _usual_of(self, record: dict[str, Any]) -> Owner:
        """Owner of a record of a named source that names no tenant. Raises `Refused`."""
        if self._owner.fixed:
            return self._usual
        name = record["attributes"].get(_TENANT, record["resource"].get(_TENANT))
        return declared_owner(self._usual, name)

    async def _by(
        self, source: RecordSource, text: bytes, usual: Owner, large: bool, slices: Slices
    ) -> Found:
        if large:
            work = partial(map_apart, source.definition, source.options, text, usual, self._most)
            return await slices.in_process(work)
        return list(source.map(text, usual, self._most))


def _made_apart(
    definition: SourceDefinition, options: Options, raw: bytes, owner: Owner
) -> Mapped | NotMapped:
    """Event of a record, for another process."""
    return _made(source_apart(definition, options), orjson.loads(raw), raw, owner)


def _made(
    source: RecordSource, record: dict[str, Any], raw: bytes, owner: Owner
) -> Mapped | NotMapped:
    """Event of a record; what is kept of a refused one is what tells it from others."""
    identity = _identity(record)
    made = source.made(record, raw, identity, owner)
    if isinstance(made, Mapped):
        return Mapped(made.draft, identity, made.marks)
    return NotMapped(identity, made.path, made.reason, made.skipped)


def _is_taken(one: Mapped | NotMapped) -> bool:
    return isinstance(one, Mapped) or one.skipped


def _told(one: Mapped | NotMapped, record: dict[str, Any]) -> Mapped | NotMapped:
    """A refusal with the whole record, which is what is kept of it; the same when a Collector reads
    it again."""
    if isinstance(one, Mapped):
        return one
    whole = {name: value for name, value in record.items() if name != _OBSERVED}
    return NotMapped(canonical_of(whole), one.path, one.reason, one.skipped)


def _body(record: dict[str, Any]) -> bytes:
    body = record.get("body")
    return body.encode() if type(body) is str else orjson.dumps(body)


def _identity(record: dict[str, Any]) -> bytes:
    """Canonical form of what tells a record from others: when it was collected only if nothing else
    tells when it was, or which it is, as it is collected anew when a file is read again."""
    attributes = record["attributes"]
    if _OBSERVED in record and (
        "timeUnixNano" in record or any(name in attributes for name in _IDS)
    ):
        record = record.copy()
        del record[_OBSERVED]
    return canonical_of(record)
