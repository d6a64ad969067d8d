"""A destination of the type `http` loses nothing when gateway or receiver are killed."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from gateway_client import event, key_id
from gateways import Program, StartProgram

from tests.support.examples import examples
from tests.support.machine_time import eventually
from tests.support.scripted_receiver import (
    Received,
    Reply,
    ScriptedReceiver,
    cut_before_answer,
    cut_in_request,
    scripted_receiver,
)

_KILLS = examples(20, least=3)
_EVENTS = 300
HERE = {"destinations__allow_networks": "127.0.0.0/8"}


def ids_of(receiver: ScriptedReceiver) -> Counter[str]:
    """How often each event was taken."""
    lines = [line for body in receiver.bodies for line in body.splitlines()]
    return Counter(orjson.loads(line)["id"] for line in lines)


@asynccontextmanager
async def listening() -> AsyncIterator[ScriptedReceiver]:
    def takes(_: Received) -> Reply:
        return Reply(204)

    async with scripted_receiver(takes) as receiver:
        yield receiver


async def make(program: Program, port: int, **members: Any) -> None:
    reader = await program.mint({"actions": ["stream"], "categories": ["auth"]})
    body = {
        "name": "siem", "type": "http", "key": key_id(reader), "from": "start",
        "settings": {"url": f"http://127.0.0.1:{port}/in"}, "secrets": {"token": "s3cret"},
        "batch": {"max_events": 20, "max_wait": "10ms"}, "retry": {"min": "10ms", "max": "200ms"},
        **members,
    }  # fmt: skip
    answer = await program.post("/v1/destinations", key=program.admin, json=body)
    assert answer.status == 201, answer.body


async def test_nothing_is_lost_when_the_gateway_is_killed_at_any_moment(
    start_program: StartProgram,
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with listening() as receiver:
        program = await start_program(**HERE)
        await make(program, receiver.port)
        admin, sent = program.admin, set()
        for round_ in range(_KILLS):
            events = [event(id=f"{round_}-{n}", category="auth") for n in range(_EVENTS)]
            await program.send(*events)
            sent |= {one["id"] for one in events}
            wanted = len(sent) - chance.randrange(_EVENTS)
            await eventually(lambda: len(ids_of(receiver)) >= wanted, "some have arrived")  # noqa: B023
            await program.stop(signal.SIGKILL)
            program = await start_program(admin, **HERE)
        await eventually(lambda: ids_of(receiver).keys() >= sent, "all have arrived")
        assert ids_of(receiver).keys() == sent
        request = receiver.received[0]
        assert request.headers["authorization"] == "Bearer s3cret"


async def test_a_clean_stop_repeats_nothing_and_a_dead_receiver_loses_nothing(
    start_program: StartProgram,
) -> None:
    async with listening() as receiver:
        program = await start_program(**HERE)
        await make(program, receiver.port)
        first = [event(id=f"a{n}", category="auth") for n in range(_EVENTS)]
        await program.send(*first)
        await eventually(lambda: len(ids_of(receiver)) >= 50, "some have arrived")
        code, errors = await program.stop()
        assert code == 0, errors
        program = await start_program(program.admin, **HERE)
        await eventually(lambda: len(ids_of(receiver)) == _EVENTS, "all have arrived")
        assert set(ids_of(receiver).values()) == {1}
        # It closes each connection, and takes nothing, for a while.
        receiver.script.extend([cut_in_request, cut_before_answer, Reply(503)] * 3)
        second = [event(id=f"b{n}", category="auth") for n in range(_EVENTS)]
        await program.send(*second)
        await eventually(lambda: len(ids_of(receiver)) == 2 * _EVENTS, "all have arrived")
        assert not receiver.script
