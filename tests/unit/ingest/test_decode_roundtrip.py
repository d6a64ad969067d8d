"""Whatever a producer may send comes out as it went in: `data` byte by byte, the rest as values."""

from __future__ import annotations

import json
from itertools import repeat
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.event import Event
from gateway.ingest.decode import decode_event
from gateway.ingest.strict_json import Refused

Json = tuple[str, Any]
STAMP = b"2026-01-31T12:00:00.000000Z"


def escaped(text: str, choose: st.DataObject) -> str:
    """One of the many spellings of a JSON string."""
    out = []
    for char in text:
        short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "/": "\\/"}.get(char)
        must = char in '"\\' or char < " "
        style = choose.draw(st.sampled_from("ab" if must else "abc"))
        if style == "c":
            out.append(char)
        elif style == "b" and short:
            out.append(short)
        else:
            units = char.encode("utf-16-be").hex()
            out += [f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)]
    return '"' + "".join(out) + '"'


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**64 - 1).map(str),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,8})\.[0-9]{1,9}([eE][+-]?[0-9]{1,2})?\Z"),
    st.from_regex(r"\A-?(0|[1-9][0-9]{0,8})[eE][+-]?[0-9]{1,2}\Z"),
)
BLANKS = st.sampled_from(["", "", "", " ", "\t", "  "])
BREAKS = st.sampled_from(["", " ", "\n", "\r\n", "\n\t"])


@st.composite
def objects(draw: st.DrawFn, blanks: st.SearchStrategy[str], depth: int = 4) -> tuple[str, str]:
    """A JSON object as text with blanks between the tokens, and the same without."""

    def value(left: int) -> tuple[str, str]:
        kind = draw(st.sampled_from("nsclo" if left else "nsc"))
        if kind == "n":
            token = draw(NUMBERS)
        elif kind == "s":
            token = escaped(draw(TEXTS), draw(st.data()))
        elif kind == "c":
            token = draw(st.sampled_from(["true", "false", "null"]))
        else:
            return inside(left, kind == "o")
        return token, token

    def inside(left: int, is_object: bool) -> tuple[str, str]:
        spaced, bare = [], []
        for name in draw(st.lists(TEXTS, max_size=3, unique=True)):
            one, other = value(left - 1)
            gaps = [draw(blanks) for _ in range(4)]
            if is_object:
                token = escaped(name, draw(st.data()))
                one = token + gaps[2] + ":" + gaps[3] + one
                other = f"{token}:{other}"
            spaced.append(gaps[0] + one + gaps[1])
            bare.append(other)
        opening, closing = "{}" if is_object else "[]"
        empty = draw(blanks) if not spaced else ""
        return (
            opening + empty + ",".join(spaced) + closing,
            opening + ",".join(bare) + closing,
        )

    return inside(depth, True)


def short(most: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=most)


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=members)


PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
URNS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
DOTTED = st.from_regex(r"\A[a-z0-9_-]{1,5}(\.[a-z0-9_-]{1,5}){0,3}\Z")
events = st.fixed_dictionaries(
    {"category": DOTTED, "action": DOTTED | st.just("PutObject:x/y")},
    optional={
        "id": st.text(PRINTABLE, min_size=1, max_size=20),
        "tenant": st.text("abcz019._-", min_size=1, max_size=64),
        "outcome": st.sampled_from(["success", "failure", "denied", "unknown"]),
        "severity": st.integers(1, 6),
        "actor": some(type=short(9), id=short(9), name=short(256), key_id=short(9)),
        "source": some(
            service=short(9), ip=short(9), port=st.integers(0, 65535), user_agent=short(9)
        ),
        "targets": st.lists(some(urn=URNS, type=short(9), id=short(9), name=short(9)), max_size=3),
        "request": some(id=short(9), trace_id=short(9)),
        "reason": short(40),
    },
)


def stored(item: bytes) -> Event:
    """The event as it would stand in a log."""
    draft = decode_event(item, repeat("made-here"))
    body = b'{"cursor":"e-%020d",%b' % (1, draft.stored(STAMP))
    return Event(
        1, draft.tenant, draft.category, draft.action, draft.outcome, draft.severity,
        draft.actor, draft.resources, b"e-%020d" % 1, body,
    )  # fmt: skip


def with_data(members: dict[str, Any], data: str) -> bytes:
    return json.dumps(members)[:-1].encode() + b', "data": ' + data.encode() + b" }"


@given(events, objects(BLANKS))
def test_data_on_one_line_is_kept_byte_by_byte(
    members: dict[str, Any], data: tuple[str, str]
) -> None:
    event = stored(with_data(members, data[0]))
    assert event.json.endswith(b'"data":' + data[0].encode() + b"}")


@given(objects(BREAKS))
def test_data_over_several_lines_keeps_its_tokens(data: tuple[str, str]) -> None:
    spaced, bare = data
    event = stored(with_data({"category": "a", "action": "b"}, spaced))
    broken = "\n" in spaced or "\r" in spaced
    assert event.json.endswith(b'"data":' + (bare if broken else spaced).encode() + b"}")


@given(events, objects(BREAKS))
def test_the_stored_event_is_one_line_that_decodes_to_what_was_sent(
    members: dict[str, Any], data: tuple[str, str]
) -> None:
    item = with_data(members, data[0])
    event = stored(item)
    assert b"\n" not in event.json
    assert b"\r" not in event.json
    sent = json.loads(item)
    # The strictest and the most lenient reader agree.
    for read in (json.loads, orjson.loads):
        found = read(event.json)
        for name in ("cursor", "recorded_at", "time"):
            found.pop(name)
        defaults = {"id": "made-here", "tenant": "default", "outcome": "unknown", "severity": 1}
        if read is json.loads:
            assert found == {**defaults, **sent}
        else:
            assert found.keys() == {*defaults, *sent}


@given(events)
def test_the_columns_say_what_the_event_says(members: dict[str, Any]) -> None:
    event = stored(json.dumps(members).encode())
    decoded = event.members()
    assert event.tenant == decoded["tenant"]
    assert event.category == decoded["category"]
    assert event.action == decoded["action"]
    assert event.outcome == decoded["outcome"]
    assert event.severity == decoded["severity"]
    assert event.actor == members.get("actor", {}).get("id", "")
    urns = [target["urn"] for target in members.get("targets", []) if "urn" in target]
    assert event.resources == "\n".join(urns)
    assert event.cursor.decode() == decoded["cursor"]


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_an_event_or_refused(item: bytes) -> None:
    try:
        event = stored(item)
    except Refused as refused:
        orjson.dumps([refused.path, refused.reason])
    else:
        assert event.members()["category"] == json.loads(item)["category"]
