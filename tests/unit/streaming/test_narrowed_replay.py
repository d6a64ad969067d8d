"""A stream that is narrowed while it reads the log gets nothing of what it was reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.event import Draft
from gateway.filters.scope import Scope
from gateway.log.ports import Page, RawPage
from gateway.notifier import Notifier
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.stream_timings import StreamTimings
from gateway.streaming.live.subscription import Subscription
from gateway.streaming.replay import Replays
from gateway.wire.http_body import NDJSON_PLAIN
from tests.support.memory_log import MemoryLog
from tests.support.open_gate import OpenGate


class HeldLog(MemoryLog):
    """Answers no read before it is told to."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.reading = asyncio.Event()
        self.go = asyncio.Event()

    async def read(self, *arguments: Any, **options: Any) -> Page:
        self.reading.set()
        await self.go.wait()
        return await super().read(*arguments, **options)

    async def read_raw(self, *arguments: Any, **options: Any) -> RawPage:
        self.reading.set()
        await self.go.wait()
        return await super().read_raw(*arguments, **options)


class Peer:
    """A sink that takes everything."""

    descriptor = -1
    clear = True

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> bool:
        self.text += data
        return True

    async def drained(self) -> None:
        return

    def finish(self, last: bytes, within: float) -> None:
        self.write(last)

    def abort(self) -> None:
        return


def view(*categories: str) -> View:
    grant = parse_grant({"actions": ["stream"], "categories": list(categories)})
    decision = decide_grants((grant,), "stream")
    assert isinstance(decision, Allowed)
    return decision.view


async def test_what_was_read_for_a_wider_view_is_not_delivered(
    clock: Any, draft: Callable[..., Draft]
) -> None:
    log = HeldLog(clock)
    await log.append([[draft(category="auth"), draft(category="billing"), draft(category="auth")]])
    timings = StreamTimings()
    hub = Hub(log, clock, lambda stream: replays.start(stream), timings)
    replays = Replays(hub, log, Notifier(), clock, OpenGate())
    peer = Peer()
    interest = Interest(StreamQuery(Scope(), view("**")), NDJSON_PLAIN)
    stream = Subscription(interest, peer, "k" * 12, 0)
    hub.open(stream)
    await log.reading.wait()
    hub.change_view(stream, view("auth"))
    assert stream.task is not None
    log.go.set()
    await stream.task
    assert peer.text.count(b'"category":"auth"') == 2
    assert b"billing" not in peer.text
    hub.forget(stream)
