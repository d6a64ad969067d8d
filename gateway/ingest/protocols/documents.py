"""Items of protocols as drafts: by the source that their sender names, as events of the gateway's
own form, or by the sources of the protocol. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from gateway.event import Draft
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.code import Options
from gateway.ingest.mapping.definition import SourceDefinition
from gateway.ingest.mapping.identity import digest
from gateway.ingest.mapping.timestamps import rfc3339
from gateway.ingest.marked import fitting
from gateway.ingest.protocols.elasticsearch_bulk import BulkItem
from gateway.ingest.protocols.own_documents import is_native, native_of_ecs
from gateway.ingest.protocols.splunk_hec import HecEvent
from gateway.ingest.sources.catalog import source_apart
from gateway.ingest.sources.declared_owner import declared_owner
from gateway.ingest.sources.own_events import draft_of_own, is_given_out
from gateway.ingest.sources.source import (
    TRUNCATED,
    Mapped,
    NotMapped,
    Owner,
    RecordSource,
    decoded_shallowly,
)
from gateway.ingest.split import one_line
from gateway.ingest.strict_json import Refused

Made = list[Mapped | NotMapped]
_NO_IDS: Iterator[str] = iter(())
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODE = msgspec.json.Encoder().encode
_TEXT = msgspec.json.Decoder(str)
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError)
_LONGEST_ID = 128


class Chosen(NamedTuple):
    """Sources for one item: the one that its sender names, whose records have `usual` owners; else
    the first of the protocol's `own` that knows the record, which is `owner`'s. The last of them
    takes all."""

    named: RecordSource | None
    own: tuple[RecordSource, ...]
    usual: Owner
    owner: Owner
    most: int

    def by(self, named: RecordSource | None) -> Chosen:
        """The same with a source that the sender of one item names."""
        return self._replace(named=named)

    def declared(self, tenant: Any) -> Chosen:
        """The same with a tenant that is declared around an item. Raises `Refused`."""
        return self._replace(
            usual=declared_owner(self.usual, tenant), owner=declared_owner(self.owner, tenant)
        )


def map_hec(event: HecEvent, chosen: Chosen) -> Made:
    """Drafts of one event of the HTTP Event Collector."""
    if event.code:
        return [NotMapped(event.raw, "", event.reason)]
    if event.tenant is not None and not chosen.owner.fixed:
        try:
            chosen = chosen.declared(event.tenant)
        except Refused as refused:
            return [NotMapped(event.raw, "fields.tenant", refused.reason)]
    if chosen.named is not None:
        return list(chosen.named.map(_text_of(event.event), chosen.usual, chosen.most))
    return _native_or(_text_of(event.event), chosen, event.raw)


def map_bulk(item: BulkItem, chosen: Chosen) -> Made:
    """Drafts of one document of Elasticsearch's bulk interface."""
    if item.error:
        return [NotMapped(item.raw, "", item.reason)]
    if chosen.named is not None:
        return list(chosen.named.map(item.raw, chosen.usual, chosen.most))
    owner = chosen.owner._replace(event_id=_fitting_id(item.id))
    return _native_or(item.raw, chosen._replace(owner=owner), item.raw)


def work_apart(
    map_item: Callable[[Any, Chosen], Made], item: HecEvent | BulkItem, chosen: Chosen
) -> Callable[[], Made]:
    """The mapping of an item as work for another process, which compiles the sources itself."""
    named = None if chosen.named is None else _parts(chosen.named)
    plain = chosen._replace(named=None, own=())
    return partial(_map_apart, map_item, item, plain, named, [*map(_parts, chosen.own)])


_Parts = tuple[SourceDefinition, Options]


def _parts(source: RecordSource) -> _Parts:
    return source.definition, source.options


def _map_apart(
    map_item: Callable[[Any, Chosen], Made],
    item: Any,
    chosen: Chosen,
    named: _Parts | None,
    own: list[_Parts],
) -> Made:
    return map_item(
        item,
        chosen._replace(
            named=None if named is None else source_apart(*named),
            own=tuple([source_apart(*parts) for parts in own]),
        ),
    )


def _native_or(event: bytes, chosen: Chosen, whole: bytes) -> Made:
    """Draft of what is an event itself, else of the `whole` by a source of the protocol."""
    try:
        draft = _native(event, chosen.owner, whole)
        if draft is not None:
            return [Mapped(draft[0], whole, (TRUNCATED,) if draft[1] else ())]
    except Refused as refused:
        return [NotMapped(whole, refused.path, refused.reason)]
    source = next((one for one in chosen.own[:-1] if one.knows(whole)), chosen.own[-1])
    return list(source.map(whole, chosen.owner, chosen.most))


def _native(event: bytes, owner: Owner, whole: bytes) -> tuple[Draft, bool] | None:
    """Draft of an event of the gateway's own form, and whether it was cut; None of all else."""
    try:
        members = _RAW.decode(event)
    except (*_ERRORS, RecursionError):
        return None
    if "cursor" in members and is_given_out(_decoded(event)):
        return draft_of_own(event)
    if (native := native_of_ecs(event)) is not None:
        return draft_of_own(native)
    if not is_native(members):
        return None
    added: dict[str, Any] = {}
    if "id" not in members:
        added["id"] = owner.event_id or f"sha256-{digest(decoded_shallowly(whole))}"
    if "tenant" not in members:
        added["tenant"] = owner.tenant
    if "time" not in members and (time := _time_around(whole)):
        added["time"] = time
    line = one_line(event)
    if added:
        line = _ENCODE(added)[:-1] + b"," + line[1:]
    line, is_cut = fitting(line)
    return decode_event(line, _NO_IDS), is_cut


class _Around(msgspec.Struct):
    time: Any = None


_around = msgspec.json.Decoder(_Around).decode


def _time_around(whole: bytes) -> str:
    """Time that an object around an event tells; "" if it tells none."""
    try:
        return rfc3339(_around(whole).time)
    except (*_ERRORS, RecursionError, ValueError, OverflowError, TypeError):
        return ""


def _text_of(event: bytes) -> bytes:
    """JSON of an event, or the text that it is."""
    return _TEXT.decode(event).encode(errors="replace") if event[:1] == b'"' else event


def _decoded(event: bytes) -> Any:
    try:
        return decoded_shallowly(event)
    except _ERRORS:
        return None


def _fitting_id(name: str) -> str:
    """A given id, as it is if events can have it."""
    if not name or (len(name) <= _LONGEST_ID and name.isascii() and name.isprintable()):
        return name
    return f"sha256-{hashlib.sha256(name.encode(errors='replace')).hexdigest()}"
