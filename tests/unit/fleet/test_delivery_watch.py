"""What is recorded of delivery, from what it is and what was recorded before."""

from __future__ import annotations

import json

from gateway.clock import format_time
from gateway.fleet.delivery_watch import (
    BETTER_SECONDS,
    RecordedLevel,
    level_record,
    next_recorded,
)
from gateway.fleet.health import ReasonAnswer

STALLED = RecordedLevel("stalled", since=100.0)


def test_what_is_worse_is_recorded_at_once_with_the_time_since_when() -> None:
    assert next_recorded(RecordedLevel(), "stalled", 100.0, 107.0) == STALLED
    assert next_recorded(STALLED, "down", 110.0, 111.0) == RecordedLevel("down", since=110.0)


def test_what_stays_is_recorded_once() -> None:
    assert next_recorded(STALLED, "stalled", 100.0, 500.0) == STALLED
    assert next_recorded(RecordedLevel(), "ok", 7.0, 500.0) == RecordedLevel()


def test_what_is_better_is_recorded_when_it_was_so_for_a_minute() -> None:
    better = next_recorded(STALLED, "ok", 0.0, 200.0)
    assert better == RecordedLevel("stalled", since=100.0, better_since=200.0)
    assert next_recorded(better, "ok", 0.0, 199.0 + BETTER_SECONDS) == better
    over = next_recorded(better, "ok", 0.0, 200.0 + BETTER_SECONDS)
    assert over == RecordedLevel("ok", since=200.0)


def test_a_gateway_that_wavers_is_not_better_yet() -> None:
    better = next_recorded(STALLED, "slow", 150.0, 200.0)
    assert next_recorded(better, "stalled", 230.0, 230.0) == STALLED
    assert next_recorded(STALLED, "slow", 150.0, 261.0).better_since == 261.0


def test_both_ends_have_one_severity_and_ids_that_follow_from_them() -> None:
    reason = ReasonAnswer(
        code="canary_behind", detail="waits", since=format_time(100.0), advice="look"
    )
    over = RecordedLevel("ok", since=200.0)
    begin = level_record(RecordedLevel(), STALLED, [reason])
    end = level_record(STALLED, over, [])
    first, last = (json.loads(b"{" + one.stored(b"2026-01-01T00:00:00Z")) for one in (begin, end))
    assert (first["id"], last["id"]) == ("delivery-stalled-100000", "delivery-ok-200000")
    assert (first["action"], last["action"]) == ("delivery.stalled", "delivery.resolved")
    assert first["severity"] == last["severity"] == 4
    assert (first["outcome"], last["outcome"]) == ("failure", "success")
    assert first["data"]["reasons"] == [
        {"code": "canary_behind", "detail": "waits", "since": format_time(100.0)}
    ]
    assert last["data"]["before"] == "stalled"
