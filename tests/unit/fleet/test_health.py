"""The decision on the health of a gateway, from what its processes report."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.fleet.health import (
    LEVELS,
    REASONS,
    Fault,
    GatewayAnswer,
    ProcessReport,
    Standing,
    decide,
    reasons_of,
    streams_of,
    worst,
)
from gateway.histogram import Histogram

OPERATING = Path(__file__).parents[3] / "deploy" / "operating.md"


def report(name: str, *faults: Fault, since: float = 0.0, **members: object) -> ProcessReport:
    given = {
        "gateway": GatewayAnswer.silent(name, name, 0), "faults": list(faults),
        "level_since": since, "minute": [], "transports": {}, "stalled": 0, "overdue": 0,
    }  # fmt: skip
    return ProcessReport(**{**given, **members})  # type: ignore[arg-type]


def test_a_reason_of_another_version_is_told_and_decides_nothing() -> None:
    newer = report("gw-2", Fault("made_later", "it is so", since=9.0))
    delivery, _, [reason] = decide([report("gw-1"), newer], [])
    assert (delivery, reason.code) == ("ok", "made_later")
    assert "it is so" in reason.detail


@pytest.mark.parametrize("code", REASONS)
def test_each_reason_decides_alone_and_says_what_to_do(code: str) -> None:
    delivery, since, [reason] = decide(
        [report("gw-1", Fault(code, "it is so", since=90.0), since=7.0)], []
    )
    assert delivery == REASONS[code].delivery
    assert since == (7.0 if delivery == "ok" else 90.0)
    assert (reason.code, reason.detail) == (code, "it is so")
    assert reason.since == "1970-01-01T00:01:30.000000Z"
    assert len(reason.advice) > 10


def test_the_page_of_operators_has_each_reason() -> None:
    text = OPERATING.read_text(encoding="utf-8")
    assert [code for code in REASONS if f"| `{code}` |" not in text] == []


def test_without_reasons_it_is_well_since_the_last_process_was() -> None:
    assert decide([report("gw-1", since=5.0), report("gw-2", since=9.0)], []) == ("ok", 9.0, [])


def test_the_worst_reason_decides_and_comes_first_and_the_oldest_of_these_says_since_when() -> None:
    faults = [
        Fault("redis_away", "redis", since=1.0), Fault("canary_behind", "canary", since=5.0),
        Fault("streams_overdue", "streams", since=4.0), Fault("delivery_slow", "slow", since=2.0),
    ]  # fmt: skip
    delivery, since, reasons = decide([report("gw-1", *faults)], [])
    assert (delivery, since) == ("stalled", 4.0)
    assert [one.code for one in reasons] == [
        "streams_overdue", "canary_behind", "delivery_slow", "redis_away",
    ]  # fmt: skip
    away = Fault("store_away", "away", since=8.0)
    assert decide([report("gw-1", *faults)], [away])[:2] == ("down", 8.0)


def test_the_same_of_several_processes_is_one_reason_that_names_them() -> None:
    reports = [
        report(f"gw-{number}", Fault("redis_away", f"seen by {number}", since=10.0 - number))
        for number in range(8)
    ]
    [reason] = decide(reports, [])[2]
    assert reason.detail == "gw-0, gw-1, gw-2, gw-3, gw-4 and 3 more: seen by 7"
    assert reason.since == "1970-01-01T00:00:03.000000Z"


def test_different_things_of_one_code_are_reasons_of_their_own() -> None:
    reasons = reasons_of(
        [("", Fault("destination_failing", name, about=name)) for name in ("a", "b")]
    )
    assert sorted(one.detail for one in reasons) == ["a", "b"]


def test_what_lasts_keeps_its_time_and_what_comes_back_gets_another() -> None:
    standing = Standing(1.0)
    away, slow = Fault("redis_away", "away"), Fault("delivery_slow", "slow")
    assert [one.since for one in standing.note([away], 2.0)] == [2.0]
    assert (standing.level, standing.level_since) == ("ok", 1.0)
    assert [one.since for one in standing.note([away, slow], 3.0)] == [2.0, 3.0]
    assert (standing.level, standing.level_since) == ("slow", 3.0)
    assert [one.since for one in standing.note([slow], 4.0)] == [3.0]
    assert [one.since for one in standing.note([away], 5.0)] == [5.0]
    assert (standing.level, standing.level_since) == ("ok", 5.0)


def test_streams_and_deliveries_of_all_processes_add_up() -> None:
    quick, late = Histogram(), Histogram()
    quick.observe(0.004, 98)
    late.observe(3.0, 2)
    found = streams_of(
        [
            report("gw-1", transports={"sse": 2}, stalled=1, minute=quick.cells),
            report("gw-2", transports={"sse": 1, "ndjson": 4}, overdue=3, minute=late.cells),
            # Of another version.
            report("gw-3", transports={"sse": 1}, minute=[1.0, 2.0]),
        ]
    )
    assert (found.open, found.stalled, found.overdue) == (8, 1, 3)
    assert found.transports == {"sse": 4, "ndjson": 4}
    assert found.p99_seconds is not None
    assert 2.5 < found.p99_seconds <= 5


def test_levels_have_an_order() -> None:
    assert LEVELS == ("ok", "slow", "stalled", "down")
    assert worst([]) == "ok"
