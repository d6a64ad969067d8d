"""Every type of destination that speaks HTTP, against receivers that do not behave."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from gateway.delivery.outlets.outlet import DeliveryResult, DeliveryVerdict, Outlet
from tests.support.bad_receivers import BAD
from tests.support.outlets import HTTP_CASES, SECRET, HttpCase, batch_of, connected
from tests.support.scripted_receiver import Reply, ScriptedReceiver, Step, endless, gzip_bomb

SUCCESS, TRANSIENT, _, CONFIG = DeliveryResult
_ECHO = Reply(500, b"no: " + SECRET.encode())

each_type = pytest.mark.parametrize("name", HTTP_CASES)


async def sent(outlet: Outlet, receiver: ScriptedReceiver, *steps: Step) -> DeliveryVerdict:
    """Verdict of a batch of new events, as a receiver may know the others."""
    receiver.script.extend(steps)
    first = 1 + 3 * len(receiver.received)
    return await outlet.send(batch_of(outlet, first=first))


@each_type
async def test_bad_answers_lose_nothing_and_the_next_request_works(name: str) -> None:
    case = HTTP_CASES[name]
    async with connected(case) as (outlet, receiver):
        assert (await sent(outlet, receiver)).result is SUCCESS
        for what, bad in BAD.items():
            expected = SUCCESS if bad.lies and case.any_success else bad.result
            # A request that may be repeated is, once, by the client.
            steps = [bad.step] * (2 if bad.breaks and case.puts else 1)
            verdict = await sent(outlet, receiver, *steps)
            receiver.script.clear()
            assert verdict.result == expected, what
            assert not verdict.refused, what
            if expected is not SUCCESS:
                assert verdict.kind, what
                assert len(verdict.message) <= 200, what
                assert verdict.delivered(3) == frozenset(), what
            again = await sent(outlet, receiver)
            assert again.result is SUCCESS, what
            assert again.delivered(3) == {0, 1, 2}, what


@each_type
async def test_no_whole_answer_in_time_is_tried_again_whatever_comes_later(name: str) -> None:
    case = HTTP_CASES[name]
    async with connected(case, request_timeout=0.15) as (outlet, receiver):
        late = asyncio.Event()
        reply = Reply(200, b"x" * 100)
        steps = (receiver.hang, receiver.trickle(reply), receiver.late(reply, late))
        for step in steps:
            verdict = await sent(outlet, receiver, step)
            assert (verdict.result, verdict.kind) == (TRANSIENT, "timeout")
        late.set()
    async with connected(case) as (outlet, receiver):
        assert (await sent(outlet, receiver)).result is SUCCESS


@each_type
async def test_pauses_that_a_receiver_asks_for_are_handed_on(name: str) -> None:
    async with connected(HTTP_CASES[name]) as (outlet, receiver):
        for text, least, most in (
            ("7", 7.0, 7.0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 900.0, 900.0),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0, 0.0),
        ):
            for status in (429, 503):
                step = Reply(status, headers={"Retry-After": text})
                assert least <= (await sent(outlet, receiver, step)).retry_after <= most


@each_type
async def test_a_receiver_that_repeats_the_secret_gets_it_into_no_verdict(name: str) -> None:
    case = HTTP_CASES[name]
    async with connected(case) as (outlet, receiver):
        for status in (400, 401, 429, 503):
            verdict = await sent(outlet, receiver, _ECHO._replace(status=status))
            assert SECRET not in repr(verdict)
            assert "no: ***" in verdict.message
        assert case.signs or any(SECRET in repr(one.headers) for one in receiver.received)


@each_type
async def test_what_a_receiver_answers_takes_no_memory(name: str) -> None:
    async with connected(HTTP_CASES[name]) as (outlet, receiver):
        await sent(outlet, receiver)
        tracemalloc.start()
        try:
            await sent(outlet, receiver, endless(500))
            await sent(outlet, receiver, gzip_bomb(500, 64 << 20))
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


@each_type
async def test_the_test_event_goes_the_same_way(name: str) -> None:
    async with connected(HTTP_CASES[name]) as (outlet, receiver):
        [encoded] = batch_of(outlet, 1)
        assert (await outlet.test(encoded)).result is SUCCESS
        receiver.script.append(Reply(401))
        assert (await outlet.test(encoded)).result is CONFIG
        assert len(receiver.received) == 2


@each_type
async def test_an_event_is_encoded_to_the_same_bytes_each_time(name: str) -> None:
    async with connected(HTTP_CASES[name]) as (outlet, _):
        assert batch_of(outlet) == batch_of(outlet)


@pytest.mark.parametrize("name", [name for name, case in HTTP_CASES.items() if not case.signs])
async def test_headers_that_secrets_would_break_are_of_the_configuration(name: str) -> None:
    case: HttpCase = HTTP_CASES[name]
    secrets = {kind: ["bad\r\nX-Injected: yes"] for kind in case.secrets}
    async with connected(case, secrets=secrets) as (outlet, receiver):
        verdict = await sent(outlet, receiver)
        assert verdict.result is CONFIG
        assert "Injected" not in repr(verdict)
        assert receiver.connections == 0
