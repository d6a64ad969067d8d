"""Gateways that are killed between a delivery and its acknowledgement, on both stores."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import orjson
import pytest
from gateway_client import GatewayClient
from gateways import Program, StartProgram
from open_streams import TEXT, masked, open_stream

from gateway.adapters.postgres.database import SCHEMA
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer, installations

_KILLS = 3
_EVENTS = 60


class Shipper:
    """Reads a consumer and acknowledges what it has, a few events at a time."""

    def __init__(self) -> None:
        self.got: Counter[str] = Counter()
        self.answered: set[str] = set()
        # Newest cursor that was acknowledged, and that was answered.
        self.newest = self.durable = ""
        self._at: dict[str, str] = {}

    async def ship(self, gateway: GatewayClient, key: str, enough: Callable[[], bool]) -> None:
        """Read until enough, or until the gateway is gone."""
        stream = await open_stream(
            gateway, "audit.v1", key, consumer="siem", from_="start", takeover="true"
        )
        while not enough():
            said = await stream.say()
            if said is None:
                break
            if said.kind == "event":
                one = said.content
                self.got[one["id"]] += 1
                assert one["id"] not in self.answered, "what was answered never comes again"
                self._at[one["cursor"]] = one["id"]
                if random.random() < 0.3:
                    ack = {"type": "ack", "cursor": one["cursor"]}
                    stream.write(masked(TEXT, orjson.dumps(ack)))
                    self.newest = one["cursor"]
            elif said.kind == "acked":
                self.durable = said.content["cursor"]
                self.answered |= {n for at, n in self._at.items() if at <= self.durable}
        stream.close()


@pytest.mark.parametrize("store", ["sqlite", f"postgres{max(installations())}"])
async def test_a_killed_gateway_loses_nothing_and_repeats_nothing_that_was_answered(
    store: str, start_program: StartProgram, server_of: Callable[[str], PostgresServer]
) -> None:
    async with AsyncExitStack() as stack:
        settings = {}
        if store != "sqlite":
            server = server_of(store.removeprefix("postgres"))
            settings["store__url"] = await stack.enter_async_context(server.database(SCHEMA))
        gateway: Program = await start_program(**settings)
        key = await gateway.reader_key(categories=["auth"])
        shipper, sent = Shipper(), []
        for kill in range(_KILLS + 1):
            sent += await gateway.send_many(_EVENTS)
            wanted = len(sent) - (0 if kill == _KILLS else random.randint(1, _EVENTS - 1))
            # At times before, and at times after an acknowledgement is answered.
            waits = kill % 2 == 1

            def enough(wanted: int = wanted, waits: bool = waits) -> bool:
                answered = not waits or shipper.durable == shipper.newest
                return len(shipper.got) >= wanted and answered

            async with asyncio.timeout(patience(30)):
                await shipper.ship(gateway, key, enough)
            if kill < _KILLS:
                await gateway.stop(signal.SIGKILL)
                gateway = await start_program(gateway.admin, **settings)
        assert set(shipper.got) == set(sent)
        assert shipper.answered
