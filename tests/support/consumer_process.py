"""One process of a gateway that reads consumers: its claims, and readers without connections."""

from __future__ import annotations

from typing import Any

from gateway.clock import SystemClock
from gateway.cursor import format_cursor
from gateway.streaming.consumer_claims import ConsumerClaims
from gateway.streaming.consumer_reader import ConsumerReader
from gateway.streaming.consumers.claims import ClaimingReader, ConsumerClaim
from gateway.streaming.consumers.options import EXPLICIT, ConsumerOptions
from gateway.streaming.consumers.ports import Consumers
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow
from gateway.wire.framing import End

EPOCH = "abcdefghjk"


def cursor(offset: int) -> str:
    return format_cursor(EPOCH, offset)


class PassingClock(SystemClock):
    """The machine's clock, which a test may set forward."""

    passed = 0.0

    def now(self) -> float:
        return super().now() + self.passed

    def monotonic(self) -> float:
        return super().monotonic() + self.passed


class Peer:
    """The stream of a reader, and what its peer was sent. Stands for hub and subscription."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.said: list[tuple[str, Any]] = []
        self.ended: End | None = None
        self.sink = self

    # Whether it has taken what was written.
    clear = True

    def write(self, data: bytes) -> bool:
        self.written.append(data)
        return True

    def end(self, subscription: Any, end: End) -> None:
        self.ended = end

    def send_control(self, subscription: Any, kind: str, members: Any) -> None:
        self.said.append((kind, members))


class Process:
    """One process of a gateway."""

    def __init__(self, store: Consumers, clock: PassingClock) -> None:
        self.store = store
        self.clock = clock
        self.claims = ConsumerClaims(store, clock, 10_000)

    async def read(
        self,
        key: ConsumerKey,
        mode: str = EXPLICIT,
        options: ConsumerOptions = ConsumerOptions(),  # noqa: B008
        **claim: Any,
    ) -> tuple[ConsumerReader, Peer]:
        row = await self.claims.claim(claim_of(key, **claim))
        reader, peer = self.reader(row, mode, options), Peer()
        reader.attach(peer, peer)  # type: ignore[arg-type]
        self.claims.hold(reader)
        return reader, peer

    def reader(
        self,
        row: ConsumerRow,
        mode: str,
        options: ConsumerOptions = ConsumerOptions(),  # noqa: B008
    ) -> ConsumerReader:
        return ConsumerReader(row, mode, options, self.clock, self.claims.hurry)

    async def second(self) -> None:
        """Let a second pass, and store what has moved."""
        self.clock.passed += 1.0
        self.claims.tick()
        await self.claims.flush(watch=True)


def claim_of(key: ConsumerKey, *, answers: bool = True, **members: Any) -> ConsumerClaim:
    reader = ClaimingReader(id=f"{id(members)}-{claim_of.__name__}-{next(_IDS)}", answers=answers)
    return ConsumerClaim(key, reader, "{}", cursor(0))._replace(**members)


_IDS = iter(range(10**9))


def commits(process: Process) -> float:
    return sum(process.store.commit_seconds.cells[:-1])
