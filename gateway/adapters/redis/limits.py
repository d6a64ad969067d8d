"""`RequestLimits` over Redis: decided by a script at the server, or here where that cannot change
it.

Three ways to an answer, the cheap ones first:

    refused before, and it cannot have changed    from memory, no look-up
    units were taken ahead (at most 1 % of it)    from memory, no look-up
    else                                          one round trip, shared by all who wait for one

While Redis is down, by the limit's policy: `local` goes on here from what was
known of the shared standing, `closed` refuses.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from gateway.access.limits.buckets import Account, Accounts
from gateway.access.limits.limits import Daily, Decision, Limit, Rate, closed, day_of
from gateway.adapters.redis.link import Link, Rounds
from gateway.adapters.redis.scripts import TAKE_DAILY, TAKE_RATE, ScriptCall
from gateway.clock import Clock

# A replica may take one part in so many of a limit ahead, to use within `_SPARE_SECONDS`, and
# no more than it uses in `_ROUND_SECONDS`.
_SPARE_PART = 100
_SPARE_SECONDS = 1.0
_ROUND_SECONDS = 0.02
_MOST_COSTS = 500
DAY_MILLISECONDS = 2 * 86_400_000


class _Waiter:
    __slots__ = ("answer", "cost")

    def __init__(self, cost: int, answer: asyncio.Future[Decision]) -> None:
        self.cost = cost
        self.answer = answer


class _Shared(Account):
    """An account whose standing mirrors the one at the server, as of the last answer."""

    __slots__ = (
        "asked", "asked_at", "blocked_cost", "blocked_until", "since_asked", "spare",
        "spare_until", "waiting",
    )  # fmt: skip

    def __init__(self, limit: Limit, subject: str, now: float) -> None:
        super().__init__(limit, subject, now)
        # Taken at the server and not used yet; part of the standing's level.
        self.spare = 0
        self.spare_until = 0.0
        # Whoever asks for this much or more before then is refused without asking.
        self.blocked_until = 0.0
        self.blocked_cost = 0
        self.waiting: list[_Waiter] = []
        self.asked: list[_Waiter] = []
        self.asked_at = -math.inf
        self.since_asked = 0

    def use(self, limit: Limit) -> None:
        if limit != self.limit:
            self.blocked_until = 0.0
        super().use(limit)

    def idle(self, clock: Clock) -> bool:
        return not (self.waiting or self.asked) and super().idle(clock)


class RedisLimits:
    """`RequestLimits` of all replicas on one Redis."""

    def __init__(self, link: Link, clock: Clock, server_time: bool = True) -> None:
        self.local_decisions = 0
        self.closed_decisions = 0
        self._link = link
        self._clock = clock
        self._server_time = server_time
        self._accounts = Accounts(_Shared, clock)
        self._rounds = Rounds(link, self._ask, self._hear, self._miss)

    async def take(self, limit: Limit, subject: str, cost: int = 1) -> Decision:
        account = self._accounts.get(limit, subject)
        now = limit.time(self._clock)
        if account.spare and now >= account.spare_until:
            account.spare = 0
        if 0 < cost <= account.spare:
            account.spare -= cost
            account.since_asked += cost
            return self._answer(account, True, cost, now)
        if now < account.blocked_until and (cost or 1) >= account.blocked_cost:
            return self._answer(account, False, cost, now)
        if not self._link.up:
            return self._alone(account, cost)
        waiter = _Waiter(cost, asyncio.get_running_loop().create_future())
        account.waiting.append(waiter)
        self._rounds.add(account)
        return await waiter.answer

    def _answer(self, account: _Shared, allowed: bool, cost: int, now: float) -> Decision:
        limit, state = account.limit, account.state
        limit.settle(state, now)
        return limit.decision(state, allowed, cost, spare=account.spare, source="shared")

    def _alone(self, account: _Shared, cost: int) -> Decision:
        limit = account.limit
        if limit.when_down == "closed":
            self.closed_decisions += 1
            return closed(limit)
        self.local_decisions += 1
        state = account.state
        allowed = limit.take(state, cost, limit.time(self._clock))
        return limit.decision(state, allowed, cost, source="local")

    # Rounds

    def _ask(self, account: _Shared) -> ScriptCall:
        limit = account.limit
        account.asked = account.waiting[:_MOST_COSTS]
        account.waiting = account.waiting[_MOST_COSTS:]
        costs = [waiter.cost for waiter in account.asked]
        ahead = self._ahead(account, sum(costs))
        key = f"{self._link.prefix}:{{{account.subject}}}:limit:{limit.name}"
        wall = self._clock.now()
        now = "" if self._server_time else round(wall * 1_000_000)
        if isinstance(limit, Daily):
            key = f"{key}:{day_of(wall)}"
            return ScriptCall(
                TAKE_DAILY, (key,), (now, limit.most, DAY_MILLISECONDS, ahead, *costs)
            )
        return ScriptCall(TAKE_RATE, (key,), (now, per_micro(limit), limit.burst, ahead, *costs))

    def _ahead(self, account: _Shared, asked: int) -> int:
        """As much as lasts until about the next round, going by what was used since the last."""
        now = self._clock.monotonic()
        elapsed = now - account.asked_at
        used = account.since_asked + asked
        account.asked_at = now
        account.since_asked = 0
        if elapsed > _SPARE_SECONDS:
            return 0
        lasts = int(used * _ROUND_SECONDS / max(elapsed, _ROUND_SECONDS / 10))
        return max(0, min(lasts, account.limit.capacity // _SPARE_PART) - account.spare)

    def _hear(self, account: _Shared, answer: Any) -> None:
        level, ahead, marks = float(answer[0]), int(answer[1]), answer[2]
        limit, state = account.limit, account.state
        now = limit.time(self._clock)
        state.level, state.at = level, now
        account.spare += ahead
        account.spare_until = now + _SPARE_SECONDS
        account.blocked_until = 0.0
        for waiter, mark in zip(account.asked, marks, strict=True):
            allowed = mark == ord("1")
            if not waiter.answer.cancelled():
                waiter.answer.set_result(self._answer(account, allowed, waiter.cost, now))
            elif allowed:
                account.spare += waiter.cost
            if not allowed:
                self._block(account, waiter.cost, now)
        if not account.spare and limit.room(state) < 1:
            self._block(account, 1, now)
        account.asked = []
        if account.waiting:
            self._rounds.add(account)

    def _block(self, account: _Shared, cost: int, now: float) -> None:
        """Remember the refusal of the smallest cost: nothing but time can change it."""
        cost = cost or 1
        if account.blocked_until and account.blocked_cost <= cost:
            return
        refusal = account.limit.decision(account.state, False, cost, source="shared")
        account.blocked_cost = cost
        account.blocked_until = now + refusal.retry_after

    def _miss(self, account: _Shared) -> None:
        """Redis went down: whoever waits is answered here."""
        for waiter in account.asked + account.waiting:
            if not waiter.answer.cancelled():
                waiter.answer.set_result(self._alone(account, waiter.cost))
        account.asked = []
        account.waiting = []


def per_micro(rate: Rate) -> str:
    """Units in a microsecond, as the scripts take it: with all its digits."""
    return repr(rate.per_second / 1_000_000)
