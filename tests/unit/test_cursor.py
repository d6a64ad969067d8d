"""Cursors: one form, sortable, and nothing malformed gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cursor import (
    advance,
    distance,
    earlier,
    format_cursor,
    later,
    new_epoch,
    parse_cursor,
)
from gateway.errors import InvalidRequest

offsets = st.integers(0, 2**63 - 1)


def test_the_form_is_epoch_and_twenty_digits() -> None:
    assert format_cursor("k3f9x", 42) == "k3f9x-00000000000000000042"
    assert format_cursor("k3f9x", 0) == "k3f9x-00000000000000000000"


@given(offsets)
def test_a_cursor_comes_back_as_it_was(offset: int) -> None:
    epoch = new_epoch()
    assert parse_cursor(format_cursor(epoch, offset)) == (epoch, offset)


@given(offsets, offsets)
def test_cursors_of_one_epoch_sort_as_text_in_the_order_of_the_log(one: int, other: int) -> None:
    assert (format_cursor("e", one) < format_cursor("e", other)) == (one < other)


def test_epochs_are_short_random_names() -> None:
    epochs = {new_epoch() for _ in range(1000)}
    assert len(epochs) == 1000
    for epoch in epochs:
        assert len(epoch) == 10
        assert parse_cursor(format_cursor(epoch, 1)) == (epoch, 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "abc",
        "abc-",
        "abc-1",
        "abc-0000000000000000001",
        "abc-000000000000000000001",
        "-00000000000000000001",
        "ABC-00000000000000000001",
        "a.c-00000000000000000001",
        "a" * 17 + "-00000000000000000001",
        "abc-0000000000000000000x",
        "abc--0000000000000000001",
        "abc-+0000000000000000001",
        "abc-0000000000000000000١",
        "abc-00000000000000000001\n",
        " abc-00000000000000000001",
        "abc-00000000000000000001 ",
        "abc_00000000000000000001",
        "äbc-00000000000000000001",
        "abc-09223372036854775808",
        "abc-99999999999999999999",
        "abc-00000000000000000001,abc-00000000000000000002",
        "\ud800-00000000000000000001",
    ],
)
def test_a_malformed_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_cursor(text)
    assert caught.value.code == "malformed_cursor"
    assert caught.value.status == 400


def test_the_largest_offset_is_that_of_a_signed_64_bit_number() -> None:
    assert parse_cursor("abc-09223372036854775807") == ("abc", 2**63 - 1)


@given(st.text(max_size=40))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    try:
        epoch, offset = parse_cursor(text)
    except InvalidRequest:
        return
    assert format_cursor(epoch, offset) == text


@given(offsets, st.integers(0, 2**40))
def test_so_many_events_lie_between_positions_as_one_is_moved_by(
    position: int, events: int
) -> None:
    assert distance(position, advance(position, events)) == events
    assert distance(advance(position, events), position) == 0


@given(offsets, st.integers(1, 2**63))
def test_nothing_is_moved_back_before_the_first_event(position: int, events: int) -> None:
    back = advance(position, -events)
    assert 0 <= back <= position
    assert distance(back, position) == min(events, position)


@given(offsets, offsets)
def test_of_two_positions_one_is_earlier_and_one_later(one: int, other: int) -> None:
    first, last = earlier(one, other), later(one, other)
    assert {first, last} == {one, other}
    assert first <= last
