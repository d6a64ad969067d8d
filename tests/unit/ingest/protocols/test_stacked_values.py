"""Values that follow each other, and what is broken between them."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.protocols.stacked_values import BrokenValue, stacked_values
from tests.support.machine_time import Stopwatch

VALUES = st.lists(
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=5) | st.none()),
    max_size=6,
)


def found_in(body: bytes) -> list[bytes | BrokenValue]:
    """The values; what is said to be decoded is what they decode to."""
    found = []
    for value in stacked_values(body, msgspec.json.Decoder(dict).decode):
        if not isinstance(value, BrokenValue):
            value, decoded = value
            assert decoded is None or decoded == json.loads(value)
        found.append(value)
    return found


def test_a_text_may_hold_what_stands_between_values() -> None:
    values = [b'{"a":"}{"}', b'{"a":"}\\n{","b":{"c":1}}', b"1", b'"}{"', b'{"a":1}']
    assert found_in(b"".join(values)) == values


@given(VALUES, st.sampled_from(["", " ", "\n", "\r\n\t"]))
def test_values_are_told_apart_with_and_without_space_between_them(
    values: list[object], between: str
) -> None:
    body = between.join(map(json.dumps, values)).encode()
    assert [json.loads(value) for value in found_in(body)] == values  # type: ignore[arg-type]


def test_a_value_may_span_lines_and_be_deeper_than_decoders_go() -> None:
    deep = b'{"a":' * 5000 + b"1" + b"}" * 5000
    body = b'{\n "a": {\n "b": 1 }\n}' + deep + b'{"c":"}"}'
    assert found_in(body) == [b'{\n "a": {\n "b": 1 }\n}', deep, b'{"c":"}"}']


@pytest.mark.parametrize(
    "broken",
    [b'{"a":', b'{"a":"b', b'{"a":1}}', b"{'a':1}", b'{"a":\x00}', b'{"a":[{}', b"}", b"nothing"],
)
def test_a_broken_value_costs_its_own_lines_alone(broken: bytes) -> None:
    body = b'{"n":1}\n' + broken + b"\nmore of it\n" + b'{"n":2}{"n":3}\n{"n":4}'
    found = found_in(body)
    good = [value for value in found if not isinstance(value, BrokenValue)]
    assert [value for value in good if b"n" in value] == [b'{"n":%d}' % n for n in (1, 2, 3, 4)]
    assert len([one for one in found if isinstance(one, BrokenValue)]) == 1


@pytest.mark.parametrize(
    "piece",
    [b"{}", b"{} 1 ", b'{"a":"}{"}', b'{"a":[\n', b'{"a":1}x\n', b'{"a":"\n', b"[", b"1 "],
    ids=repr,
)
def test_twice_as_much_takes_twice_as_long(piece: bytes) -> None:
    def seconds(size: int) -> float:
        body = piece * (size // len(piece))
        watch = Stopwatch()
        for _ in stacked_values(body, msgspec.json.decode):
            pass
        return watch.seconds

    least = min(seconds(100_000) for _ in range(3))
    assert min(seconds(400_000) for _ in range(3)) < 12 * least + 0.05
