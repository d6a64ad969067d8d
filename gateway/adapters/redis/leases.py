"""`Leases` over Redis: each replica reports how many places it holds, and until when.

A report holds the whole number, so a call whose answer was lost does no harm, and a Redis that
lost its data has it again after the next renewal.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import msgspec

from gateway.access.limits.limits import Concurrency, Decision
from gateway.access.limits.ports import Lease
from gateway.adapters.redis.link import Link, Rounds
from gateway.adapters.redis.scripts import LEASE, ScriptCall
from gateway.clock import Clock

LEASE_SECONDS = 10.0
# Seconds after a refusal in which further requests are refused without a call.
_REFUSAL_SECONDS = 0.1


class _Holding(msgspec.Struct, eq=False):
    """Places of one subject that this replica holds."""

    limit: Concurrency
    subject: str
    held: int = 0
    # Places reported last to the server; places of the other replicas at that time.
    said: int = 0
    others: int = 0
    waiting: list[asyncio.Future[Lease | Decision]] = []
    asked: list[asyncio.Future[Lease | Decision]] = []
    refused_until: float = 0.0


class RedisLeases:
    """`Leases` of all replicas on one Redis."""

    def __init__(
        self,
        link: Link,
        clock: Clock,
        *,
        server_time: bool = True,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.local_decisions = 0
        self.closed_decisions = 0
        self._link = link
        self._clock = clock
        self._server_time = server_time
        self._life = lease_seconds
        self._replica = secrets.token_hex(8)
        self._holdings: dict[tuple[str, str], _Holding] = {}
        self._rounds = Rounds(link, self._ask, self._hear, self._miss)
        link.on_return(self._say_all)

    async def acquire(self, limit: Concurrency, subject: str) -> Lease | Decision:
        identity = (limit.name, subject)
        holding = self._holdings.get(identity)
        if holding is None:
            holding = self._holdings[identity] = _Holding(limit, subject)
        holding.limit = limit
        if not self._link.up:
            return self._alone(holding)
        if self._clock.monotonic() < holding.refused_until:
            return limit.refusal(holding.held + holding.others, "shared")
        answer: asyncio.Future[Lease | Decision] = asyncio.get_running_loop().create_future()
        holding.waiting.append(answer)
        self._rounds.add(holding)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():
                # The place was granted in the same moment.
                place = answer.result()
                if not isinstance(place, Decision):
                    place.release()
            raise

    async def renew(self) -> None:
        """Renew the places held, before the server lets them expire."""
        for identity, holding in list(self._holdings.items()):
            if holding.held or holding.said:
                self._rounds.add(holding)
            elif not (holding.waiting or holding.asked):
                del self._holdings[identity]
        await self._rounds.settled()

    async def run(self) -> None:
        """Renew the places in time, until cancelled."""
        while True:
            await self._clock.sleep(self._life / 3)
            await self.renew()

    async def give_back_all(self) -> None:
        """Free all places at once, at the end of the process."""
        for holding in self._holdings.values():
            holding.held = 0
        await self.renew()

    def _release(self, holding: _Holding) -> None:
        holding.held -= 1
        holding.refused_until = 0.0
        self._rounds.add(holding)

    def _alone(self, holding: _Holding) -> Lease | Decision:
        limit = holding.limit
        if limit.when_down == "closed":
            self.closed_decisions += 1
            return limit.refusal(limit.most, "closed")
        self.local_decisions += 1
        if holding.held >= limit.most:
            return limit.refusal(holding.held, "local")
        return self._place(holding)

    def _place(self, holding: _Holding) -> Lease:
        holding.held += 1
        return Lease(lambda: self._release(holding))

    # Rounds

    def _ask(self, holding: _Holding) -> ScriptCall:
        holding.asked += holding.waiting
        holding.waiting = []
        key = f"{self._link.prefix}:{{{holding.subject}}}:lease:{holding.limit.name}"
        now = "" if self._server_time else round(self._clock.now() * 1_000_000)
        life = int(self._life * 1_000_000)
        holding.said = holding.held
        figures = (holding.held, holding.limit.most, len(holding.asked))
        return ScriptCall(LEASE, (key,), (now, life, self._replica, *figures))

    def _hear(self, holding: _Holding, answer: Any) -> None:
        more, holding.others = int(answer[0]), int(answer[1])
        holding.said += more
        for waiter in holding.asked:
            if waiter.cancelled():
                continue
            if more:
                more -= 1
                waiter.set_result(self._place(holding))
            else:
                holding.refused_until = self._clock.monotonic() + _REFUSAL_SECONDS
                refusal = holding.limit.refusal(holding.held + holding.others, "shared")
                waiter.set_result(refusal)
        holding.asked = []
        if holding.said != holding.held or holding.waiting:
            # Places were released, requested or abandoned while the call was under way.
            self._rounds.add(holding)

    def _miss(self, holding: _Holding) -> None:
        for waiter in holding.asked + holding.waiting:
            if not waiter.cancelled():
                waiter.set_result(self._alone(holding))
        holding.asked = []
        holding.waiting = []

    async def _say_all(self) -> None:
        """Report all places after Redis is back with lost data, before anybody requests one."""
        due = [holding for holding in self._holdings.values() if holding.held or holding.said]
        if due:
            answers = await self._link.run([self._ask(holding) for holding in due], early=True)
            for holding, answer in zip(due, answers, strict=True):
                self._hear(holding, answer)
