"""A source at work: records of one kind, in any envelope, become drafts. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from gateway.cursor import JSON_PREFIX
from gateway.event import DEFAULT_TENANT, MAX_DEPTH, MAX_EVENT_BYTES, Draft, Members
from gateway.ingest.content import record_digest
from gateway.ingest.decode import decode_event, draft_of
from gateway.ingest.mapping.code import Options
from gateway.ingest.mapping.compiler import Functions, compile_fill, compile_test
from gateway.ingest.mapping.definition import SourceDefinition
from gateway.ingest.mapping.identity import digest, placed
from gateway.ingest.mapping.value_table import Listener
from gateway.ingest.marked import (
    decoded_for_ids,
    decoded_shallowly,
    fitting,
    is_plain,
    with_mark,
)
from gateway.ingest.sources.envelopes import SHARED, Opener, holder_of, parse_envelope
from gateway.ingest.sources.own_events import draft_of_own, is_given_out
from gateway.ingest.sources.parts import parts_of
from gateway.ingest.sources.readers.record_reader import RECEIVED_AT, RecordReader
from gateway.ingest.split import behind_runtime, items_of, one_line, text_inside
from gateway.ingest.strict_json import Plain, Refused, TooMuch, checked_record

TIME_UNKNOWN, TRUNCATED = "time_unknown", "truncated"
_ENCODE = msgspec.json.Encoder().encode
_NO_IDS: Iterator[str] = iter(())
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OWN = JSON_PREFIX.decode()
_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError)
# Larger ones are mostly envelopes, which need not be decoded whole.
_LARGE = 4 * MAX_EVENT_BYTES


class Mapped(NamedTuple):
    """A record's event. `marks` say what is unusual: `truncated`, `time_unknown`; `anonymous`
    whether the record has neither an id nor a time of its own."""

    draft: Draft
    raw: bytes
    marks: tuple[str, ...] = ()
    anonymous: bool = False


class NotMapped(NamedTuple):
    """A record without an event: refused, or `skipped` by the rule of its source."""

    raw: bytes
    path: str
    reason: str
    skipped: bool = False


class Owner(NamedTuple):
    """Whose records are: those that name no tenant are `tenant`'s, or all of them (`fixed`).
    `category`: that of all events, "" for what their source says; `event_id` their id in the same
    way, where one record is sent with an id of its own."""

    tenant: str = DEFAULT_TENANT
    fixed: bool = False
    category: str = ""
    event_id: str = ""


ANYBODY = Owner()


class RecordSource:
    """A compiled definition. `unknown` hears of each value that a table does not know."""

    def __init__(
        self,
        definition: SourceDefinition,
        functions: Functions,
        options: Options,
        unknown: Listener = lambda member, value: None,
        reader: RecordReader | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.definition = definition
        self.options = options
        self.name = definition.name
        self._fill = compile_fill(definition, functions, options, unknown)
        self._is_record = compile_test(definition.when, definition.ignore_case)
        self._is_skipped = None
        if definition.skip:
            self._is_skipped = compile_test(definition.skip, definition.ignore_case)
        self._envelopes = (*map(parse_envelope, definition.envelopes), *SHARED)
        self._has_time = "time" in definition.members
        self._reader = reader
        self._now = None if reader is None else now
        # Whether a record goes on behind a line; None where records are JSON.
        self.goes_on = None if reader is None else reader.goes_on

    def map(
        self, raw: bytes, owner: Owner = ANYBODY, most: int | None = None, plain: Plain = None
    ) -> Iterator[Mapped | NotMapped]:
        """Drafts of the records in `raw`: one record, a list of them, or an envelope around them.

        Never raises for a record; `PayloadTooLarge` for a list of more than `most` items.
        """
        raw = raw.strip()
        try:
            if raw[:1] == b"{" and (is_plain(raw, _LARGE) or self.knows(raw)):
                try:
                    found = self._mapped(raw, owner, plain)
                except Refused as refused:
                    yield from self._behind(raw, owner, most, refused)
                    return
                if found is not None:
                    yield from self._in_parts(found, owner, most)
                    return
            yield from self._inside(raw, owner, most)
        except Refused as refused:
            yield NotMapped(raw, refused.path, refused.reason)

    def _behind(
        self, raw: bytes, owner: Owner, most: int | None, refused: Refused
    ) -> Iterator[Mapped | NotMapped]:
        """What a refused object holds if it is an envelope: it may be one of its records that is no
        strict JSON. Raises `refused` otherwise."""
        found = None
        if not self._may_be_one(raw):
            opener = Opener(self._envelopes, self._may_be_one, most, self._read, strict=True)
            try:
                found = opener.records(raw)
            except Refused:
                raise refused from None
        if found is None:
            raise refused
        for inner in found:
            yield from self._one(inner, owner, most)

    def draft(self, raw: bytes, owner: Owner = ANYBODY) -> Mapped:
        """Draft of one record without an envelope. Raises `Refused`."""
        found = self._mapped(raw.strip(), owner)
        if isinstance(found, Mapped):
            return found
        raise self._is_none() if found is None else Refused(found.path, found.reason)

    def takes(self, record: dict[str, Any]) -> bool:
        """Whether a decoded record is one of this source."""
        return bool(self._is_record(self._seen(record)))

    def made(
        self, record: dict[str, Any], raw: bytes, canonical: bytes, owner: Owner = ANYBODY
    ) -> Mapped | NotMapped:
        """What becomes of a decoded record of this source, whose strict JSON is `raw`.

        `canonical` is the form of what tells it from others.
        """
        try:
            content = record_digest(canonical)
            name = f"sha256-{content.hex()}"
            return self._event(record, self._seen(record), raw, owner, content, name)
        except Refused as refused:
            return NotMapped(raw, refused.path, refused.reason)

    def _inside(self, raw: bytes, owner: Owner, most: int | None) -> Iterator[Mapped | NotMapped]:
        if raw[:1] not in (b"{", b"[") and (made := self._read(raw)) is not None:
            yield from self._one(made, owner, most)
            return
        text = raw if raw[:1] in (b"{", b"[") else text_inside(raw)
        if text is None:
            raise (
                Refused("", "a record is a JSON object")
                if self._reader is None
                else self._is_none()
            )
        if text is not raw:
            yield from self.map(text, owner, most)
            return
        if raw[:1] == b"[":
            items = items_of(raw, most)
            if items is None:
                raise Refused("", "not valid JSON")
            for item in items:
                if item.lstrip()[:1] == b"[":
                    # Lists may be nested deeper than functions may call each other.
                    yield NotMapped(item, "", "a record is a JSON object")
                else:
                    yield from self.map(item, owner, most)
            return
        title = self.definition.title
        opener = Opener(self._envelopes, self.knows, most, self._read, title=title)
        try:
            found = opener.records(raw)
        except Refused:
            # What is no strict JSON is refused for that.
            self._mapped(raw, owner)
            raise
        if found is None:
            try:
                self._mapped(raw, owner)
            except Refused as refused:
                yield from self._behind(raw, owner, most, refused)
                return
            raise self._is_none(holder_of(raw, self.knows))
        for inner in found:
            yield from self._one(inner, owner, most)

    def _read(self, raw: bytes) -> bytes | None:
        """Record of a text, as JSON; None if this source has none of text, or it is none."""
        if self._reader is None:
            return None
        # What is not UTF-8 stays readable, and nothing of it is lost.
        text = behind_runtime(raw).decode(errors="backslashreplace")
        record = self._reader.record(text)
        return None if record is None else _ENCODE(record)

    def _one(self, raw: bytes, owner: Owner, most: int | None) -> Iterator[Mapped | NotMapped]:
        """What a record becomes; a refusal if it is none."""
        try:
            found = self._mapped(raw, owner)
            if found is None:
                raise self._is_none()
            yield from self._in_parts(found, owner, most)
        except Refused as refused:
            yield NotMapped(raw, refused.path, refused.reason)

    def _in_parts(
        self, whole: Mapped | NotMapped, owner: Owner, most: int | None
    ) -> Iterator[Mapped | NotMapped]:
        """One event for each item of the list of which a record reports several."""
        name = self.definition.parts
        parts = parts_of(whole.raw, name, most) if name and isinstance(whole, Mapped) else None
        if parts is None:
            yield whole
            return
        for place, raw in enumerate(parts):
            try:
                found = self._mapped(raw, owner)
                if found is None:
                    raise self._is_none()
            except Refused as refused:
                path = refused.path or f"{name}[{place}]"
                found = NotMapped(raw, path, refused.reason)
            if place and isinstance(found, Mapped):
                draft = found.draft.under(placed(found.draft.id, place))
                found = found._replace(draft=draft)
            yield found

    def _is_none(self, holder: str = "") -> Refused:
        needs = f": needs {self.definition.needs}" if self.definition.needs else ""
        hint = f'; `{holder}` holds such records: envelopes = ["{holder}"]' if holder else ""
        return Refused("", f"not a record of {self.definition.title}{needs}{hint}")

    def knows(self, raw: bytes) -> bool:
        """Whether these bytes are a record of this source, without an envelope."""
        try:
            record = decoded_shallowly(raw)
        except _ERRORS:
            return False
        return type(record) is dict and self._is_record(self._seen(record))

    def _may_be_one(self, raw: bytes) -> bool:
        """`knows`, also for what lenient parsers alone read."""
        if self.knows(raw):
            return True
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError):
            return False
        return type(record) is dict and self._is_record(self._seen(record))

    def _mapped(self, raw: bytes, owner: Owner, plain: Plain = None) -> Mapped | NotMapped | None:
        """Draft of a record; None if `raw` is none of this source. Raises `Refused`."""
        try:
            record, canonical = checked_record(raw, plain)
        except (TooMuch, RecursionError):
            return self._too_much(raw, owner)
        seen = self._seen(record)
        if not self._is_record(seen):
            return None
        return self._event(record, seen, raw, owner, record_digest(canonical))

    def _event(
        self,
        record: dict[str, Any],
        seen: dict[str, Any],
        raw: bytes,
        owner: Owner,
        content: bytes,
        name: str = "",
    ) -> Mapped | NotMapped:
        """Draft of a record; `name` is its id where it has none of its own."""
        if self._is_skipped is not None and self._is_skipped(seen):
            return NotMapped(raw, "", "skipped by the rule of this source", True)
        if (own := self._own(record, raw)) is not None:
            return own
        members, data, marks, anonymous = self._filled(record, seen, raw, owner, name)
        if marks and not name:
            content = record_digest(checked_record(data)[1])
        members.data = msgspec.Raw(data)
        draft, is_cut = draft_within_limits(members, content)
        return Mapped(draft, raw, (*marks, TRUNCATED) if is_cut else marks, anonymous)

    def _own(self, record: dict[str, Any], raw: bytes) -> Mapped | None:
        """The event of a gateway that the record is around, as it was; None if there is none."""
        name = self.definition.native
        value = record.get(name) if name else None
        if type(value) is str and value.startswith(_OWN):
            own = value.encode()
            value = _decoded(own)
        elif type(value) is dict and is_given_out(value):
            own = bytes(_RAW.decode(raw)[name])
        else:
            return None
        if not is_given_out(value):
            return None
        draft, is_cut = draft_of_own(own)
        return Mapped(draft, raw, (TRUNCATED,) if is_cut else ())

    def _seen(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record with the names that paths have."""
        if self._now is not None:
            record = record | {RECEIVED_AT: self._now()}
        if not self.definition.ignore_case:
            return record
        return {name.lower(): value for name, value in record.items()}

    def _filled(
        self,
        record: dict[str, Any],
        seen: dict[str, Any],
        raw: bytes,
        owner: Owner,
        name: str = "",
    ) -> tuple[Members, bytes, tuple[str, ...], bool]:
        members = self._fill(seen, owner.tenant)
        if owner.fixed:
            members.tenant = owner.tenant
        if owner.category:
            members.category = owner.category
        anonymous = False
        if owner.event_id:
            members.id = owner.event_id
        elif members.id is UNSET:
            anonymous = members.time is UNSET
            members.id = name or f"sha256-{digest(record)}"
        data = one_line(raw)
        if self._has_time and members.time is UNSET:
            data = with_mark(data, record, TIME_UNKNOWN)
            return members, data, (TIME_UNKNOWN,), anonymous
        return members, data, (), anonymous

    def _too_much(self, raw: bytes, owner: Owner) -> Mapped | NotMapped | None:
        """Draft of a record that is nested too deep, without what is."""
        try:
            record = decoded_for_ids(raw)
        except _ERRORS as error:
            raise Refused("", f"not valid JSON: {error}") from None
        if type(record) is not dict:
            return None
        seen = self._seen(record)
        if not self._is_record(seen):
            return None
        if (own := self._own(record, raw)) is not None:
            return own
        members, data, marks, anonymous = self._filled(record, seen, raw, owner)
        members.data = msgspec.Raw(data)
        draft, is_cut = draft_within_limits(members, b"")
        return Mapped(draft, raw, (*marks, TRUNCATED) if is_cut else marks, anonymous)


def draft_within_limits(members: Members, content: bytes) -> tuple[Draft, bool]:
    """Draft of members with `data`; what is too deep or too large is left out, which the second
    result tells. The content is then that of the rest."""
    draft = draft_of(members, content)
    tail = draft.tail
    # Most are far from both limits.
    if len(tail) < MAX_EVENT_BYTES and tail.count(b"{") + tail.count(b"[") < MAX_DEPTH:
        return draft, False
    line, is_cut = fitting(b"{" + tail)
    return (decode_event(line, _NO_IDS, mapped=True), True) if is_cut else (draft, False)


def _decoded(text: bytes) -> Any:
    """Decoded JSON; None if it is none."""
    try:
        return decoded_shallowly(text)
    except _ERRORS:
        return None
