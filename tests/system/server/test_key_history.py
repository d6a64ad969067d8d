"""What is recorded of a key's administration and shown of its use: history, last use, warnings."""

from __future__ import annotations

import asyncio
import time

import orjson
from gateway_client import event, key_id
from gateways import Gateway, ShiftedClock, Start, StartProgram, finish_program
from open_streams import TRANSPORTS, open_stream
from use_record import ACCESS, KEYS, about, told

# Administration


async def test_every_change_of_a_key_is_recorded_with_who_made_it(recording: Gateway) -> None:
    key = await recording.reader_key(categories=["auth"])
    path = f"/v1/keys/{key_id(key)}"
    for change in ("suspend", "resume"):
        answer = await recording.post(
            f"{path}/{change}", key=recording.admin, json={"reason": f"to {change}"}
        )
        assert answer.status == 200
    successor = (await recording.post(f"{path}/rotate", key=recording.admin)).json()["key"]
    await recording.post(f"{path}/revoke", key=recording.admin, json={"reason": "done"})
    found = await told(recording, 6, category=KEYS, resource=about(key))
    assert [(one["action"], one.get("reason")) for one in found] == [
        ("key.created", None), ("key.suspended", "to suspend"), ("key.resumed", None),
        ("key.rotated", None), ("key.created", None), ("key.revoked", "done"),
    ]  # fmt: skip
    assert {one["actor"]["key_id"] for one in found} == {key_id(recording.admin)}
    assert found[0]["data"]["grants"][0]["categories"] == ["auth"]
    assert found[3]["data"]["successor"] == key_id(successor)
    requests = await told(
        recording, action="requested", category=ACCESS, resource=about(key),
        where=lambda one: "suspend" in one["data"]["route"],
    )  # fmt: skip
    assert requests[0]["actor"]["key_id"] == key_id(recording.admin)


async def test_changes_of_roles_are_recorded(recording: Gateway) -> None:
    role = {"grants": [{"actions": ["pull"], "categories": ["auth"]}]}
    await recording.request("PUT", "/v1/roles/soc", key=recording.admin, json=role)
    await recording.request("DELETE", "/v1/roles/soc", key=recording.admin)
    found = await told(recording, 2, category=KEYS, resource="role:soc")
    assert [one["action"] for one in found] == ["role.put", "role.deleted"]
    assert found[0]["actor"]["key_id"] == key_id(recording.admin)
    assert found[0]["data"]["grants"][0]["actions"] == ["pull"]


async def test_a_change_on_the_folder_is_recorded_once_by_however_many_workers(
    start_program: StartProgram,
) -> None:
    program = await start_program(server__workers="2")
    data = str(program.data)
    status, out, errors = await finish_program(
        "keys", "create", "--data", data, "--name", "n", "--purpose", "p", "--json"
    )
    assert status == 0, errors
    made = orjson.loads(out)["id"]
    status, _, errors = await finish_program(
        "keys", "revoke", made, "--data", data, "--reason", "again"
    )
    assert status == 0, errors
    await told(program, 2, category=KEYS, resource=f"key:{made}")
    await asyncio.sleep(1)
    found = await told(program, 2, category=KEYS, resource=f"key:{made}")
    assert [(one["action"], one["actor"]["type"]) for one in found] == [
        ("key.created", "program"), ("key.revoked", "program"),
    ]  # fmt: skip


# Ends and restarts


async def test_everything_is_in_the_log_before_it_is_closed(start_program: StartProgram) -> None:
    program = await start_program()
    key = await program.reader_key()
    await open_stream(program, "sse", key)
    await program.pull(key)
    await program.stop()
    again = await start_program(program.admin)
    found = await told(again, 3, category=ACCESS, resource=about(key))
    shown = [(one["action"], one.get("reason")) for one in found]
    assert sorted(shown, key=str) == [
        ("events.pulled", None), ("stream.closed", "restart"), ("stream.opened", None),
    ]  # fmt: skip


# What is shown of it


async def test_the_history_of_a_key_is_paged_and_complete(recording: Gateway) -> None:
    key, other = await recording.reader_key(), await recording.reader_key()
    for _ in range(3):
        await recording.pull(key)
        await recording.pull(other)
    await recording.get("/v1/keys", key=key)
    await recording.post(f"/v1/keys/{key_id(key)}/suspend", key=recording.admin)
    expected = {"key.created", "events.pulled", "request.denied", "key.suspended", "requested"}
    await told(recording, actions=expected, resource=about(key))
    path = f"/v1/keys/{key_id(key)}/history"
    cursor, events = None, []
    for _ in range(20):
        params = {"limit": "1", **({"after": cursor} if cursor else {})}
        page = (await recording.get(path, key=recording.admin, params=params)).json()
        events += page["events"]
        cursor = page["cursor"]
        if not page["has_more"]:
            break
    actions = [one["action"] for one in events]
    assert set(actions) == expected
    for one in events:
        urns = [target["urn"] for target in one.get("targets", [])]
        assert about(key) in urns or one["actor"]["id"] == key_id(key)
    assert len({one["id"] for one in events}) == len(events)


async def test_the_history_shows_what_the_asking_key_may_see(recording: Gateway) -> None:
    key = await recording.reader_key()
    await recording.pull(key)
    await told(recording, actions=["key.created", "events.pulled"], resource=about(key))
    path = f"/v1/keys/{key_id(key)}/history"
    keys_only = await recording.reader_key(categories=["gateway.keys"])
    page = (await recording.get(path, key=keys_only)).json()
    assert {one["category"] for one in page["events"]} == {KEYS}
    assert (await recording.get(path, key=await recording.reader_key())).json()["events"] == []
    streams_only = await recording.mint({"actions": ["stream"], "categories": ["gateway.**"]})
    (await recording.get(path, key=streams_only)).problem(403, "action_not_granted")
    unknown = await recording.get(f"/v1/keys/{'x' * 12}/history", key=recording.admin)
    unknown.problem(404, "unknown_key")
    bad = await recording.get(path + "?since=1h", key=recording.admin)
    bad.problem(400, "unknown_parameter")
    gone = await recording.get(path + f"?after=abc-{99:020d}", key=recording.admin)
    gone.problem(410, "cursor_unknown")


async def test_the_history_tells_nobody_whether_there_is_a_key_whose_records_they_do_not_see(
    recording: Gateway,
) -> None:
    reader = await recording.reader_key()
    pages = [
        (await recording.get(f"/v1/keys/{one}/history", key=reader)).json()
        for one in (key_id(recording.admin), "x" * 12)
    ]
    assert all((page["events"], page["has_more"]) == ([], False) for page in pages)


async def test_the_last_use_of_a_key_is_shown_with_address_and_client(
    gateway: Gateway,
) -> None:
    key = await gateway.reader_key()
    path = f"/v1/keys/{key_id(key)}"
    assert (await gateway.get(path, key=gateway.admin)).json()["last_used"] is None
    before = time.time()
    await gateway.get("/v1/events", key=key, headers={"User-Agent": "vector/0.40"})
    last = (await gateway.get(path, key=gateway.admin)).json()["last_used"]
    assert (last["address"], last["client"]) == ("127.0.0.1", "vector/0.40")
    assert last["at"] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    await gateway.revoke(key)
    await gateway.get("/v1/events", key=key, headers={"User-Agent": "thief"})
    again = (await gateway.get(path, key=gateway.admin)).json()["last_used"]
    assert again == last, "who is refused has not used it"


async def test_the_command_line_shows_last_use_and_history(start_program: StartProgram) -> None:
    program = await start_program(record__delay="0s")
    key = await program.reader_key()
    await program.get("/v1/events", key=key, headers={"User-Agent": "vector"})
    await told(program, actions=["key.created", "events.pulled"], resource=about(key))
    arguments = (key_id(key), "--data", str(program.data))
    status, out, errors = await finish_program("keys", "history", *arguments)
    assert status == 0, errors
    # That the history was looked at may stand there already.
    created, pulled, *_ = sorted(line for line in out.splitlines() if "requested" not in line)
    assert "key.created" in created
    assert "events.pulled" in pulled
    assert "127.0.0.1" in pulled
    status, out, _ = await finish_program("keys", "history", *arguments, "--json", "--since", "1h")
    actions = [orjson.loads(line)["action"] for line in out.splitlines()]
    assert sorted(set(actions) - {"requested"}) == ["events.pulled", "key.created"]
    status, _, errors = await finish_program(
        "keys", "history", "x" * 12, "--data", str(program.data)
    )
    assert (status, "there is no key" in errors) == (4, True)
    await program.stop()
    status, out, _ = await finish_program("keys", "show", *arguments)
    assert orjson.loads(out)["last_used"]["address"] == "127.0.0.1"


# Warnings


async def test_streams_are_told_that_their_key_is_about_to_expire(
    start: Start, shifted: ShiftedClock
) -> None:
    gateway = await start(shifted)
    key = await gateway.reader_key()
    other = await gateway.mint({"actions": ["stream"], "categories": ["**"]}, expires_in="10d")
    wires = {name: await open_stream(gateway, name, key) for name in TRANSPORTS}
    quiet = await open_stream(gateway, "sse", other)
    shown = await gateway.get(f"/v1/keys/{key_id(other)}", key=gateway.admin)
    expires = shown.json()["expires_at"]
    shifted.shift = 3.2 * 86400
    notice = await quiet.next("notice")
    assert notice.content == {"code": "key_expiring", "expires_at": expires}
    [warned] = await told(gateway, action="key.expiring", resource=about(other))
    assert warned["data"]["expires_at"] == expires
    shifted.shift = 60.2 * 86400
    for name, stream in wires.items():
        if name != "websocket":
            assert (await stream.next("notice")).content["code"] == "key_expiring"
    await gateway.send(event(id="after"))
    # A client without control messages is told nothing, and gets its events as before.
    assert (await wires["websocket"].event())["id"] == "after"
    assert [said.kind for said in wires["websocket"].others if said.kind != "ping"] == []
    assert (await wires["sse"].event())["id"] == "after"
