"""Rows that another version, or a damaged disk, has left in the key store lock nobody out."""

from __future__ import annotations

from typing import Any

import apsw
import pytest
from gateways import Gateway

from gateway.oversight.detection.operator_profile import Command

AUTH = {"actions": ["stream", "pull"], "categories": ["auth"]}
BODY = {"name": "n", "purpose": "p", "owner": "o", "grants": [AUTH]}
WHOLE = (
    b'{"id":"%s","digest":"","name":"n","purpose":"p","created_at":%s,"expires_at":%s,"grants":%s}'
)
DOCUMENTS = [
    b"", b"null", b"[]", b"{", b'{"id":1}', b"\xff\xfe", b"[" * 5_000, b'{"grants":' + b"[" * 5_000,
    WHOLE % (b"Z" * 12, b"1e300", b"1e300", b"[]"), WHOLE % (b"Z" * 12, b"-1e300", b"5", b"[]"),
    WHOLE % (b"Z" * 12, b"1", b"2", b'[{"effect":[]},5,null]'),
]  # fmt: skip


def connected(gateway: Gateway) -> apsw.Connection:
    return apsw.Connection(str(gateway.context.settings.data / "keys.db"))


def put_garbage(connection: apsw.Connection) -> None:
    for number, document in enumerate(DOCUMENTS):
        connection.execute(
            "INSERT INTO key VALUES (?, ?, ?, (SELECT max(revision) + 1 FROM key))",
            (f"Z{number:011}", b"d" * 32, document),
        )
        connection.execute("UPDATE role_version SET version = version + 1")
        connection.execute(
            "INSERT INTO role VALUES (?, ?, (SELECT version FROM role_version))",
            (f"bad-{number}", document or b"x"),
        )
        connection.execute("INSERT INTO change (document) VALUES (?)", (document,))


async def test_whatever_stands_in_rows_of_keys_and_roles_the_others_work_on(
    gateway: Gateway,
) -> None:
    before = await gateway.mint(AUTH)
    with connected(gateway) as connection:
        put_garbage(connection)
    await gateway.context.enforcement.poll()
    listed = (await gateway.get("/v1/keys", key=gateway.admin)).json()["keys"]
    states = {one["id"]: one["state"] for one in listed}
    assert all(states[f"Z{number:011}"] == "unreadable" for number in range(10))
    assert (await gateway.get("/v1/roles", key=gateway.admin)).status == 200
    assert (await gateway.get("/v1/events", key=before)).status == 200
    made = await gateway.post("/v1/keys", key=gateway.admin, json=BODY)
    assert made.status == 201
    body = {"with_descendants": True}
    path = f"/v1/keys/{made.json()['id']}/revoke"
    assert (await gateway.post(path, key=gateway.admin, json=body)).status == 200
    found = await gateway.get("/v1/keys/Z00000000006/document", key=gateway.admin)
    assert found.status == 200
    await gateway.context.detector.poll()
    findings = (await gateway.get("/v1/findings?signal=unreadable", key=gateway.admin)).json()
    assert {f"Z{number:011}" for number in range(10)} <= {
        one["key"] for one in findings["findings"]
    }


@pytest.mark.parametrize("note", [b"\xff{", b'{"people":5,"used_at":"x","id":5}', b"[" * 5_000])
async def test_whatever_stands_in_notes_the_watch_goes_on(gateway: Gateway, note: bytes) -> None:
    key = await gateway.mint(AUTH)
    rotated: Any = await gateway.post(f"/v1/keys/{key[5:17]}/rotate", key=gateway.admin, json={})
    with connected(gateway) as connection:
        for kind, name in (
            ("operators", "all"), ("finding", "garbage"), ("trace", key[5:17]),
            ("trace", rotated.json()["id"]), ("volume", key[5:17]), ("requests", key[5:17]),
        ):  # fmt: skip
            connection.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", (kind, name, note))
    for one in (key, rotated.json()["key"]):
        for _ in range(6):
            (await gateway.get("/v1/keys", key=one)).problem(403, "action_not_granted")

    detector = gateway.context.detector
    detector.operators.observe(Command("cli:ada", gateway.context.clock.now()))
    await detector.poll()
    answer = await gateway.get("/v1/findings?signal=denials", key=gateway.admin)
    assert len(answer.json()["findings"]) == 2
