"""The content of an event: what tells a repeat from another event with the same id."""

from __future__ import annotations

from itertools import repeat

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.content import canonical, canonical_of
from gateway.ingest.decode import decode_event
from gateway.log.identity import KeyedValues, near, other_id

LEAST = '{"id":"e1","category":"auth","action":"user.login"'


def content(text: str, *, mapped: bool = False) -> bytes:
    return decode_event(text.encode(), repeat("made"), mapped=mapped).content


@pytest.mark.parametrize(
    "again",
    [
        '{"action":"user.login","category":"auth","id":"e1","data":{"a":1,"b":[1.50,"x"]}}',
        '{ "id" : "e1",\n"category":"auth","action":"user.login","data":{"b":[1.50,"x"],"a":1}}',
        '{"id":"e1","category":"auth","action":"user.login","data":{"a":1,"b":[1.50,"\\u0078"]}}',
    ],
)
def test_order_white_space_and_escapes_make_no_other_content(again: str) -> None:
    assert content(again) == content(LEAST + ',"data":{"a":1,"b":[1.50,"x"]}}')


@pytest.mark.parametrize(
    "other",
    [
        LEAST + ',"data":{"a":1.0}}',
        LEAST + ',"data":{"a":"1"}}',
        LEAST + ',"data":{"a":[1]}}',
        LEAST + ',"data":{"a":1},"severity":1}',
        LEAST + ',"data":{"a":1},"tenant":"default"}',
        LEAST + ',"data":{"a":10e-1}}',
    ],
)
def test_spelling_of_numbers_and_members_that_are_defaults_are_content(other: str) -> None:
    assert content(other) != content(LEAST + ',"data":{"a":1}}')
    assert content(other) == content(other)


def test_what_the_gateway_adds_is_no_content() -> None:
    bare = b'{"category":"auth","action":"user.login"}'
    one, two = decode_event(bare, iter(["a"])), decode_event(bare, iter(["b"]))
    assert (one.id, two.id, one.content) == ("a", "b", two.content)


def test_the_content_of_a_mapped_event_is_its_record_alone() -> None:
    record = ',"data":{"eventID":"7","size":1.0}}'
    before = content(LEAST + ',"severity":2' + record, mapped=True)
    assert content(LEAST + ',"severity":5,"outcome":"denied"' + record, mapped=True) == before
    assert content(LEAST + ',"data":{"size":1.0,"eventID":"7"}}', mapped=True) == before
    assert content(LEAST + ',"data":{"size":1,"eventID":"7"}}', mapped=True) != before
    # What is sent as an event of its own is another.
    assert content(LEAST + record) != before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner,
                                                                max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_the_quick_and_the_exact_way_to_the_canonical_form_agree(value: object) -> None:
    try:
        item = orjson.dumps(value)
    except orjson.JSONEncodeError:
        return  # Half of a surrogate pair.
    assert canonical(item) == canonical_of(orjson.loads(item))


def test_keyed_values_differ_by_secret_tenant_id_and_content() -> None:
    one, two = KeyedValues(b"1" * 32), KeyedValues(b"2" * 32)
    keys = {
        values.key(tenant, name)
        for values in (one, two)
        for tenant in ("a", "b")
        for name in ("x", "y", "ax")
    }
    assert len(keys) == 12
    assert {len(key) for key in keys} == {16}
    low, high = one.range_of_id("x")
    assert low <= one.key("a", "x") <= high
    assert low <= one.key("b", "x") <= high
    assert not low <= one.key("a", "y") <= high
    assert one.content(b"") is None
    assert one.content(b"c") != two.content(b"c")


def test_an_id_made_of_two_fits_and_follows_from_id_and_content() -> None:
    value = bytes(range(16))
    assert other_id("x", value) == "x~AAAQEAYEAUDAOCAJ"
    assert len(other_id("x" * 128, value)) == 117
    assert other_id("x" * 100, value) == "x" * 100 + "~AAAQEAYEAUDAOCAJ"
    # What is cut off tells them apart.
    assert len({other_id("x" * 100 + end, value) for end in ("", "x", "y", "xy")}) == 4
    assert other_id("x", bytes(16)) != other_id("x", value)


def test_ids_made_one_after_the_other_are_near_each_other() -> None:
    first, second = (near(f"018bcfe5-680{n}-7abc-8def-0123456789ab") for n in (0, 1))
    assert second - first == 1
    assert near("orders:1234") + 1 == near("orders:1235")
    assert near("no number") == 0
    assert near("9" * 128) < 2**63
