"""Everybody who waits for a notifier is woken, and nobody is held up by how many they are."""

from __future__ import annotations

import asyncio

from gateway.notifier import _AT_ONCE, Notifier

COUNT = 10 * _AT_ONCE


async def test_thousands_who_wait_are_woken_some_in_each_round_of_the_loop() -> None:
    notifier, held, woken, rounds, most = Notifier(), False, 0, 0, 0

    async def waits() -> None:
        nonlocal woken
        assert await notifier.until(lambda: held, 60)
        woken += 1

    waiting = [asyncio.create_task(waits()) for _ in range(COUNT)]
    await asyncio.sleep(0)
    held = True
    notifier.notify()
    while woken < COUNT:
        before = woken
        await asyncio.sleep(0)
        rounds, most = rounds + 1, max(most, woken - before)
    await asyncio.gather(*waiting)
    assert most <= 2 * _AT_ONCE
    assert rounds >= COUNT // (2 * _AT_ONCE)


async def test_a_beat_while_others_are_woken_reaches_who_waits_again() -> None:
    notifier, beats, seen = Notifier(), 0, [0] * COUNT

    async def waits(number: int) -> None:
        while seen[number] < 3:
            assert await notifier.until(lambda: beats > seen[number], 60)
            seen[number] = beats

    waiting = [asyncio.create_task(waits(number)) for number in range(COUNT)]
    while beats < 3:
        await asyncio.sleep(0)
        beats += 1
        notifier.notify()
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)


async def test_who_gives_up_waiting_is_forgotten() -> None:
    notifier = Notifier()
    assert not await notifier.until(lambda: False, 0)
    cancelled = asyncio.create_task(notifier.until(lambda: False, 60))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    assert not notifier._waiting
