"""Views bound to a log: each look-back at its offset, looked up once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.event import Draft
from gateway.log.bound_view import bound_view
from tests.support.memory_log import MemoryLog

MakeDraft = Callable[..., Draft]


class CountedLog(MemoryLog):
    """Counts how often it is asked for a time."""

    asked = 0

    async def last_before(self, micros: int) -> int:
        self.asked += 1
        return await super().last_before(micros)


def view(*lookbacks: str | None) -> View:
    grants = [
        parse_grant(
            {
                "actions": ["pull"], "categories": [f"c{number}"],
                **({"when": {"max_lookback": lookback}} if lookback else {}),
            }
        )
        for number, lookback in enumerate(lookbacks)
    ]  # fmt: skip
    decision = decide_grants(tuple(grants), "pull")
    assert isinstance(decision, Allowed)
    return decision.view


async def filled(clock: Any, draft: MakeDraft) -> CountedLog:
    """An event each hour, three in all; the last an hour ago."""
    log = CountedLog(clock)
    for number in range(3):
        await log.append([[draft(category=f"c{number}")]])
        await clock.advance(3600)
    return log


async def test_each_rule_reaches_back_to_the_offset_of_its_own_look_back(
    clock: Any, draft: MakeDraft
) -> None:
    log = await filled(clock, draft)
    bound = await bound_view(log, view("90m", None, "150m"), clock.now())
    assert [rule.after for rule in bound.rules] == [2, 0, 1]
    assert bound.begin == 0
    assert (await bound_view(log, view("90m", "150m"), clock.now())).begin == 1


async def test_a_look_back_that_several_rules_share_is_looked_up_once(
    clock: Any, draft: MakeDraft
) -> None:
    log = await filled(clock, draft)
    bound = await bound_view(log, view("90m", "90m", "90m"), clock.now())
    assert ([rule.after for rule in bound.rules], log.asked) == ([2, 2, 2], 1)


async def test_a_view_without_look_back_asks_the_log_for_nothing(
    clock: Any, draft: MakeDraft
) -> None:
    log, whole = await filled(clock, draft), view(None, None)
    assert await bound_view(log, whole, clock.now()) is whole
    assert log.asked == 0


async def test_a_bound_view_without_its_log_is_the_view_that_was_decided(
    clock: Any, draft: MakeDraft
) -> None:
    decided = view("90m", None)
    bound = await bound_view(await filled(clock, draft), decided, clock.now())
    assert bound != decided
    assert bound.unbound() == decided
    assert decided.unbound() is decided
