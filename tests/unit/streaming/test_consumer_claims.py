"""Consumers that processes read: batches, claims across processes, and paused replicas.

The store is a real one; two processes share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.sqlite.consumers import SqliteConsumers
from gateway.errors import Conflict, Unavailable
from gateway.streaming.consumer_claims import ConsumerClaims
from gateway.streaming.consumer_pages import ConsumerPages, GivenPage
from gateway.streaming.consumers import claims as claims_module
from gateway.streaming.consumers.options import EXPLICIT, PONG, ConsumerOptions
from gateway.streaming.consumers.row import ConsumerKey, ConsumerRow, Move
from gateway.wire.framing import ACK_TIMEOUT, TAKEN_OVER
from tests.support.consumer_process import (
    PassingClock,
    Process,
    claim_of,
    commits,
    cursor,
)
from tests.support.machine_time import eventually

PING_BYTES = slice(2, 10)
KEY = ConsumerKey("k" * 12, "siem")


@pytest.fixture
def clock() -> PassingClock:
    return PassingClock()


@pytest.fixture
async def processes(tmp_path: Path, clock: PassingClock) -> AsyncIterator[list[Process]]:
    stores = [SqliteConsumers(tmp_path / "consumers.db") for _ in range(2)]
    yield [Process(store, clock) for store in stores]
    for store in stores:
        await store.close()


async def test_where_nothing_moves_only_claims_are_renewed(processes: list[Process]) -> None:
    process = processes[0]
    await process.read(KEY)
    before = commits(process)
    for _ in range(9):
        await process.second()
    assert commits(process) == before + 3


async def test_acknowledgements_that_are_waited_for_are_stored_together(
    processes: list[Process],
) -> None:
    process = processes[0]
    keys = [ConsumerKey(f"owner{number}", "c") for number in range(50)]
    for key in keys:
        reader, _ = await process.read(key)
        reader.delivered(9, range(5, 10), 100)
    before = commits(process)
    running = asyncio.ensure_future(process.claims.run())
    rows = await asyncio.gather(*(process.claims.acknowledge(key, cursor(7)) for key in keys))
    running.cancel()
    assert {row.cursor for row in rows} == {cursor(7)}
    assert commits(process) - before <= 2


async def test_readers_that_always_wait_for_an_answer_cost_twenty_transactions_a_second(
    tmp_path: Path,
) -> None:
    class Hasty(PassingClock):
        """Each wait has passed at once."""

        async def sleep(self, seconds: float) -> None:
            self.passed += seconds
            await asyncio.sleep(0)

    store, clock = SqliteConsumers(tmp_path / "consumers.db"), Hasty()
    process = Process(store, clock)

    async def acknowledge(key: ConsumerKey) -> None:
        for offset in range(1, 1000):
            await process.claims.acknowledge(key, cursor(offset))

    keys = [ConsumerKey(f"owner{number}", "c") for number in range(5)]
    for key in keys:
        reader, _ = await process.read(key)
        reader.delivered(1000, range(1, 1000), 100)
    before, began = commits(process), clock.monotonic()
    tasks = [asyncio.ensure_future(one) for one in (process.claims.run(), *map(acknowledge, keys))]
    await eventually(lambda: commits(process) - before >= 60)
    made = commits(process) - before
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert made <= 20 * (clock.monotonic() - began) + 1
    await store.close()


async def test_an_answered_acknowledgement_is_durable(processes: list[Process]) -> None:
    process, other = processes
    reader, peer = await process.read(KEY)
    reader.delivered(9, range(8, 10), 100)
    reader.received(1, b'{"type":"ack","cursor":"%b"}' % cursor(9).encode())
    assert peer.said == [], "not before it is stored"
    await process.claims.flush()
    assert peer.said == [("acked", {"cursor": cursor(9)})]
    row = await other.store.get(*KEY)
    assert row is not None
    assert row.cursor == cursor(9)


async def test_what_another_move_goes_ahead_of_is_answered_when_it_is_stored(
    processes: list[Process],
) -> None:
    process, other = processes
    reader, peer = await process.read(KEY)
    reader.delivered(9, range(8, 10), 100)
    stale = Move(at=process.clock.now(), generation=reader.row.generation - 1, cursor=cursor(9))
    await process.claims.move_later(KEY, stale)
    reader.received(1, b'{"type":"ack","cursor":"%b"}' % cursor(9).encode())
    for answers in ([], [("acked", {"cursor": cursor(9)})]):
        await process.claims.flush()
        row = await other.store.get(*KEY)
        assert row is not None
        assert peer.said == answers
        assert (row.cursor == cursor(9)) is bool(answers)


async def test_what_an_earlier_reader_was_sent_is_acknowledged_before_it_comes_again(
    processes: list[Process],
) -> None:
    process, other = processes
    reader, _ = await process.read(KEY)
    reader.delivered(9, range(1, 10), 100)
    await process.claims.flush()
    again, peer = await process.read(KEY, takeover=True)
    again.delivered(3, range(1, 4), 100)
    again.received(1, b'{"type":"ack","cursor":"%b"}' % cursor(8).encode())
    await process.claims.flush()
    assert peer.said == [("acked", {"cursor": cursor(8)})]
    row = await other.store.get(*KEY)
    assert row is not None
    assert row.cursor == cursor(8)
    again.delivered(9, range(4, 10), 100)
    assert again.window.unacknowledged == 1


async def test_an_acknowledgement_at_another_process_waits_until_what_was_looked_at_is_stored(
    processes: list[Process],
) -> None:
    holder, other = processes
    reader, _ = await holder.read(KEY)
    reader.delivered(50, (), 0)

    class Waiting(PassingClock):
        """Time passes for both processes while the other one waits."""

        def monotonic(self) -> float:
            return self.passed

        async def sleep(self, seconds: float) -> None:
            self.passed += seconds
            holder.clock.passed += seconds
            await holder.claims.flush(watch=True)

    claims = ConsumerClaims(other.store, Waiting(), 10)
    running = asyncio.ensure_future(claims.run())
    # No event is out, so it is stored with the claim's next renewal.
    row = await claims.acknowledge(KEY, cursor(50))
    assert row.cursor == cursor(50)
    running.cancel()


async def test_a_page_that_another_process_gave_just_now_can_be_acknowledged(
    processes: list[Process],
) -> None:
    giver, other = processes
    await giver.claims.claim(claim_of(KEY, holds=False))
    await giver.claims.move_later(KEY, Move(at=giver.clock.now(), generation=None, sent=cursor(9)))

    class Waiting(PassingClock):
        """The other process stores what it gave while this one waits."""

        def monotonic(self) -> float:
            return self.passed

        async def sleep(self, seconds: float) -> None:
            self.passed += seconds
            if self.passed > 1:
                await giver.claims.flush(watch=True)

    claims = ConsumerClaims(other.store, Waiting(), 10)
    running = asyncio.ensure_future(claims.run())
    row = await claims.acknowledge(KEY, cursor(9))
    assert row.cursor == cursor(9)
    with pytest.raises(Conflict, match="not sent yet"):
        await claims.acknowledge(KEY, cursor(10))
    running.cancel()


async def test_pages_of_before_a_rewind_move_nothing_wherever_they_are_stored(
    processes: list[Process], clock: PassingClock
) -> None:
    giver, other = processes
    pages = ConsumerPages(giver.claims, clock)
    row = await giver.claims.claim(claim_of(KEY, holds=False))
    await pages.given(row, GivenPage(cursor(9), 9, 0), None)
    # The other process knows nothing of the page.
    await other.claims.rewind(KEY, cursor(0))
    await giver.claims.flush()
    stored = await other.store.get(*KEY)
    assert stored is not None
    assert (stored.cursor, stored.sent) == (cursor(0), cursor(0))
    running = asyncio.ensure_future(giver.claims.run())
    # Nor does who asks for the page behind it, and looked at the row before.
    again = await pages.read_once(claim_of(KEY, acknowledges=cursor(9)), row)
    running.cancel()
    assert again.cursor == cursor(0)


async def test_a_page_and_its_acknowledgement_are_one_transaction(
    processes: list[Process], clock: PassingClock
) -> None:
    one = processes[0]
    pages = ConsumerPages(one.claims, clock)
    row = await one.claims.claim(claim_of(KEY, holds=False))
    before = commits(one)
    await pages.given(row, GivenPage(cursor(9), 9, 0), None)
    acknowledged = asyncio.ensure_future(one.claims.acknowledge(KEY, cursor(9)))
    await asyncio.sleep(0)
    await one.claims.flush()
    assert (await acknowledged).cursor == cursor(9)
    assert commits(one) - before == 1


async def test_a_gap_is_recorded_before_the_position_behind_it_is_stored(
    processes: list[Process],
) -> None:
    one = processes[0]
    told: list[str] = []
    away = [True]

    async def position() -> str:
        row = await one.store.get(*KEY)
        assert row is not None
        return row.cursor

    async def record(row: ConsumerRow, gap: dict[str, Any]) -> None:
        told.append(await position())
        if away[0]:
            raise Unavailable("the log is away")

    one.claims.on_gap(record)
    reader, peer = await one.read(KEY)
    reader.skipped({"cursor": cursor(50)})
    reader.delivered(60, [60], 100)
    reader.received(1, b'{"type":"ack","cursor":"%b"}' % cursor(60).encode())
    await one.claims.flush()
    assert (await position(), peer.said) == (cursor(0), [])
    away[0] = False
    await one.claims.flush()
    assert told == [cursor(0), cursor(0)]
    assert await position() == cursor(60)
    assert peer.said == [("acked", {"cursor": cursor(60)})]
    # Also of a reader that leaves with it.
    reader.skipped({"cursor": cursor(70)})
    await one.claims.close()
    assert told[2:] == [cursor(60)]


async def test_in_the_mode_pong_a_stream_is_not_ended_before_a_pong_could_acknowledge(
    processes: list[Process],
) -> None:
    process = processes[0]
    impatience = ConsumerOptions(ack_timeout=3.0)
    reader, impatient = await process.read(KEY, PONG, impatience)
    reader.delivered(9, range(1, 10), 100)
    for _ in range(12):
        await process.second()
    assert impatient.ended is None
    reader.received(10, impatient.written[-1][PING_BYTES])
    assert reader.window.unacknowledged == 0
    reader.delivered(19, range(11, 20), 100)
    for _ in range(22):
        await process.second()
    assert impatient.ended is ACK_TIMEOUT


async def test_a_peer_that_reads_no_answers_is_given_only_so_many(
    processes: list[Process],
) -> None:
    process = processes[0]
    reader, peer = await process.read(KEY)
    reader.delivered(9, range(1, 10), 100)
    peer.clear = False
    for text in (cursor(9), cursor(10), "nonsense"):
        for _ in range(1500):
            reader.received(1, b'{"type":"ack","cursor":"%b"}' % text.encode())
            if text == cursor(9) and not _ % 100:
                await process.claims.flush()
    assert len(peer.said) <= 1000
    peer.clear = True
    await process.claims.flush(watch=True)
    assert peer.said[-1] == ("acked", {"cursor": cursor(9)})


async def test_a_reader_that_was_overtaken_before_it_began_does_not_begin(
    processes: list[Process],
) -> None:
    process = processes[0]
    row = await process.claims.claim(claim_of(KEY))
    slow = process.reader(row, EXPLICIT)
    await process.read(KEY, takeover=True)
    with pytest.raises(Conflict):
        process.claims.refuse_overtaken(slow)


async def test_a_consumer_that_is_made_anew_is_moved_by_no_reader_of_the_one_before(
    processes: list[Process],
) -> None:
    process, other = processes
    reader, _ = await process.read(KEY)
    reader.delivered(9, range(1, 10), 100)
    reader.acknowledge(9)
    await other.claims.delete(KEY)
    process.clock.passed += 1
    await other.read(KEY)
    await process.claims.flush()
    row = await other.store.get(*KEY)
    assert row is not None
    assert (row.cursor, row.sent) == (cursor(0), cursor(0))


async def test_a_paused_replica_that_wakes_up_moves_nothing(processes: list[Process]) -> None:
    paused, other = processes
    reader, peer = await paused.read(KEY)
    reader.delivered(50, range(41, 51), 100)
    await paused.claims.flush()
    # It stands still for longer than its claim lasts, and somebody else takes over.
    paused.clock.passed += 60
    newer, newer_peer = await other.read(KEY)
    newer.delivered(20, range(16, 21), 100)
    newer.acknowledge(20)
    await other.claims.flush()
    reader.received(1, b'{"type":"ack","cursor":"%b"}' % cursor(50).encode())
    await paused.claims.flush(watch=True)
    assert peer.said == [], "what is not stored is not answered"
    row = await other.store.get(*KEY)
    assert row is not None
    assert (row.cursor, row.generation) == (cursor(20), newer.row.generation)
    assert peer.ended is TAKEN_OVER
    assert newer_peer.ended is None


async def test_a_holder_at_another_process_is_asked_and_keeps_what_it_has(
    processes: list[Process],
) -> None:
    holder, other = processes
    reader, peer = await holder.read(KEY)
    asking = asyncio.ensure_future(other.claims.claim(claim_of(KEY)))
    while not peer.written:
        await holder.claims.flush(watch=True)
        await asyncio.sleep(0.01)
    reader.received(10, peer.written[-1][PING_BYTES])
    await holder.claims.flush()
    with pytest.raises(Conflict) as caught:
        await asking
    assert caught.value.code == "consumer_in_use"
    assert peer.ended is None


async def test_a_holder_at_another_process_that_is_silent_gives_way(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(claims_module, "ELSEWHERE_SECONDS", 0.2)
    holder, other = processes
    reader, peer = await holder.read(KEY)
    row = await other.claims.claim(claim_of(KEY))
    assert row.generation == reader.row.generation + 1
    await holder.claims.flush(watch=True)
    assert peer.ended is TAKEN_OVER


async def test_an_acknowledgement_at_another_process_makes_room(processes: list[Process]) -> None:
    holder, other = processes
    reader, _ = await holder.read(KEY)
    reader.delivered(9, range(1, 10), 100)
    await holder.second()
    running = asyncio.ensure_future(other.claims.run())
    await other.claims.acknowledge(KEY, cursor(9))
    running.cancel()
    assert reader.window.unacknowledged == 9
    await holder.second()
    assert reader.window.unacknowledged == 0


async def test_what_another_process_has_just_sent_may_be_acknowledged(
    processes: list[Process],
) -> None:
    holder, other = processes
    reader, _ = await holder.read(KEY)
    reader.delivered(9, range(1, 10), 100)
    running = asyncio.ensure_future(other.claims.run())
    waiting = asyncio.ensure_future(other.claims.acknowledge(KEY, cursor(9)))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done, "it is not known yet that it was sent"
    await holder.claims.flush()
    assert (await waiting).cursor == cursor(9)
    running.cancel()


async def test_while_the_store_is_away_acknowledgements_wait(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = processes[0]
    reader, peer = await process.read(KEY)
    reader.delivered(9, range(1, 10), 100)
    reader.acknowledge(9)

    async def away(*arguments: Any) -> Any:
        raise Unavailable("away", code="store_unavailable")

    reader.received(1, b'{"type":"ack","cursor":"%b"}' % cursor(9).encode())
    with monkeypatch.context() as patch:
        patch.setattr(process.store, "commit", away)
        await process.second()
    assert peer.said == []
    await process.claims.flush()
    assert peer.said == [("acked", {"cursor": cursor(9)})]
    row = await process.store.get(*KEY)
    assert row is not None
    assert row.cursor == cursor(9)


async def test_the_end_of_a_process_stores_where_its_readers_are(
    processes: list[Process],
) -> None:
    process, other = processes
    reader, _ = await process.read(KEY)
    reader.delivered(9, range(1, 10), 100)
    reader.acknowledge(9)
    await process.claims.close()
    row = await other.store.get(*KEY)
    assert row is not None
    assert (row.cursor, row.lease_until) == (cursor(9), 0.0)


# One reader


async def test_a_pong_acknowledges_what_was_sent_a_while_before_its_ping(
    processes: list[Process],
) -> None:
    process = processes[0]
    reader, peer = await process.read(KEY, PONG)
    reader.delivered(3, range(1, 4), 100)
    for _ in range(7):
        process.clock.passed += 1
        reader.tick()
    reader.delivered(8, range(4, 9), 100)
    for _ in range(4):
        process.clock.passed += 1
        reader.tick()
    pings = [data[PING_BYTES] for data in peer.written]
    assert len({*pings}) == len(pings) == 2
    reader.received(10, b"another!")
    assert reader.window.unacknowledged == 8
    # The first ping came 5 seconds after the first events, and before the others.
    reader.received(10, pings[1])
    assert reader.window.unacknowledged == 5
    reader.received(10, pings[1])
    reader.received(10, pings[0])
    assert reader.window.position == 3


async def test_a_reader_that_acknowledges_nothing_for_long_is_ended(
    processes: list[Process],
) -> None:
    process = processes[0]
    reader, peer = await process.read(KEY)
    process.clock.passed += 100
    reader.tick()
    assert peer.ended is None, "nothing is out"
    reader.delivered(3, range(1, 4), 100)
    process.clock.passed += 59
    reader.tick()
    assert peer.ended is None
    process.clock.passed += 1
    reader.tick()
    assert peer.ended is ACK_TIMEOUT


async def test_what_is_sent_again_is_counted(processes: list[Process]) -> None:
    process = processes[0]
    reader, _ = await process.read(KEY)
    reader.delivered(10, range(1, 11), 100)
    reader.acknowledge(4)
    await process.claims.flush()
    again, _ = await process.read(KEY, takeover=True)
    again.delivered(12, range(5, 13), 100)
    assert again.redelivered == 6
