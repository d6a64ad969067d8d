"""Envelopes: what services and shippers put around the records of a source. Pure.

One table for all sources. An envelope is opened until what is inside is a record of the source, at
most three deep; text inside is read as JSON, also from base64 and gzip. An envelope is never an
event, and what is empty holds none. Records keep their bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from gateway.ingest.mapping.path import Each, InvalidPath, Item, Member, Step, parse_path
from gateway.ingest.marked import members_of
from gateway.ingest.split import is_whole, items_of, text_inside
from gateway.ingest.strict_json import Refused

DEEPEST = 3
# Most bytes that the texts in one envelope may have after decompression: so many times as many as
# the envelope, as logs are packed twenty times smaller and bombs a thousand times, within bounds.
_MOST_TIMES = 64
_FEW_BYTES, _MOST_BYTES = 4 * 1024 * 1024, 64 * 1024 * 1024
_RAW = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_ENCODE = msgspec.json.Encoder().encode
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_GZIP = b"\x1f\x8b"
_TRANSFORMS = ("json", "base64", "gzip")


class Envelope(NamedTuple):
    """Where records stand in an envelope, at `path`. `title` names it in refusals.

    `transforms`: how text is read; () tries all. `hands_down`: members that a list has for all its
    items, each with an end that it loses on the way.
    """

    path: str
    steps: tuple[Step, ...]
    title: str
    transforms: tuple[str, ...] = ()
    hands_down: tuple[tuple[str, str], ...] = ()


def parse_envelope(text: str, title: str = "") -> Envelope:
    """Envelope of a text such as `entries[].message|base64|json`. Raises `InvalidPath`."""
    path, *transforms = (part.strip() for part in text.split("|"))
    for transform in transforms:
        if transform not in _TRANSFORMS:
            raise InvalidPath(f"{text!r}: {transform!r} is none of {', '.join(_TRANSFORMS)}")
    parsed = parse_path(path)
    if parsed.in_item or not all(isinstance(step, Member | Item | Each) for step in parsed.steps):
        raise InvalidPath(f"{text!r}: an envelope has names, [0] and [] only")
    return Envelope(path, parsed.steps, title or f"an envelope with {path!r}", tuple(transforms))


# The order counts: an envelope goes before one that begins as it does and leads deeper, so that as
# much as possible of a record is kept.
SHARED: tuple[Envelope, ...] = (
    parse_envelope("Records[]", "a list of records"),
    parse_envelope("Records[].body", "an SQS batch"),
    parse_envelope("Records[].kinesis.data", "a Kinesis batch"),
    parse_envelope("Records[].Sns.Message", "an SNS batch"),
    parse_envelope("records[]", "a list of records"),
    parse_envelope("records[].properties", "an Event Hub batch"),
    parse_envelope("items[]", "a list of items")._replace(
        hands_down=(("kind", "List"), ("apiVersion", ""))
    ),
    parse_envelope("events[]", "a list of events"),
    parse_envelope("Events[].CloudTrailEvent", "an answer of lookup-events"),
    parse_envelope("value[]", "a list of values"),
    parse_envelope("logEvents[].message", "a CloudWatch Logs batch"),
    parse_envelope("awslogs.data", "a CloudWatch Logs subscription"),
    parse_envelope("detail", "an EventBridge event"),
    parse_envelope("Message", "an SNS notification"),
    parse_envelope("properties.log", "a record of a diagnostic setting"),
    parse_envelope("result._raw", "a Splunk export"),
    parse_envelope("event", "an event with a wrapper"),
    parse_envelope("protoPayload", "a LogEntry"),
    parse_envelope("message.data", "a Pub/Sub message"),
    parse_envelope("data", "an object with data"),
    parse_envelope("data.events[]", "an event hook"),
    parse_envelope("data_base64", "a CloudEvents event"),
)


# Makes JSON of a record that is text; None of all else.
ReadText = Callable[[bytes], bytes | None]


class Opened(NamedTuple):
    """What an envelope holds at its path, each as JSON."""

    envelope: Envelope
    inner: list[bytes]


class Opener:
    """Opens envelopes until what is inside is a record of what `title` names. `most` bounds the
    items of a list; `read` makes JSON of records that are text. With `strict` what is opened may be
    invalid JSON, as long as it is clear where values end, and an object that has a member twice is
    none."""

    def __init__(
        self,
        envelopes: Sequence[Envelope],
        is_record: Callable[[bytes], bool],
        most: int | None = None,
        read: ReadText = lambda text: None,
        *,
        strict: bool = False,
        title: str = "",
    ) -> None:
        self._title = title
        self._envelopes = envelopes
        self._is_record = is_record
        self._most = most
        self._text = read
        self._members = _members_once if strict else _members
        self._room: int | None = None
        self._is_bomb = False
        self._unpacked: dict[bytes, bytes] = {}

    def records(self, raw: bytes, depth: int = 0) -> Iterator[bytes] | None:
        """Records inside `raw`, which is not one itself; None if it is no envelope.

        Items between them that are none come as well, to be refused by name. Raises `Refused` for
        an envelope around something else, and `PayloadTooLarge`.
        """
        if self._room is None:
            self._room = min(max(_FEW_BYTES, _MOST_TIMES * len(raw)), _MOST_BYTES)
        title = ""
        for opened in self._open(raw):
            if not opened.inner or self._holds_one(opened.inner, depth):
                return self._each(opened.inner, depth)
            title = title or opened.envelope.title
        if title and self._is_bomb:
            raise Refused("", f"{title} whose text is too large when it is unpacked")
        if title:
            raise Refused("", f"{title} around something that is no record of {self._title}")
        return None

    def _holds_one(self, inner: list[bytes], depth: int) -> bool:
        for value in inner:
            if self._is_record(value):
                return True
            if depth + 1 < DEEPEST and any(
                self._holds_one(opened.inner, depth + 1) for opened in self._open(value)
            ):
                return True
        return False

    def _each(self, inner: list[bytes], depth: int) -> Iterator[bytes]:
        for value in inner:
            if depth + 1 < DEEPEST and not self._is_record(value):
                try:
                    found = self.records(value, depth + 1)
                except Refused:
                    found = None
                if found is not None:
                    yield from found
                    continue
            yield value

    def _open(self, raw: bytes) -> Iterator[Opened]:
        """All readings of an object as an envelope, in the order of the table."""
        members = self._members(raw)
        for envelope in self._envelopes:
            first = envelope.steps[0]
            assert isinstance(first, Member)
            if first.name not in members:
                continue
            inner = [members[first.name]]
            for step in envelope.steps[1:]:
                inner = self._stepped(inner, step)
            if inner or self._is_empty(members[first.name], envelope):
                yield Opened(envelope, [*self._read(inner, envelope, members)])

    def _stepped(self, values: list[bytes], step: Step) -> list[bytes]:
        """Values one step further in. An item that lacks a member which others have stays as it is,
        to be refused by name."""
        found = [[*self._step(value, step)] for value in values]
        if isinstance(step, Member) and any(found):
            found = [inner or [outer] for outer, inner in zip(values, found, strict=True)]
        return [value for inner in found for value in inner]

    def _is_empty(self, value: bytes, envelope: Envelope) -> bool:
        """Whether the list of records has none; what holds a single one is never empty."""
        for step in envelope.steps[1:]:
            if isinstance(step, Each):
                return value == b"null" or (value[:1] == b"[" and not value[1:-1].strip())
            found = [*self._step(value, step)]
            if not found:
                return False
            value = found[0]
        return False

    def _step(self, value: bytes, step: Step) -> Iterator[bytes]:
        if isinstance(step, Member):
            inner = self._members(value).get(step.name)
            if inner is not None:
                yield inner
            return
        items = items_of(value, self._most) or []
        if isinstance(step, Each):
            yield from items
        elif isinstance(step, Item) and -len(items) <= step.place < len(items):
            yield items[step.place]

    def _read(
        self, found: list[bytes], envelope: Envelope, members: dict[str, bytes]
    ) -> Iterator[bytes]:
        added = [(name, members[name], end) for name, end in envelope.hands_down if name in members]
        for value in found:
            if (text := _text_of(value)) is not None:
                value = self._of_text(text, envelope.transforms)
            for name, given, end in reversed(added):
                value = _with_member(value, name, given, end)
            yield value

    def _of_text(self, text: str, transforms: tuple[str, ...]) -> bytes:
        """JSON in a text; the text itself, as JSON, if there is none."""
        value = text.encode(errors="replace")
        if transforms:
            for transform in transforms:
                if transform == "base64":
                    value = _decoded(text) or value
                elif transform == "gzip":
                    value = self._decompressed(value)
            return self._text(value.strip()) or value
        inside = self._text(value.strip()) or text_inside(value)
        if inside is None and _BASE64.fullmatch(text):
            decoded = _decoded(text)
            if decoded is not None:
                plain = self._decompressed(decoded).strip()
                inside = self._text(plain) or text_inside(plain)
        return msgspec.json.encode(text) if inside is None else inside

    def _decompressed(self, value: bytes) -> bytes:
        if not value.startswith(_GZIP):
            return value
        known = self._unpacked.get(value)
        if known is None:
            known = self._unpacked[value] = self._inflated(value)
        return known

    def _inflated(self, value: bytes) -> bytes:
        """The unpacked bytes; the packed ones if they are damaged or there is no room."""
        assert self._room is not None
        inflating = zlib.decompressobj(wbits=31)
        try:
            plain = inflating.decompress(value, self._room + 1)
        except zlib.error:
            return value
        self._room = max(self._room - len(plain), 0)
        if not inflating.eof:
            self._is_bomb = self._is_bomb or not self._room
            return value
        return plain.strip()


def holder_of(raw: bytes, is_record: Callable[[bytes], bool]) -> str:
    """Path of a member that holds records, though no envelope has it: what may be meant; or ""."""
    for name, value in _members(raw).items():
        if not _NAME.fullmatch(name):
            continue
        if value[:1] == b"{" and is_record(value):
            return name
        if value[:1] == b"[" and (items := items_of(value)) and is_record(items[0]):
            return f"{name}[]"
    return ""


def _members(raw: bytes) -> dict[str, bytes]:
    """Members of an object, also where one is nested deeper than decoders go; none of all else, nor
    of an object that has a member twice."""
    try:
        found = _RAW.decode(raw)
        again = _ENCODE(found)
        if again == raw or _compact(again) == _compact(raw):
            return {name: bytes(value) for name, value in found.items()}
    except RecursionError:
        pass
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    return _members_once(raw)


def _compact(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1)


def _members_once(raw: bytes) -> dict[str, bytes]:
    """Members of an object that need not be valid; none of one that has a member twice."""
    if raw[:1] != b"{" or not is_whole(raw):
        return {}
    found = [(name, value) for name, value, _ in members_of(raw)]
    members = dict(found)
    return members if len(members) == len(found) else {}


def _text_of(value: bytes) -> str | None:
    """The text of a JSON string; None of all else, and of one that is no UTF-8 or half a
    surrogate."""
    if value[:1] != b'"':
        return None
    try:
        return _STRING.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _with_member(value: bytes, name: str, given: bytes, end: str) -> bytes:
    """An object with a member of its list, unless it has one of its own."""
    text = _text_of(given)
    if value[:1] != b"{" or text is None or name in _members(value):
        return value
    rest = value.lstrip()[1:].lstrip()
    between = b"" if rest[:1] == b"}" else b","
    handed = msgspec.json.encode({name: text.removesuffix(end)})[:-1]
    return handed + between + rest


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(
            text + "=" * (-len(text) % 4), b"-_" if set("-_") & set(text) else None
        )
    except (binascii.Error, ValueError):
        return None
