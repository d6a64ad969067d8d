"""Wake-ups: at once when it is quiet, spaced when there are many, never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.access.keyring import Changes
from gateway.errors import Unavailable
from gateway.streaming.wakeups import APPENDED, KEYS, SpacedCalls, WakeUps
from tests.support.machine_time import patience


class Heard:
    """Signals that a test sends itself."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.listeners: dict[str, Callable[[], None]] = {}

    def send(self, name: str) -> None:
        self.sent.append(name)

    def listen(self, name: str, listener: Callable[[], None]) -> None:
        self.listeners[name] = listener


class Watch:
    """A key watch that counts its looks; each takes until `done` is set."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Changes], None]] = []
        self.on_change = self.listeners.append
        self.polls = 0
        self.done = asyncio.Event()
        self.error: Exception | None = None

    async def poll(self) -> None:
        self.polls += 1
        await self.done.wait()
        if self.error is not None:
            raise self.error


def woken(log: Callable[[], None] | None = None) -> tuple[Heard, Any, WakeUps]:
    signals, watch = Heard(), Watch()
    return signals, watch, WakeUps(signals, watch, log)  # type: ignore[arg-type]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_only_a_change_of_keys_or_roles_is_told() -> None:
    signals, watch, wake_ups = woken()
    [tell] = watch.listeners
    tell(Changes([], frozenset()))
    assert signals.sent == []
    tell(Changes([], frozenset({"auditor"})))
    wake_ups.announce_append()
    assert signals.sent == [KEYS, APPENDED]


async def test_what_is_heard_during_a_look_makes_one_more_look() -> None:
    signals, watch, _ = woken()
    for _ in range(3):
        signals.listeners[KEYS]()
    await turns()
    assert watch.polls == 1
    for _ in range(3):
        signals.listeners[KEYS]()
    watch.done.set()
    await turns()
    assert watch.polls == 2


async def test_a_look_that_fails_does_not_end_the_listening() -> None:
    signals, watch, _ = woken()
    watch.done.set()
    watch.error = Unavailable("away")
    for expected in (1, 2):
        signals.listeners[KEYS]()
        await turns()
        assert watch.polls == expected


async def test_closing_ends_a_look_that_is_under_way() -> None:
    signals, watch, wake_ups = woken()
    signals.listeners[KEYS]()
    await turns()
    async with asyncio.timeout(patience(1)):
        await wake_ups.close()
    assert watch.polls == 1


async def test_a_log_that_needs_no_wake_up_is_not_listened_for() -> None:
    assert APPENDED not in woken()[0].listeners
    assert APPENDED in woken(lambda: None)[0].listeners


async def test_many_calls_are_few_and_the_last_is_not_lost() -> None:
    loop = asyncio.get_running_loop()
    calls: list[float] = []
    late = asyncio.Event()

    def act() -> None:
        calls.append(loop.time())
        if len(calls) == 2:
            late.set()

    spaced = SpacedCalls(act, 0.05)
    for _ in range(100):
        spaced()
    assert len(calls) == 1, "the first comes at once"
    async with asyncio.timeout(patience(1)):
        await late.wait()
    assert calls[1] - calls[0] >= 0.04
    spaced()
    assert len(calls) == 2
