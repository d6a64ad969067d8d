"""Records, as they were read, as the lines of NDJSON that the gateway takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from gateway.event import DEFAULT_TENANT
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.identity import digest
from gateway.ingest.marked import fitting
from gateway.ingest.sources.source import (
    TRUNCATED,
    Mapped,
    NotMapped,
    Owner,
    RecordSource,
    decoded_for_ids,
    decoded_shallowly,
)
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

    `marks` say what is unusual about it, such as `truncated`."""

    line: bytes
    raw: bytes
    marks: tuple[str, ...] = ()


# Lines of the records in what was read. Raises nothing for a record.
MakeLines = Callable[[bytes], Iterator[Line | NotMapped]]


def lines_of(source: RecordSource, tenant: str | None) -> MakeLines:
    """Lines of the records of a source. `tenant` is that of events that name none.

    The bytes of a record go into its event unchanged: numbers keep their digits.
    """

    def made(raw: bytes) -> Iterator[Line | NotMapped]:
        for found in source.map(raw, Owner(tenant or DEFAULT_TENANT)):
            if isinstance(found, Mapped):
                yield Line(b"{" + found.draft.tail, found.raw, found.marks)
            else:
                yield found

    return made


def native_lines(tenant: str | None) -> MakeLines:
    """Lines of events in the gateway's own form; `tenant` is that of events that name none, None
    leaves it to the gateway."""

    def made(raw: bytes) -> Iterator[Line | NotMapped]:
        try:
            line, is_cut = fitting(_completed(one_line(raw), tenant))
        except Refused as refused:
            yield NotMapped(raw, refused.path, refused.reason)
        else:
            yield Line(line, raw, (TRUNCATED,) if is_cut else ())

    return made


def native_event(raw: bytes, owner: Owner) -> Mapped | NotMapped:
    """What becomes of an event in the gateway's own form."""
    [made] = native_lines(owner.tenant)(raw.strip())
    if isinstance(made, NotMapped):
        return made
    try:
        return Mapped(decode_event(made.line, _NO_IDS), raw, made.marks)
    except Refused as refused:
        return NotMapped(raw, refused.path, refused.reason)


def _completed(line: bytes, tenant: str | None) -> bytes:
    try:
        event = decoded_shallowly(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused("", f"not valid JSON: {error}") from None
    line = _SET_BY_GATEWAY.sub(b"{", line, count=1)
    added: dict[str, Any] = {}
    if "id" not in event:
        try:
            added["id"] = f"sha256-{digest(event)}"
        except RecursionError:
            added["id"] = f"sha256-{digest(decoded_for_ids(line))}"
    if tenant is not None and "tenant" not in event:
        added["tenant"] = tenant
    if not added or not event:
        return line
    return _encode(added)[:-1] + b"," + line[1:]
