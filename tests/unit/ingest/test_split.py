"""Bodies are split a bounded piece at a time, and counted before anything is made of them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, InvalidEvents, InvalidRequest, PayloadTooLarge
from gateway.ingest import split
from gateway.ingest.split import pieces_of, split_body

MOST = 10_000


def refusal(body: bytes, *, lines: bool = False) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        split_body(body, lines=lines, most=MOST)
    return caught.value


JSON = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a{}[],:"\\ \n', max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("k{},", max_size=3), inner),
    max_leaves=12,
)


@given(items=st.lists(JSON, min_size=1, max_size=12), gap=st.sampled_from(["", " ", "\n\t"]))
def test_any_array_gives_its_items_whatever_the_size_of_the_pieces(
    items: list[Any], gap: str
) -> None:
    texts = [json.dumps(item) for item in items]
    body = f"{gap}[{gap}{f'{gap},{gap}'.join(texts)}{gap}]{gap}".encode()
    before, split._PIECE_BYTES = split._PIECE_BYTES, 3
    try:
        found = split_body(body, lines=False, most=MOST)
    finally:
        split._PIECE_BYTES = before
    assert [msgspec.json.decode(item) for item in found] == items


@given(text=st.text(alphabet='[]{},"1 ', max_size=40))
def test_what_is_no_array_is_refused_whatever_the_size_of_the_pieces(text: str) -> None:
    body = b"[" + text.encode()
    before, split._PIECE_BYTES = split._PIECE_BYTES, 3
    try:
        found = split_body(body, lines=False, most=MOST)
    except InvalidRequest:
        found = []
    finally:
        split._PIECE_BYTES = before
    try:
        whole = json.loads(body)
    except ValueError:
        whole = []
    assert [json.loads(item) for item in found] == whole


def test_a_large_array_comes_in_pieces_and_each_is_small() -> None:
    item = b'{"category":"a","data":{"list":[{"b":"},{"},{"c":[1,2]}]}}'
    pieces = list(pieces_of(b"[" + b",".join([item] * MOST) + b"]", lines=False, most=MOST))
    assert sum(map(len, pieces)) == MOST
    assert all(found == item for piece in pieces for found in piece)
    assert max(sum(map(len, piece)) for piece in pieces) < 3 * split._PIECE_BYTES


MANY = {
    "numbers": b"[" + b"1," * 1_000_000 + b"1]",
    "with spaces": b"[ " + b"1 ,\n" * 1_000_000 + b"1]",
    "objects": b"[" + b"{}," * 1_000_000 + b"{}]",
    "nulls": b"[" + b"null," * 1_000_000 + b"null]",
}


@pytest.mark.parametrize("body", MANY.values(), ids=MANY)
def test_too_many_items_are_refused_before_they_are_made(body: bytes) -> None:
    tracemalloc.start()
    try:
        error = refusal(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, PayloadTooLarge)
    assert error.code == "too_many_events"
    assert peak < len(body) + (8 << 20)


@pytest.mark.parametrize("item", [b"[]", b'"a"', b"[1]"], ids=["arrays", "strings", "lists"])
def test_many_items_that_are_no_objects_are_refused_at_the_first(item: bytes) -> None:
    error = refusal(b"[" + b",".join([b"{}", *[item] * 100_000]) + b"]")
    assert isinstance(error, InvalidEvents)
    assert error.members["errors"] == [
        {"index": 1, "path": "", "reason": "an event is a JSON object"}
    ]


def test_one_giant_item_is_refused_without_being_decoded() -> None:
    error = refusal(b'[{"a":1},{"data":[' + b"1," * 2_000_000 + b"1]}]")
    assert error.code == "event_too_large"


def test_empty_lines_cost_no_items() -> None:
    assert refusal(b"\n" * (1 << 20), lines=True).detail.startswith("the body is empty")
    body = b"\n" * (1 << 18) + b'{"a":1}\r\n' + b" \n" * (1 << 17) + b'{"b":2}'
    assert split_body(body, lines=True, most=2) == [b'{"a":1}\r', b'{"b":2}']


def test_too_many_lines_are_refused() -> None:
    assert len(split_body(b"1\n" * MOST, lines=True, most=MOST)) == MOST
    assert refusal(b"1\n" * (MOST + 1), lines=True).code == "too_many_events"


def test_an_error_far_inside_is_told_at_its_byte() -> None:
    good = b",".join([b'{"a":1,"b":"some text"}'] * 9_000)
    body = b"[" + good + b',{"a":x}]'
    assert f"(byte {body.index(b':x') + 1})" in refusal(body).detail


def loosely(body: bytes, piece: int = 3) -> list[bytes]:
    before, split._PIECE_BYTES = split._PIECE_BYTES, piece
    try:
        pieces = pieces_of(body, lines=False, most=MOST, loosely=True)
        return [item for one in pieces for item in one]
    finally:
        split._PIECE_BYTES = before


@given(items=st.lists(JSON, min_size=1, max_size=12), gap=st.sampled_from(["", " ", "\n\t"]))
def test_a_good_array_gives_the_same_items_loosely(items: list[Any], gap: str) -> None:
    texts = [json.dumps(item) for item in items]
    body = f"{gap}[{gap}{f'{gap},{gap}'.join(texts)}{gap}]{gap}".encode()
    assert [msgspec.json.decode(item) for item in loosely(body)] == items


@pytest.mark.parametrize("piece", [3, 16, 32 * 1024])
@pytest.mark.parametrize(
    "bad",
    [b"NaN", b'{"x":-Infinity}', rb'{"x":"\ud800"}', rb'{"x":"\x41, \"}]"}', b'{"x":"a\tb\n,"}',
     b'{"x":01}', b'{"x":True}', b"{x:1}", b'{"x":[1,]}', b'{"x":1 2}', b"a b", b""],
)  # fmt: skip
def test_an_item_that_is_no_json_takes_no_other_with_it(bad: bytes, piece: int) -> None:
    good = [b'{"a":"},{"}', b'{"b":[1,"]"]}', b'{"c":"\\\\"}', b"{}"]
    body = b"[" + b" ,\n".join([*good[:2], bad, *good[2:]]) + b"]\n"
    assert loosely(body, piece) == [*good[:2], bad, *good[2:]]
    assert refusal(body).code == "malformed_json"


@pytest.mark.parametrize(
    "body",
    [b'[{"a":1},{"b":"x]', b'[{"a":1},{"b":[1}', b'[{"a":1}', b'[{"a":1},nan', b'[{"a":1}]]',
     b'[{"a":1}] x', b'[{"a":1}}]', b'[NaN,{"a":"\\', b"[NaN,{}] [1]"],
)  # fmt: skip
def test_an_array_without_an_end_is_refused_loosely_too(body: bytes) -> None:
    for piece in (3, 1024):
        with pytest.raises(InvalidRequest) as caught:
            loosely(body, piece)
        assert caught.value.code == "malformed_json"


def test_a_trailing_comma_is_no_item() -> None:
    assert loosely(b'[{"a":1},{"b":2},]') == [b'{"a":1}', b'{"b":2}']
    assert loosely(b'[{"a":NaN},]') == [b'{"a":NaN}']


def test_an_item_of_any_size_stands_for_itself_loosely() -> None:
    large = b'{"x":"' + b'\\"},{' * 500_000 + b'"}'
    assert len(large) > split._MOST_PIECE_BYTES
    assert loosely(b'[{"a":1},%b,{"b":2}]' % large, 32 * 1024) == [b'{"a":1}', large, b'{"b":2}']


def test_what_is_looked_through_loosely_comes_in_small_pieces() -> None:
    pieces = pieces_of(b"[NaN," + b'["a"],' * MOST + b"]", lines=False, most=2 * MOST, loosely=True)
    assert max(map(len, pieces)) < MOST
    with pytest.raises(PayloadTooLarge):
        list(pieces_of(b"[NaN," + b"1," * 1_000_000 + b"1]", lines=False, most=MOST, loosely=True))


FILLINGS = {"spaces": b" ", "backslashes": b"\\\\", "text": b"x", "digits": b"1"}


@pytest.mark.parametrize("filling", FILLINGS.values(), ids=FILLINGS)
@pytest.mark.parametrize("quoted", [True, False])
def test_others_have_their_turn_in_what_is_long_and_one(filling: bytes, quoted: bool) -> None:
    size = 3_000_000
    text = filling * (size // len(filling))
    body = b'[{"a":"' + text + b'"}]' if quoted else b"[" + text + b"]"
    turns = 0
    try:
        for _ in pieces_of(body, lines=False, most=10, loosely=True):
            turns += 1
    except InvalidRequest:
        pass
    assert turns >= size // (64 * 1024)


@pytest.mark.parametrize("long", [b" " * 700_000, b"x" * 700_000, b" " * 400_000 + b"y" * 400_000])
def test_long_lines_are_lines_as_short_ones_are(long: bytes) -> None:
    lines = [b'{"a":1}', long, b"", b'  {"b":2} \r', long, long + b"\r", b"\r", b'{"c":3}']
    for body in (b"\n".join(lines), b"\n".join(lines) + b"\n", long + b"\n" + lines[0]):
        wanted = [one.lstrip() for one in body.split(b"\n") if one.strip()]
        assert split_body(body, lines=True, most=100) == wanted
