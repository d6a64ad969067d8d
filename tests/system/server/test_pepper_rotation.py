"""The secret of the key digests is rotated under running gateways, and nobody notices."""

from __future__ import annotations

import asyncio
import json

from gateway_client import GatewayClient, event, key_id
from gateways import Gateway, Program, StartProgram, finish_program
from open_streams import open_stream
from test_tickets import cookie_of, opened, refused, ticket

from gateway.access.credentials.pepper import Peppers
from gateway.adapters.files.folder import DataFolder
from tests.support.machine_time import Stopwatch, eventually, patience


async def rotate(gateway: Gateway, *, leaked: bool = False) -> None:
    """Both steps at once, and the gateway knows of it."""
    file = DataFolder(gateway.context.settings.data).peppers
    file.change(lambda one: one.with_coming(bytes(32)).switched(leaked=leaked))
    await gateway.context.keyring.refresh()


async def forget(gateway: Gateway) -> None:
    """Only the current pepper is left."""
    DataFolder(gateway.context.settings.data).peppers.change(lambda one: Peppers((one.current,)))
    await gateway.context.keyring.refresh()


async def works(gateway: GatewayClient, key: str) -> bool:
    return (await gateway.get("/v1/events?limit=1", key=key)).status == 200


async def test_keys_and_their_streams_go_on_and_need_the_former_pepper_no_more(
    gateway: Gateway,
) -> None:
    used, unused = await gateway.reader_key(), await gateway.reader_key()
    stream = await open_stream(gateway, "ndjson", used)
    await rotate(gateway)
    assert await works(gateway, used)
    made = await gateway.reader_key()
    rotated = await gateway.post(f"/v1/keys/{key_id(used)}/rotate", key=gateway.admin)
    assert rotated.status == 201
    await gateway.send(event(id="1"))
    assert (await stream.event())["id"] == "1"
    await forget(gateway)
    for key in (used, made, rotated.json()["key"], gateway.admin, gateway.user):
        assert await works(gateway, key)
    (await gateway.get("/v1/events", key=unused)).problem(401, "invalid_key")


async def test_a_foreign_pepper_in_the_place_of_the_right_one_refuses_no_right_key(
    gateway: Gateway,
) -> None:
    file = DataFolder(gateway.context.settings.data).peppers
    right, key = file.path.read_bytes(), await gateway.reader_key()
    stream = await open_stream(gateway, "ndjson", key)
    file.path.write_bytes(bytes(32))
    await gateway.context.keyring.refresh()
    assert await works(gateway, key)
    assert await works(gateway, gateway.admin)
    made = await gateway.reader_key()
    current = gateway.context.keyring.peppers.current.id
    said = (await gateway.get("/readyz", key=None)).body.decode()
    assert f"living keys need the pepper {current}, which is no longer" in said
    assert await gateway.reasons() == {"pepper_missing"}
    await gateway.send(event(id="1"))
    assert (await stream.event())["id"] == "1"
    file.path.write_bytes(right)
    await gateway.context.keyring.refresh()
    assert (await gateway.get("/readyz", key=None)).body == b"ready\n"
    assert await works(gateway, made)


async def test_another_pepper_counts_once_no_living_key_needs_the_former(gateway: Gateway) -> None:
    file = DataFolder(gateway.context.settings.data).peppers
    key = await gateway.reader_key()
    file.path.write_bytes(bytes(32))
    await gateway.context.keyring.refresh()
    for one in (key, gateway.user, gateway.admin):
        assert await works(gateway, one)
        revoked = await gateway.post(
            f"/v1/keys/{key_id(one)}/revoke", json={"reason": "x"}, key=gateway.admin
        )
        assert revoked.status == 200
    await gateway.context.keyring.refresh()
    assert gateway.context.keyring.peppers.current.secret == bytes(32)
    assert gateway.context.keyring.missing_pepper == ""


async def test_the_record_tells_which_keys_have_moved(recording: Gateway) -> None:
    key = await recording.reader_key()
    await rotate(recording)
    assert await works(recording, key)
    asked = {"category": "gateway.keys", "action": "key.rehashed", "resource": f"key:{key_id(key)}"}

    async def told() -> bool:
        return len((await recording.pull(recording.admin, **asked))["events"]) == 1

    watch = Stopwatch()
    while not await told():
        assert watch.elapsed < patience(5)
        await asyncio.sleep(0.05)


async def test_tickets_go_on_after_a_rotation(gateway: Gateway) -> None:
    text = await ticket(gateway)
    await rotate(gateway)
    await opened(gateway, text)
    await opened(gateway, await ticket(gateway))


async def test_a_browser_reconnects_across_a_rotation(gateway: Gateway) -> None:
    text = await ticket(gateway)
    cookie = {"Cookie": cookie_of(await opened(gateway, text))}
    await rotate(gateway)
    await opened(gateway, text, headers=cookie)


async def test_tickets_and_cookies_of_a_leaked_pepper_open_nothing(gateway: Gateway) -> None:
    text, other = await ticket(gateway), await ticket(gateway)
    cookie = {"Cookie": cookie_of(await opened(gateway, text))}
    await rotate(gateway, leaked=True)
    (await refused(gateway, other)).problem(401, "invalid_ticket")
    (await refused(gateway, text, headers=cookie)).problem(401, "invalid_ticket")
    assert await works(gateway, gateway.user)
    await opened(gateway, await ticket(gateway))


async def command(program: Program, *arguments: str) -> str:
    code, said, errors = await finish_program(*arguments, "--data", str(program.data))
    assert code == 0, errors
    return said


async def test_it_is_rotated_by_command_under_several_workers_without_a_refusal(
    start_program: StartProgram,
) -> None:
    """Requests go on all the time, each on a connection of its own, to whichever worker."""
    program = await start_program(server__workers="2")
    refusals: list[int] = []
    asked = 0
    stopped = asyncio.Event()
    keys = [program.admin, program.user, await program.reader_key()]

    async def ask() -> None:
        nonlocal asked
        while not stopped.is_set():
            for one in keys:
                answer = await program.get(
                    "/v1/events?limit=1", key=one, headers={"Connection": "close"}
                )
                asked += 1
                if answer.status != 200:
                    refusals.append(answer.status)

    asking = [asyncio.create_task(ask()) for _ in range(2)]
    try:
        assert "is current" in await command(program, "pepper", "rotate")
        # At once: made with the new pepper, by the command and by a worker.
        keys.append(await program.reader_key())
        made = await command(
            program, "keys", "create", "--name", "n", "--purpose", "p", "--role", "siem-forwarder",
            "--json",
        )  # fmt: skip
        keys.append(json.loads(made)["key"])
        before = asked
        await eventually(lambda: asked > before + 50, "all workers were asked")
        peppers = json.loads(await command(program, "pepper", "status", "--json"))["peppers"]
        needing = [(one["standing"], one["keys"]) for one in peppers]
        assert needing == [("current", 5), ("previous", 0)]
        assert "is forgotten" in await command(program, "pepper", "forget")
        before = asked
        await eventually(lambda: asked > before + 50, "all workers were asked again")
    finally:
        stopped.set()
        await asyncio.gather(*asking)
    assert refusals == []
