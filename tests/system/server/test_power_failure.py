"""Whatever way events come in, those that are acknowledged were synced: the power may fail then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import apsw
import orjson
import pytest
from gateway_client import event
from gateways import Gateway, Start
from test_single_events import producer
from test_streaming_ingest import upload

from tests.support.forgetful_disk import ForgetfulDisk, forgetful_disk

# Times that the power fails.
_TIMES = 12
# Events that are sent without waiting for one another.
_TOGETHER = 7


@pytest.fixture
def disk() -> Iterator[ForgetfulDisk]:
    """Under all databases of the gateway that is started behind it."""
    with forgetful_disk() as disk:
        yield disk


def names(time: int) -> list[str]:
    return [f"{time}-{number}" for number in range(_TOGETHER)]


async def batches(gateway: Gateway) -> AsyncIterator[list[str]]:
    for time in range(_TIMES):
        await gateway.send(*[event(id=name) for name in names(time)])
        yield names(time)


async def pipelined(gateway: Gateway) -> AsyncIterator[list[str]]:
    async with producer(gateway) as sender:
        for time in range(_TIMES):
            for name in names(time):
                sender.writer.write(sender.request(gateway.user, orjson.dumps(event(id=name))))
            for name in names(time):
                assert (await sender.answer()).status == 201
                yield [name]


async def streamed(gateway: Gateway) -> AsyncIterator[list[str]]:
    opened = await upload(gateway)
    upto = 0
    for time in range(_TIMES):
        for name in names(time):
            opened.events(event(id=name))
        while upto < (time + 1) * _TOGETHER:
            before, upto = upto, (await opened.line())["upto"]
            yield [f"{n // _TOGETHER}-{n % _TOGETHER}" for n in range(before, upto)]
    opened.end()
    await opened.rest()


@pytest.mark.parametrize("way", [batches, pipelined, streamed])
async def test_an_acknowledged_event_is_there_after_a_power_failure(
    way: Callable[[Gateway], AsyncIterator[list[str]]],
    disk: ForgetfulDisk,
    start: Start,
    taken: list[int],
    tmp_path: Path,
) -> None:
    gateway = await start()
    log = gateway.context.settings.data / "log.db"
    acknowledged: list[str] = []
    async for more in way(gateway):
        acknowledged += more
        found = disk.after_power_failure(log, tmp_path)
        connection = apsw.Connection(str(found), vfs=disk.base)
        try:
            rows = connection.execute("SELECT id FROM event WHERE category = 'auth'").fetchall()
        finally:
            connection.close()
        assert set(acknowledged) <= {name for (name,) in rows}
    assert len(acknowledged) == _TIMES * _TOGETHER
    assert (sum(taken) > _TOGETHER) == (way is pipelined)


@pytest.mark.parametrize(("synchronous", "kept"), [("full", 3), ("normal", 0)])
def test_the_disk_forgets_what_was_not_synced(
    synchronous: str, kept: int, disk: ForgetfulDisk, tmp_path: Path
) -> None:
    """So that the test above is one: of three acknowledged rows, `normal` keeps none."""
    path = tmp_path / "a.db"
    writer = apsw.Connection(str(path))
    writer.pragma("journal_mode", "wal")
    writer.execute("CREATE TABLE event (id TEXT)")
    writer.pragma("synchronous", synchronous)
    for number in range(3):
        writer.execute("INSERT INTO event VALUES (?)", (number,))
    (tmp_path / "found").mkdir()
    found = disk.after_power_failure(path, tmp_path / "found")
    reader = apsw.Connection(str(found), vfs=disk.base)
    rows = reader.execute("SELECT * FROM event").fetchall()
    reader.close()
    writer.close()
    assert len(rows) == kept
