"""Items of protocols as drafts: by the source that their sender names, as events of the gateway's
own form, or by the sources of the protocol. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from gateway.cursor import JSON_PREFIX
from gateway.event import MAX_EVENT_BYTES, Draft
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.code import Options
from gateway.ingest.mapping.definition import SourceDefinition
from gateway.ingest.mapping.timestamps import rfc3339
from gateway.ingest.marked import decoded_shallowly, fitting
from gateway.ingest.protocols.ecs_form import may_be_ecs_form
from gateway.ingest.protocols.elasticsearch_bulk import BulkItem
from gateway.ingest.protocols.own_documents import draft_of_ecs_form, is_native, native_of_ecs
from gateway.ingest.protocols.splunk_hec import HecEvent
from gateway.ingest.sources.catalog import source_apart
from gateway.ingest.sources.declared_owner import declared_owner
from gateway.ingest.sources.lines import completed
from gateway.ingest.sources.own_events import draft_of_own, is_given_out
from gateway.ingest.sources.source import (
    TRUNCATED,
    Mapped,
    NotMapped,
    Owner,
    RecordSource,
)
from gateway.ingest.split import one_line
from gateway.ingest.strict_json import Refused, plain_json

Made = list[Mapped | NotMapped]
_NO_IDS: Iterator[str] = iter(())
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TIME = msgspec.json.Decoder()
_TEXT = msgspec.json.Decoder(str)
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError)
_LONGEST_ID = 128
# What events of the gateway's own form begin with, or have, as a rule.
_GIVEN_OUT, _CATEGORY = JSON_PREFIX, b'"category":"'


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
    text = _text_of(event.event)
    own = _drafted(event.raw, _own_draft, text, chosen.owner, event.time)
    if own is not None:
        return own
    return list(chosen.own[-1].map(event.raw, chosen.owner, chosen.most))


def map_bulk(item: BulkItem, chosen: Chosen) -> Made:
    """Drafts of one document of Elasticsearch's bulk interface."""
    if item.error:
        return [NotMapped(item.raw, "", item.reason)]
    if chosen.named is not None:
        return list(chosen.named.map(item.raw, chosen.usual, chosen.most))
    raw = item.raw
    if may_be_ecs_form(raw):
        own = _drafted(raw, draft_of_ecs_form, raw)
        if own is not None:
            return own
    tenant, fixed, category, _ = chosen.owner
    owner = Owner(tenant, fixed, category, _fitting_id(item.id))
    # What is plain is decoded once for all that look at it.
    plain: dict[str, Any] | None = plain_json(raw)
    own = _drafted(raw, _own_draft, raw, owner, b"", plain)
    if own is not None:
        return own
    source = next((one for one in chosen.own[:-1] if _is_of(one, raw, plain)), chosen.own[-1])
    return list(source.map(raw, owner, chosen.most, plain))


def _is_of(source: RecordSource, raw: bytes, plain: dict[str, Any] | None) -> bool:
    return source.knows(raw) if plain is None else source.takes(plain)


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


# A draft, whether it was cut, and whether it has neither an id nor a time of its own, if it may.
_Draft = tuple[Draft, bool] | tuple[Draft, bool, bool]


def _drafted(whole: bytes, draft: Callable[..., _Draft | None], *about: Any) -> Made | None:
    """What `draft` makes of an item that is an event itself, or was made of one by a gateway; None
    if it makes nothing."""
    try:
        made = draft(*about)
    except Refused as refused:
        return [NotMapped(whole, refused.path, refused.reason)]
    if made is None:
        return None
    marks = (TRUNCATED,) if made[1] else ()
    return [Mapped(made[0], whole, marks, len(made) == 3 and made[2])]


def _own_draft(
    event: bytes, owner: Owner, time: bytes, plain: dict[str, Any] | None = None
) -> _Draft | None:
    """Draft of an event of the gateway's own form; None of all else.

    `time` is the JSON of that of what is around it, and `plain` what `plain_json` makes of it, if
    known."""
    if event[:1] != b"{" and event.lstrip()[:1] != b"{":
        return None
    if plain is None and (event.startswith(_GIVEN_OUT) or _CATEGORY in event):
        # What is likely to be one is decoded only once.
        plain = plain_json(event)
    members = plain
    if members is None:
        try:
            members = _RAW.decode(event)
        except (*_ERRORS, RecursionError):
            return None
    if "cursor" in members and is_given_out(_decoded(event) if plain is None else plain):
        return draft_of_own(event, plain)
    if (native := native_of_ecs(event, plain)) is not None:
        return draft_of_own(*native)
    if not is_native(members):
        return None
    told = "" if "time" in members else _time_of(time)
    line, added, anonymous = completed(one_line(event), members, owner.tenant, owner.event_id, told)
    if plain is not None and len(line) <= MAX_EVENT_BYTES:
        return decode_event(line, _NO_IDS, plain=added | plain), False, anonymous
    line, is_cut = fitting(line)
    return decode_event(line, _NO_IDS), is_cut, anonymous


def _time_of(time: bytes) -> str:
    """Time of what is around an event, as JSON; "" if it tells none."""
    try:
        return rfc3339(_TIME.decode(time)) if time else ""
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
