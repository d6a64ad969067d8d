"""Claims of readers: who gets a consumer, who gives way, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from gateway.cursor import format_cursor
from gateway.errors import Conflict
from gateway.streaming.consumers.claims import (
    ClaimingReader,
    ConsumerClaim,
    claimed,
    has_claimed,
    is_asked,
    is_stuck,
    reader_of,
    reader_text,
    rewound,
)
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow

KEY = ConsumerKey("7kQ2mZ0aB1cD", "siem")
START = 1_000_000.0


def cursor(offset: int, epoch: str = "abcdefghjk") -> str:
    return format_cursor(epoch, offset)


def claim(reader: str = "one", *, answers: bool = True, **members: Any) -> ConsumerClaim:
    known = ConsumerClaim(KEY, ClaimingReader(id=reader, answers=answers), "{}", cursor(5))
    return known._replace(**members)


def made(now: float = START, **members: Any) -> ConsumerRow:
    return claimed(None, 0, claim(**members), now, 16)


def test_the_first_claim_makes_the_consumer_where_it_says() -> None:
    row = made()
    assert (row.cursor, row.sent) == (cursor(5), cursor(5))
    assert row.held(START + 9.9)
    assert not row.held(START + 10.1)
    with pytest.raises(Conflict) as caught:
        claimed(None, 16, claim(), START, 16)
    assert caught.value.code == "too_many_consumers"


def test_a_later_claim_begins_at_the_position_and_not_where_it_says() -> None:
    row = structs.replace(made(), cursor=cursor(9), sent=cursor(12), lease_until=0.0)
    again = claimed(row, 0, claim("two", begin=cursor(100)), START + 60, 16)
    assert (again.cursor, again.generation) == (cursor(9), row.generation + 1)
    ahead = claimed(row, 0, claim("two", acknowledges=cursor(11)), START + 60, 16)
    assert (ahead.cursor, ahead.sent) == (cursor(11), cursor(12))
    behind = claimed(row, 0, claim("two", acknowledges=cursor(7)), START + 60, 16)
    assert behind.cursor == cursor(9)


def test_a_holder_that_can_be_asked_is_asked_first_and_once() -> None:
    first = made()
    asked = claimed(first, 0, claim("two"), START + 1, 16)
    assert not has_claimed(asked, claim("two"))
    assert is_asked(reader_of(asked))
    assert asked.generation == first.generation
    # A third one waits for the same answer.
    assert claimed(asked, 0, claim("three"), START + 2, 16) is asked
    taken = claimed(asked, 0, claim("two", silent=first.generation), START + 5, 16)
    assert has_claimed(taken, claim("two"))
    assert taken.generation == first.generation + 1


def test_who_was_silent_in_an_earlier_generation_may_not_be_so_in_this_one() -> None:
    row = structs.replace(made(), generation=7)
    assert not has_claimed(claimed(row, 0, claim("two", silent=6), START + 1, 16), claim("two"))


def test_takeover_takes_at_once_and_a_lapsed_claim_is_anybodys() -> None:
    taken = claimed(made(), 0, claim("two", takeover=True), START + 1, 16)
    assert has_claimed(taken, claim("two"))
    lapsed = claimed(made(), 0, claim("two"), START + 11, 16)
    assert has_claimed(lapsed, claim("two"))


def test_holders_that_cannot_be_asked_give_way_once_a_minute() -> None:
    row = made(answers=False)
    taken = claimed(row, 0, claim("two", answers=False), START + 1, 16)
    assert has_claimed(taken, claim("two"))
    with pytest.raises(Conflict) as caught:
        claimed(taken, 0, claim("three"), START + 9, 16)
    assert caught.value.code == "consumer_in_use"
    held = structs.replace(taken, lease_until=START + 100)
    assert has_claimed(claimed(held, 0, claim("three"), START + 62, 16), claim("three"))


def test_another_selection_is_refused_and_named_unless_it_is_asked_for() -> None:
    row = structs.replace(made(selection='{"category":["auth"]}'), lease_until=0.0)
    other = claim("two", selection='{"category":["auth"],"min_severity":3}')
    with pytest.raises(Conflict) as caught:
        claimed(row, 0, other, START + 1, 16)
    assert caught.value.code == "consumer_selection_changed"
    assert caught.value.members["difference"] == {"min_severity": {"stored": None, "sent": 3}}
    updated = claimed(row, 0, other._replace(updates_selection=True), START + 1, 16)
    assert updated.selection == other.selection


def test_a_gap_moves_position_and_what_was_sent_also_into_another_epoch() -> None:
    row = structs.replace(made(), cursor=cursor(9), sent=cursor(12), lease_until=0.0)
    there = cursor(3, "zzzzzzzzzz")
    newcomer = claim("two", gone=row.cursor, goes_on=there)
    gone = claimed(row, 0, newcomer, START + 1, 16)
    assert (gone.cursor, gone.sent) == (there, there)
    # Another one went on before, and further.
    ahead = structs.replace(gone, cursor=cursor(5, "zzzzzzzzzz"), sent=cursor(6, "zzzzzzzzzz"))
    assert claimed(ahead, 0, newcomer._replace(takeover=True), START + 2, 16).cursor == ahead.cursor


def test_connections_that_begin_at_one_position_again_and_again_are_stuck() -> None:
    row: ConsumerRow | None = None
    for number in range(5):
        assert row is None or not is_stuck(row)
        row = claimed(row, 0, claim(f"r{number}", takeover=True), START + 60.0 * number, 16)
    assert row is not None
    assert is_stuck(row)
    moved = structs.replace(row, cursor=cursor(6), sent=cursor(6))
    assert not is_stuck(claimed(moved, 0, claim("new", takeover=True), START + 301, 16))
    later = claimed(row, 0, claim("new", takeover=True), START + 2000, 16)
    assert not is_stuck(later)


def test_a_rewind_moves_either_way_and_ends_the_claim() -> None:
    row = structs.replace(made(), cursor=cursor(9), sent=cursor(12))
    back = rewound(row, cursor(2), START + 1)
    assert (back.cursor, back.sent) == (cursor(2), cursor(2))
    assert back.generation == row.generation + 1
    assert not back.held(START + 1)
    assert reader_of(back).rewound_at == START + 1
    again = claimed(back, 0, claim("two"), START + 2, 16)
    assert reader_of(again).rewound_at == START + 1, "the reader before learns why it ended"


def test_an_answer_is_that_to_the_question_and_needs_no_clock_in_common() -> None:
    asked = claimed(made(), 0, claim("two"), START + 1, 16)
    reader = reader_of(asked)
    answered = structs.replace(reader, answered_at=reader.asked_at)
    assert not is_asked(answered)
    row = structs.replace(asked, reader=reader_text(answered))
    assert is_asked(reader_of(claimed(row, 0, claim("three"), START + 3, 16)))
