"""Records, as they were read, as the lines of NDJSON that the gateway takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from typing import Any, NamedTuple

import msgspec

from gateway.event import DEFAULT_TENANT
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.identity import digest
from gateway.ingest.marked import decoded_for_ids, decoded_shallowly, fitting
from gateway.ingest.sources.source import TRUNCATED, Mapped, NotMapped, Owner, RecordSource
from gateway.ingest.split import one_line
from gateway.ingest.strict_json import Refused

# Name of the source of events in the gateway's own form.
NATIVE = "native"
_NO_IDS: Iterator[str] = iter(())
_encode = msgspec.json.Encoder().encode
# Members that a gateway, from which this event was read, put at its beginning.
_SET_BY_GATEWAY = re.compile(rb'\A\{"cursor":"[^"]*","recorded_at":"[^"]*",')


class Line(NamedTuple):
    """An event as one line, without a line break, and the record that it was made of.

    `marks` say what is unusual about it, such as `truncated`; `anonymous` whether the record has
    neither an id nor a time of its own."""

    line: bytes
    raw: bytes
    marks: tuple[str, ...] = ()
    anonymous: bool = False


# Lines of the records in what was read. Raises nothing for a record.
MakeLines = Callable[[bytes], Iterator[Line | NotMapped]]


def lines_of(source: RecordSource, tenant: str | None) -> MakeLines:
    """Lines of the records of a source. `tenant` is that of events that name none.

    The bytes of a record go into its event unchanged: numbers keep their digits.
    """

    def made(raw: bytes) -> Iterator[Line | NotMapped]:
        for found in source.map(raw, Owner(tenant or DEFAULT_TENANT)):
            if isinstance(found, Mapped):
                yield Line(b"{" + found.draft.tail, *found[1:])
            else:
                yield found

    return made


def native_lines(tenant: str | None) -> MakeLines:
    """Lines of events in the gateway's own form; `tenant` is that of events that name none, None
    leaves it to the gateway."""

    def made(raw: bytes) -> Iterator[Line | NotMapped]:
        try:
            line = one_line(raw)
            line, _, anonymous = completed(line, _names_in(line), tenant)
            line, is_cut = fitting(line)
        except Refused as refused:
            yield NotMapped(raw, refused.path, refused.reason)
        else:
            yield Line(line, raw, (TRUNCATED,) if is_cut else (), anonymous)

    return made


def native_event(raw: bytes, owner: Owner) -> Mapped | NotMapped:
    """What becomes of an event in the gateway's own form."""
    [made] = native_lines(owner.tenant)(raw.strip())
    if isinstance(made, NotMapped):
        return made
    try:
        return Mapped(decode_event(made.line, _NO_IDS), raw, made.marks, made.anonymous)
    except Refused as refused:
        return NotMapped(raw, refused.path, refused.reason)


def completed(
    line: bytes, names: Container[str], tenant: str | None, event_id: str = "", time: str = ""
) -> tuple[bytes, dict[str, Any], bool]:
    """A native event with what it lacks of id, tenant and time; what that was, and whether it had
    neither an id nor a time.

    `line` is its JSON, `names` those of its members; `tenant`, `event_id` and `time` are told
    around it. The digest is of the event with that time, and of nothing else around it: an event
    has the same id in a file and in each protocol.
    """
    added: dict[str, Any] = {}
    if time and "time" not in names:
        added["time"] = time
    anonymous = not event_id and not time and "id" not in names and "time" not in names
    if "id" not in names:
        added["id"] = event_id or f"sha256-{_digest_of(line, added)}"
    if tenant is not None and "tenant" not in names:
        added["tenant"] = tenant
    line = _SET_BY_GATEWAY.sub(b"{", line, count=1)
    if not added or line == b"{}":
        return line, {}, False
    return _encode(added)[:-1] + b"," + line[1:], added, anonymous


def _names_in(line: bytes) -> Container[str]:
    try:
        names: Container[str] = decoded_shallowly(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused("", f"not valid JSON: {error}") from None
    return names


def _digest_of(line: bytes, added: dict[str, Any]) -> str:
    try:
        return digest({**decoded_shallowly(line), **added})
    except RecursionError:
        return digest({**decoded_for_ids(line), **added})
