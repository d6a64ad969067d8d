"""One round of the event loop serves some sockets, each in its turn; the collector looks once."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import selectors
import socket
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from gateway.runtime.process import collector, memory
from gateway.runtime.process.collector import Collector
from gateway.runtime.process.event_loop import (
    AT_ONCE,
    BULK_SECONDS,
    FEW,
    SomeAtOnce,
    crowded,
    run,
    when_idle,
)
from gateway.runtime.process.memory import give_back_memory
from tests.conftest import FakeClock
from tests.support.machine_time import patience


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with ExitStack() as stack:
        made = [socket.socketpair() for _ in range(AT_ONCE + 5)]
        for one, other in made:
            stack.enter_context(one)
            stack.enter_context(other)
        yield made


def test_few_sockets_are_ready_at_once_and_each_has_its_turn(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    with SomeAtOnce() as selector:
        for one, other in pairs:
            selector.register(one, selectors.EVENT_READ)
            other.send(b"x")
        first = {key.fd for key, _ in selector.select(0)}
        for one, _ in pairs:
            if one.fileno() in first:
                one.recv(1)
        second = {key.fd for key, _ in selector.select(0)}
        assert len(first) == AT_ONCE
        assert first | second == {one.fileno() for one, _ in pairs}
        assert not first & second


def test_a_socket_that_is_waited_for_no_more_has_no_turn(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    with SomeAtOnce() as selector:
        for one, other in pairs:
            selector.register(one, selectors.EVENT_READ)
            other.send(b"x")
        served = {key.fd for key, _ in selector.select(0)}
        for one, _ in pairs:
            selector.unregister(one)
        assert served
        assert selector.select(0) == []


def test_a_bulk_transfer_waits_while_others_are_served(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    now = [0.0]
    (bulk, peer), *others = pairs
    some, more = others[: FEW + 1], others[FEW + 1 : 2 * FEW + 2]
    with SomeAtOnce(lambda: now[0]) as selector:
        for one, _ in pairs:
            selector.register(one, selectors.EVENT_READ)
        peer.send(b"x" * 100)

        def served(
            ready: list[tuple[socket.socket, socket.socket]], timeout: float | None = 0
        ) -> set[socket.socket]:
            for _, other in ready:
                other.send(b"x")
            found = {key.fd for key, _ in selector.select(timeout)}
            heard = {one for one, _ in pairs if one.fileno() in found}
            for one in heard:
                one.recv(1)
            return heard

        first, second = {one for one, _ in some}, {one for one, _ in more}
        assert served(some) == first | {bulk}
        # It has more to say at once, and none has been served before it.
        assert served(more) == second | {bulk}
        assert served(some) == first
        assert served([]) == set()
        assert served(more, None) == second | {bulk}
        assert served(some) == first
        now[0] += BULK_SECONDS
        assert served(more) == second | {bulk}


def test_a_listening_socket_is_no_bulk_transfer(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    some = pairs[: FEW + 1]
    with ExitStack() as stack:
        selector = stack.enter_context(SomeAtOnce(lambda: 0.0))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        selector.register(listening, selectors.EVENT_READ)
        for _ in range(3):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        for one, other in some:
            selector.register(one, selectors.EVENT_READ)
            other.send(b"xxx")
        for _ in range(3):
            assert listening.fileno() in {key.fd for key, _ in selector.select(0)}
            stack.enter_context(listening.accept()[0])


def test_a_timer_has_its_turn_while_hundreds_of_sockets_are_ready() -> None:
    seen: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            for _ in range(3 * AT_ONCE):
                one, other = socket.socketpair()
                stack.enter_context(one)
                stack.enter_context(other)
                other.send(b"x")
                loop.add_reader(one, seen.append, one.fileno())
            loop.call_soon(loop.call_soon, loop.call_soon, lambda: seen.append(-1))
            async with asyncio.timeout(patience()):
                while len(seen) < 3 * AT_ONCE:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            for descriptor in set(seen) - {-1}:
                loop.remove_reader(descriptor)

    run(main())
    # One of those that are ready again at once goes with each round.
    assert seen.index(-1) <= 2 * (AT_ONCE + 1)


@pytest.fixture
def own_collections() -> Iterator[Collector]:
    thresholds = gc.get_threshold()
    made = Collector()
    made.begin()
    yield made
    made.end()
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class _Circle:
    def __init__(self) -> None:
        self.itself = self


def test_what_has_survived_a_collection_is_left_out_of_the_next(
    own_collections: Collector,
) -> None:
    kept = [_Circle() for _ in range(2000)]
    before = gc.get_freeze_count()
    gc.collect()
    assert gc.get_freeze_count() >= before + len(kept)
    assert len(gc.get_objects(generation=2)) < len(kept)


async def test_circles_that_were_left_out_are_found_once_there_is_much(
    own_collections: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(collector, "_LEAST_GROWTH", 1000)
    monkeypatch.setattr(own_collections, "_kept", 0)
    garbage = _Circle()
    gone = weakref.ref(garbage)
    gc.collect()
    del garbage
    gc.collect()
    assert gone() is not None
    task = asyncio.create_task(own_collections.run(clock))
    await asyncio.sleep(0)
    await clock.advance(collector._THOROUGH_SECONDS + 1)
    assert gone() is None
    task.cancel()


async def test_memory_that_was_freed_between_blocks_in_use_goes_back() -> None:
    trim = memory._trim()
    if trim is None:
        pytest.skip("this C library has no malloc_trim")
    malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
    malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    free.argtypes = [ctypes.c_void_p]
    size, count = 64 * 1024, 1000
    # Else the blocks are put where the tests before this one have left memory, and nothing grows.
    trim(0)
    clock = FakeClock()
    task = asyncio.create_task(give_back_memory(clock))
    await asyncio.sleep(0)
    blocks = [malloc(size) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    taken = memory._resident()
    # Wherever they are, some stay in use between and above all that are freed.
    in_use = blocks[::10]
    for block in set(blocks) - set(in_use):
        free(block)
    await clock.advance(memory._EVERY_SECONDS + 1)
    for _ in range(1000):
        if memory._resident() < taken - size * count // 2:
            break
        await asyncio.sleep(0.005)
    else:
        pytest.fail("the memory is still there")
    for block in in_use:
        free(block)
    task.cancel()


def test_what_is_in_no_hurry_is_called_once_nothing_else_is_ready(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    now, called = [0.0], []
    with SomeAtOnce(lambda: now[0]) as selector:
        one, other = pairs[0]
        selector.register(one, selectors.EVENT_READ)
        for name in ("first", "second"):
            selector.when_idle(partial(called.append, name), 1.0)
        other.send(b"x")
        # A socket is ready, then the loop itself has something to do.
        assert selector.select(None)
        one.recv(1)
        assert selector.select(0) == []
        assert not called
        assert selector.select(None) == []
        assert called == ["first"]
        # And after its time, whatever is ready.
        other.send(b"x")
        now[0] = 1.0
        assert selector.select(0)
        assert called == ["first", "second"]


def test_the_loop_calls_it_behind_what_is_ready_and_reports_what_it_raises() -> None:
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, told: seen.append(repr(told["exception"])))
        when_idle(lambda: seen.append("idle"), patience())
        when_idle(lambda: [][0], patience())
        for name in ("a", "b", "c"):
            loop.call_soon(seen.append, name)
            await asyncio.sleep(0)
        async with asyncio.timeout(patience()):
            while len(seen) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

    run(main())
    assert seen == ["a", "b", "c", "idle", repr(IndexError("list index out of range"))]


async def test_another_loop_calls_it_soon() -> None:
    called = asyncio.Event()
    when_idle(called.set, patience())
    await asyncio.wait_for(called.wait(), patience())
    assert not crowded()
