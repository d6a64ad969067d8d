"""Decoding of the events of a request in slices, so that other work has its turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeVar

from gateway.access.policy.decision import View
from gateway.clock import Clock
from gateway.errors import GatewayError, InvalidEvents, PayloadTooLarge
from gateway.event import DEFAULT_TENANT, MAX_DEPTH, Draft
from gateway.filters.scope import RESERVED, is_reserved
from gateway.ingest.decode import decode_event, decode_events, refused_events
from gateway.ingest.ids import Occurrences, new_ids
from gateway.ingest.marked import Lenient, decode_leniently
from gateway.ingest.reading import Unreadable, read_text
from gateway.ingest.sources.catalog import map_apart
from gateway.ingest.sources.source import TRUNCATED, Mapped, NotMapped, Owner, RecordSource
from gateway.ingest.split import pieces_of, split_body, too_many
from gateway.ingest.strict_json import Refused
from gateway.scheduling.loop_work import LoopWork, Slices

T = TypeVar("T")

# Sized by the worst bytes, about a microsecond each.
SLICE_BYTES = 16 * 1024
SLICE_EVENTS = 250
# A record or an envelope from this size on is mapped in another process: hostile ones take a second
# for each megabyte.
LARGE_UNIT = 64 * 1024
# What is nested takes a microsecond or two for each of these, and others wait meanwhile.
MOST_CONTAINERS = 400_000


def usual_owner(view: View) -> Owner:
    """Owner of records that name no tenant."""
    return Owner(view.only_tenant() or DEFAULT_TENANT)


def bound_owner(view: View) -> Owner:
    """Owner of what is sent in protocols that have no tenants and categories: what the key is bound
    to; what it is not comes from the records."""
    tenant, category = view.only_tenant() or RESERVED, view.only_category() or RESERVED
    fixed = tenant != RESERVED
    return Owner(
        tenant if fixed else DEFAULT_TENANT, fixed, "" if is_reserved(category) else category
    )


class Unit(NamedTuple):
    """An item of a protocol, of so many bytes: what maps it here, and in another process."""

    size: int
    here: Callable[[], Iterable[Mapped | NotMapped]]
    apart: Callable[[], Iterable[Mapped | NotMapped]]


class Decoder:
    """Decoder of bodies. Events as large as a slice are decoded in another process."""

    def __init__(self, clock: Clock, work: LoopWork) -> None:
        self._now = clock.now
        self._ids = new_ids(clock.now)
        self._work = work

    async def decode(
        self,
        body: bytes,
        key_id: str,
        *,
        lines: bool,
        most: int,
        mapped: bool = False,
        first: int = 0,
    ) -> list[Draft]:
        """All events of a body of NDJSON `lines` or JSON, at most `most`.

        Raises `InvalidEvents` with every refusal; indices count from `first`.
        """
        if len(body) <= SLICE_BYTES:
            items = split_body(body, lines=lines, most=most)
            if len(items) <= SLICE_EVENTS:
                # One slice needs no turn.
                return _decode_events(items, self._now(), mapped=mapped, first=first)
        drafts: list[Draft] = []
        errors: list[dict[str, Any]] = []
        decode = partial(_decode_events, now=self._now(), mapped=mapped)
        slices = self._work.slices(key_id)
        async for index, part in _parts(body, slices, lines, most):
            try:
                drafts += await _decode(part, partial(decode, first=first + index), slices)
            except InvalidEvents as refused:
                errors += refused.members["errors"]
        if errors:
            raise refused_events(len(errors), errors)
        return drafts

    async def map_units(self, units: Iterable[Unit], key_id: str, *, most: int) -> Lenient:
        """Map items to drafts and refusals, which have the index of their item; at most `most`
        items, and as many records. Identical ones may get ids by `Occurrences`."""
        found, occurrences = Lenient(), Occurrences()
        slices = self._work.slices(key_id)
        slices.start()
        size = records = 0
        for index, unit in enumerate(units):
            if index == most or records > most:
                raise too_many(most)
            for one in await _mapped(unit, slices):
                add_mapped(found, index, one, occurrences)
                records += 1
            size += unit.size + SLICE_BYTES // SLICE_EVENTS
            if size >= SLICE_BYTES:
                size = 0
                await slices.rest()
        if records > most:
            raise too_many(most)
        return found

    def decode_one(self, body: bytes, *, lines: bool) -> Draft | None:
        """The only event of a small body; None if there are others, or it is refused."""
        try:
            [item] = split_body(body, lines=lines, most=1)
            return decode_event(item, self._ids)
        except (Refused, GatewayError):
            return None

    async def decode_leniently(
        self,
        body: bytes,
        key_id: str,
        *,
        lines: bool,
        most: int,
        mapped: bool = False,
        first: int = 0,
    ) -> Lenient:
        """Decode all items of a body to drafts, truncated drafts and refusals, with indices from
        `first`."""
        found = Lenient()
        decode = partial(_decode_leniently, now=self._now(), mapped=mapped)
        slices = self._work.slices(key_id)
        async for index, part in _parts(body, slices, lines, most, loosely=True):
            found.add(await _decode(part, partial(decode, first=first + index), slices))
        return found

    async def map_records(
        self, body: bytes, key_id: str, source: RecordSource, owner: Owner, *, most: int
    ) -> Lenient:
        """Map the records of a body, in any envelope, to drafts and refusals, at most `most`.

        Records that the source passes over have an index, and are neither. Identical ones
        may get ids by `Occurrences`.
        """
        check_nested(body)
        found, occurrences = Lenient(), Occurrences()
        slices = self._work.slices(key_id)
        slices.start()
        index = size = 0
        for unit in read_text(body, most, source.goes_on):
            if unit is None:
                await slices.rest()
                continue
            if isinstance(unit, Unreadable):
                made: Iterable[Mapped | NotMapped] = (NotMapped(unit.raw, "", unit.reason),)
            elif len(unit.raw) < LARGE_UNIT:
                made = source.map(unit.raw, owner, most)
            else:
                work = partial(map_apart, source.definition, source.options, unit.raw, owner, most)
                made = await slices.in_process(work)
            for one in made:
                if index == most:
                    raise too_many(most)
                add_mapped(found, index, one, occurrences)
                index += 1
                size += len(one.raw) + SLICE_BYTES // SLICE_EVENTS
                if size >= SLICE_BYTES:
                    size = 0
                    await slices.rest()
        return found


async def _mapped(unit: Unit, slices: Slices) -> Iterable[Mapped | NotMapped]:
    return unit.here() if unit.size < LARGE_UNIT else await slices.in_process(unit.apart)


def check_nested(body: bytes) -> None:
    """Raise `PayloadTooLarge` for a body with too many objects and lists."""
    if len(body) >= LARGE_UNIT and body.count(b"{") + body.count(b"[") > MOST_CONTAINERS:
        raise PayloadTooLarge(
            f"more than {MOST_CONTAINERS} objects and lists in one request; send it in parts"
        )


def add_mapped(
    found: Lenient, index: int, one: Mapped | NotMapped, occurrences: Occurrences | None = None
) -> None:
    """Add what a source made of a record; nothing for one that it passes over. Without
    `occurrences` all identical records are one event."""
    if isinstance(one, NotMapped):
        if not one.skipped:
            found.refused.append((index, one.raw, Refused(one.path, one.reason)))
        return
    draft = one.draft
    if occurrences is not None and one.anonymous:
        name = occurrences.id_of(draft.id)
        draft = draft if name == draft.id else draft.under(name)
    found.drafts.append((index, draft))
    found.items.append(one.raw)
    if TRUNCATED in one.marks:
        found.cut[index] = f"nested deeper than {MAX_DEPTH} levels, or too large"


async def _parts(
    body: bytes, slices: Slices, lines: bool, most: int, loosely: bool = False
) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Items in parts, each with the index of its first."""
    index = 0
    slices.start()
    for piece in pieces_of(body, lines=lines, most=most, loosely=loosely):
        for part in _slices(piece):
            yield index, part
            index += len(part)
            await slices.rest()
        await slices.rest()


async def _decode(part: list[bytes], decode: Callable[[list[bytes]], T], slices: Slices) -> T:
    work = partial(decode, part)
    if len(part) == 1 and len(part[0]) > SLICE_BYTES:
        # A large event holds the interpreter for milliseconds at a time.
        return await slices.in_process(work)
    return work()


def _decode_events(part: list[bytes], now: float, *, mapped: bool, first: int) -> list[Draft]:
    return decode_events(part, new_ids(lambda: now), mapped=mapped, first=first)


def _decode_leniently(part: list[bytes], now: float, *, first: int, mapped: bool) -> Lenient:
    return decode_leniently(part, new_ids(lambda: now), first=first, mapped=mapped)


def _slices(piece: list[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for item in piece:
        if part and (size + len(item) > SLICE_BYTES or len(part) == SLICE_EVENTS):
            yield part
            part, size = [], 0
        part.append(item)
        size += len(item)
    if part:
        yield part
