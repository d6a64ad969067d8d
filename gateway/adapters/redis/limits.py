"""`RequestLimits` over Redis: decided by a script at the server, or locally if the server's answer
is certain.

Three ways to an answer, the cheap ones first:

refused before, and it cannot have changed    from memory, no look-up
units were taken ahead (at most 1 % of it)    from memory, no look-up
else                                          one round trip, shared by all who wait for one

While Redis is down, the limit's policy applies: `local` continues from the last known shared
state, `closed` refuses.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any, NamedTuple

from gateway.access.limits.buckets import SubjectBucket, SubjectBuckets
from gateway.access.limits.limits import Daily, Decision, Limit, Rate, closed, day_of
from gateway.adapters.redis.link import Link, Rounds
from gateway.adapters.redis.scripts import TAKE_DAILY, TAKE_RATE, ScriptCall
from gateway.clock import Clock

# A replica may take the 1/`_SPARE_PART` part of a limit ahead, to use within `_SPARE_SECONDS`,
# and no more than it uses in `_ROUND_SECONDS`.
_SPARE_PART = 100
_SPARE_SECONDS = 1.0
_ROUND_SECONDS = 0.02
_MOST_COSTS = 500
DAY_MILLISECONDS = 2 * 86_400_000


class _Waiter(NamedTuple):
    cost: int
    answer: asyncio.Future[Decision]


class _Shared(SubjectBucket):
    """Bucket that mirrors the state at the server as of the last answer."""

    __slots__ = (
        "asked", "asked_at", "blocked_cost", "blocked_until", "since_asked", "spare",
        "spare_until", "waiting",
    )  # fmt: skip

    def __init__(self, limit: Limit, subject: str, now: float) -> None:
        super().__init__(limit, subject, now)
        # Units taken at the server and not used yet; included in the level of the bucket.
        self.spare = 0
        self.spare_until = 0.0
        # A request with this cost or more is refused without a call until then.
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
        self._buckets = SubjectBuckets(_Shared, clock)
        self._rounds = Rounds(link, self._ask, self._hear, self._miss)

    async def take(self, limit: Limit, subject: str, cost: int = 1) -> Decision:
        bucket = self._buckets.get(limit, subject)
        now = limit.time(self._clock)
        if bucket.spare and now >= bucket.spare_until:
            bucket.spare = 0
        if 0 < cost <= bucket.spare:
            bucket.spare -= cost
            bucket.since_asked += cost
            return self._answer(bucket, True, cost, now)
        if now < bucket.blocked_until and (cost or 1) >= bucket.blocked_cost:
            return self._answer(bucket, False, cost, now)
        if not self._link.up:
            return self._alone(bucket, cost)
        waiter = _Waiter(cost, asyncio.get_running_loop().create_future())
        bucket.waiting.append(waiter)
        self._rounds.add(bucket)
        return await waiter.answer

    def _answer(self, bucket: _Shared, allowed: bool, cost: int, now: float) -> Decision:
        limit, state = bucket.limit, bucket.state
        limit.settle(state, now)
        return limit.decision(state, allowed, cost, spare=bucket.spare, source="shared")

    def _alone(self, bucket: _Shared, cost: int) -> Decision:
        limit = bucket.limit
        if limit.when_down == "closed":
            self.closed_decisions += 1
            return closed(limit)
        self.local_decisions += 1
        state = bucket.state
        allowed = limit.take(state, cost, limit.time(self._clock))
        return limit.decision(state, allowed, cost, source="local")

    # Rounds

    def _ask(self, bucket: _Shared) -> ScriptCall:
        limit = bucket.limit
        bucket.asked = bucket.waiting[:_MOST_COSTS]
        bucket.waiting = bucket.waiting[_MOST_COSTS:]
        costs = [waiter.cost for waiter in bucket.asked]
        ahead = self._ahead(bucket, sum(costs))
        key = f"{self._link.prefix}:{{{bucket.subject}}}:limit:{limit.name}"
        wall = self._clock.now()
        now = "" if self._server_time else round(wall * 1_000_000)
        if isinstance(limit, Daily):
            key = f"{key}:{day_of(wall)}"
            return ScriptCall(
                TAKE_DAILY, (key,), (now, limit.most, DAY_MILLISECONDS, ahead, *costs)
            )
        return ScriptCall(TAKE_RATE, (key,), (now, per_micro(limit), limit.burst, ahead, *costs))

    def _ahead(self, bucket: _Shared, asked: int) -> int:
        """Units that last until about the next round, by the use since the last one."""
        now = self._clock.monotonic()
        elapsed = now - bucket.asked_at
        used = bucket.since_asked + asked
        bucket.asked_at = now
        bucket.since_asked = 0
        if elapsed > _SPARE_SECONDS:
            return 0
        lasts = int(used * _ROUND_SECONDS / max(elapsed, _ROUND_SECONDS / 10))
        return max(0, min(lasts, bucket.limit.capacity // _SPARE_PART) - bucket.spare)

    def _hear(self, bucket: _Shared, answer: Any) -> None:
        level, ahead, marks = float(answer[0]), int(answer[1]), answer[2]
        limit, state = bucket.limit, bucket.state
        now = limit.time(self._clock)
        state.level, state.at = level, now
        bucket.spare += ahead
        bucket.spare_until = now + _SPARE_SECONDS
        bucket.blocked_until = 0.0
        for waiter, mark in zip(bucket.asked, marks, strict=True):
            allowed = mark == ord("1")
            if not waiter.answer.cancelled():
                waiter.answer.set_result(self._answer(bucket, allowed, waiter.cost, now))
            elif allowed:
                bucket.spare += waiter.cost
            if not allowed:
                self._block(bucket, waiter.cost, now)
        if not bucket.spare and limit.room(state) < 1:
            self._block(bucket, 1, now)
        bucket.asked = []
        if bucket.waiting:
            self._rounds.add(bucket)

    def _block(self, bucket: _Shared, cost: int, now: float) -> None:
        """Remember the refusal of the smallest cost: only time can change it."""
        cost = cost or 1
        if bucket.blocked_until and bucket.blocked_cost <= cost:
            return
        refusal = bucket.limit.decision(bucket.state, False, cost, source="shared")
        bucket.blocked_cost = cost
        bucket.blocked_until = now + refusal.retry_after

    def _miss(self, bucket: _Shared) -> None:
        """Answer all waiting requests locally: Redis is down."""
        for waiter in bucket.asked + bucket.waiting:
            if not waiter.answer.cancelled():
                waiter.answer.set_result(self._alone(bucket, waiter.cost))
        bucket.asked = []
        bucket.waiting = []


def per_micro(rate: Rate) -> str:
    """Units per microsecond with all digits, as the scripts take it."""
    return repr(rate.per_second / 1_000_000)
