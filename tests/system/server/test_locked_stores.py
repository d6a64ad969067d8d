"""A lock that another process holds on the keys' file delays nobody but those who change keys."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import pytest
from gateway_client import event, key_id
from gateways import Gateway, Start
from open_streams import open_stream


@contextmanager
def locked_keys(gateway: Gateway) -> Iterator[apsw.Connection]:
    holder = apsw.Connection(str(gateway.context.settings.data / "keys.db"))
    holder.set_busy_timeout(5000)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield holder
    finally:
        holder.close()


@pytest.mark.parametrize("transport", ["sse", "audit.v1"])
async def test_delivery_and_heartbeats_go_on_while_the_keys_file_is_locked(
    gateway: Gateway, transport: str
) -> None:
    key = await gateway.reader_key()
    stream = await open_stream(gateway, transport, key)
    with locked_keys(gateway):
        revoking = asyncio.ensure_future(gateway.revoke(key))
        for n in range(20):
            await gateway.send(event(data={"n": n}))
            [one] = await stream.take(1)
            assert one["data"]["n"] == n
            assert (await gateway.get("/healthz")).status == 200
        assert not revoking.done(), "it waits for its turn"
    await revoking
    assert (await stream.to_end())["reason"] == "key_revoked"


async def test_a_revocation_by_whoever_holds_the_lock_ends_streams(gateway: Gateway) -> None:
    key, other = await gateway.reader_key(), await gateway.reader_key()
    stream = await open_stream(gateway, "sse", key)
    with locked_keys(gateway) as holder:
        # These wait, and so would a look at the keys if it stood in line with them.
        waiting = asyncio.ensure_future(gateway.revoke(other))
        holder.execute(
            "UPDATE key SET document = CAST(json_set(CAST(document AS TEXT),"
            " '$.revoked_at', 1.0) AS BLOB),"
            " revision = (SELECT max(revision) + 1 FROM key) WHERE id = ?",
            (key_id(key),),
        )
        holder.execute("COMMIT")
        holder.execute("BEGIN IMMEDIATE")
        assert (await stream.to_end())["reason"] == "key_revoked"
    await waiting


async def test_who_changes_a_key_is_told_to_come_again_when_the_file_stays_locked(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapters.sqlite.database._BUSY_MILLISECONDS", 50)
    gateway = await start()
    key = await gateway.reader_key()
    with locked_keys(gateway):
        answer = await gateway.post(f"/v1/keys/{key_id(key)}/revoke", key=gateway.admin)
    answer.problem(503, "store_unavailable")
    assert answer.headers["Retry-After"] == "5"
    await gateway.revoke(key)
