"""Looking back and comparing policies is done in slices, however large the policies are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from gateway.access.grants.grant import MAX_POLICY_PATTERNS, Grant, parse_grant, parse_grants
from gateway.access.policy import subsumption as covers
from gateway.access.policy.subsumption import run_steps, uncovered_grant
from gateway.cli.keys.check import _wrong
from gateway.clock import SystemClock
from gateway.errors import InvalidRequest
from gateway.oversight.review.key_review import Review, ReviewBudget
from gateway.scheduling.loop_work import LoopWork
from tests.support.memory_log import MemoryLog

if TYPE_CHECKING:
    from gateway.event import Draft
    from tests.conftest import FakeClock


class Turning:
    """A timer by which each look takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def grants(count: int, **members: Any) -> tuple[Grant, ...]:
    return tuple(
        parse_grant({"actions": ["stream"], "categories": [f"c{n}.*"], **members})
        for n in range(count)
    )


async def test_a_comparison_of_policies_waits_for_its_turn_after_each_slice() -> None:
    work = LoopWork(SystemClock(), timer=Turning())
    slices, own = work.slices("k"), grants(40)
    rounds = 0

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(count_rounds())
    assert await slices.run(uncovered_grant(own, own)) is None
    others.cancel()
    # 40 grants against 40, twice: a slice of four milliseconds is over after a few of the steps.
    assert rounds > 40 * 40 / 5


def test_a_step_compares_one_grant_with_one_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    real = covers._covers_rest

    def counted(*scopes: Any) -> bool:
        nonlocal compared
        compared += 1
        return real(*scopes)

    monkeypatch.setattr(covers, "_covers_rest", counted)
    own = grants(20) + grants(20, effect="deny")
    steps = uncovered_grant(own, own)
    before = 0
    for _ in steps:
        assert compared - before <= 1
        before = compared
    assert compared > 400


def test_what_is_done_in_steps_comes_to_the_same() -> None:
    own = grants(3)
    assert run_steps(uncovered_grant(own, grants(4))) == grants(4)[3]


def test_a_policy_has_so_many_patterns_at_most() -> None:
    def policy(patterns: int) -> list[dict[str, Any]]:
        names = [f"c{n}" for n in range(patterns)]
        parts = [names[begin : begin + 256] for begin in range(0, patterns, 256)]
        return [{"actions": ["pull"], "categories": part} for part in parts]

    assert len(parse_grants(policy(MAX_POLICY_PATTERNS))) == 16
    with pytest.raises(InvalidRequest, match="at most 4096") as refused:
        parse_grants(policy(MAX_POLICY_PATTERNS + 1))
    assert refused.value.code == "policy_too_large"
    # One that is stored goes on working, and is named before an upgrade.
    stored = tuple(map(parse_grant, policy(MAX_POLICY_PATTERNS + 1)))
    assert [one["path"] for one in _wrong({"grants": [grant.shown() for grant in stored]})] == [
        "grants"
    ]
    assert not _wrong({"grants": [grant.shown() for grant in stored[1:]]})


async def test_a_page_of_a_review_is_read_at_its_turn(
    clock: FakeClock, draft: Callable[..., Draft], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryLog(clock)
    await log.append([[draft() for _ in range(5)]])
    reads = 0
    read = log.read

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*arguments, **options)

    monkeypatch.setattr(log, "read", counted)
    idle: list[Callable[[], None]] = []
    work = LoopWork(clock, when_idle=lambda call, within: idle.append(call))
    await work.turn("other")
    review = Review(log, clock, ReviewBudget(), work.slices("k"))

    async def look() -> int:
        return len([one async for one in review.events(0.0)])

    looking = asyncio.create_task(look())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not reads
    while not looking.done():
        if idle:
            idle.pop()()
        await asyncio.sleep(0)
    assert await looking == 5
    assert reads
