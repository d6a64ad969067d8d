"""Acknowledged single events are stored once, in order, whenever the program is killed."""

from __future__ import annotations

import asyncio
import random
import signal

import orjson
from gateway_client import event
from gateways import Program, StartProgram
from test_single_events import Producer

from tests.support.examples import examples
from tests.support.machine_time import patience

# Pipelining producers, and the requests that each has in flight.
_PRODUCERS = 3
_IN_FLIGHT = 64
_KILLS = examples(200, least=5, share=40)


class Enough:
    """Counts acknowledgements; `reached` is set at the last of them."""

    def __init__(self, left: int) -> None:
        self._left = left
        self.reached = asyncio.Event()

    def count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.reached.set()


class Sender:
    """Sends events numbered from 0, each again until it is acknowledged."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged: dict[int, str] = {}
        self.duplicates = 0

    def body(self, number: int) -> bytes:
        return orjson.dumps(event(id=f"{self.name}-{number}", data={"text": "a" * 500}))

    async def send(self, gateway: Program, until: int, enough: Enough) -> None:
        """Send from the first one that is not acknowledged, until that many are or it is gone."""
        reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
        producer = Producer(reader, writer)
        waiting: list[int] = []
        number = len(self.acknowledged)
        try:
            while len(self.acknowledged) < until:
                while len(waiting) < _IN_FLIGHT:
                    writer.write(producer.request(gateway.user, self.body(number)))
                    waiting.append(number)
                    number += 1
                answer = await producer.answer()
                assert answer.status == 201, answer.document
                self.duplicates += answer.document["duplicates"]
                self.acknowledged[waiting.pop(0)] = answer.document["last_cursor"]
                enough.count()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def test_what_was_acknowledged_is_there_once_after_any_number_of_kills(
    start_program: StartProgram,
) -> None:
    senders = [Sender(f"p{n}") for n in range(_PRODUCERS)]
    gateway = await start_program()
    admin = gateway.admin
    for _ in range(_KILLS):
        user = gateway.user
        enough = Enough(random.randint(1, 900))
        wanted = [len(one.acknowledged) + 400 for one in senders]
        sending = [
            asyncio.create_task(one.send(gateway, most, enough))
            for one, most in zip(senders, wanted, strict=True)
        ]
        async with asyncio.timeout(patience(20)):
            await enough.reached.wait()
        await gateway.stop(signal.SIGKILL)
        await asyncio.gather(*sending)
        gateway = await start_program(key=admin)
        gateway.user = user
    stored: dict[str, str] = {}
    cursor = ""
    while True:
        where = {"after": cursor} if cursor else {"from_": "start"}
        page = await gateway.pull(**where, limit="1000", category="auth")
        for found in page["events"]:
            assert found["id"] not in stored
            stored[found["id"]] = found["cursor"]
        if cursor == page["cursor"]:
            break
        cursor = page["cursor"]
    for one in senders:
        sent = [f"{one.name}-{number}" for number in one.acknowledged]
        assert [stored[name] for name in sent] == [*one.acknowledged.values()]
        cursors = [stored[name] for name in sent]
        assert cursors == sorted(cursors)
