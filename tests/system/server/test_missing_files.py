"""The data folder is taken away from under a gateway: what would be lost is not acknowledged."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from gateway_client import event
from gateways import Gateway

from gateway.access.credentials.pepper import pepper_id
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import new_key


def folder_of(gateway: Gateway) -> Path:
    return gateway.context.settings.data


async def test_a_folder_that_was_moved_away_is_noticed_and_is_used_again_when_it_is_back(
    gateway: Gateway, tmp_path: Path
) -> None:
    await gateway.send(event(id="1"))
    folder = folder_of(gateway)
    folder.rename(tmp_path / "elsewhere")
    refused = await gateway.post("/v1/events", json=event(id="2"))
    refused.problem(503, "store_gone")
    assert int(refused.headers["Retry-After"]) >= 1
    (await gateway.get("/readyz")).problem(503, "store_gone")
    assert not folder.exists()
    (tmp_path / "elsewhere").rename(folder)
    assert (await gateway.get("/readyz")).status == 200
    await gateway.send(event(id="3"))
    ids = {one["id"] for one in (await gateway.pull(category="auth"))["events"]}
    assert {"1", "3"} <= ids


@pytest.mark.parametrize(
    "name",
    [
        "log.db",
        "log.db-wal",
        "keys.db",
        "keys.db-wal",
        "usage.db",
        "consumers.db",
        "destinations.db",
    ],
)
async def test_each_file_is_looked_at(gateway: Gateway, name: str) -> None:
    await gateway.send(event(id="1"))
    assert (await gateway.get("/readyz")).status == 200
    file = folder_of(gateway) / name
    assert file.exists()
    file.rename(file.with_name("away"))
    (await gateway.get("/readyz")).problem(503, "store_gone")
    if name.startswith("log.db"):
        (await gateway.post("/v1/events", json=event(id="2"))).problem(503, "store_gone")
    if name.startswith("keys.db"):
        made = {"name": "n", "purpose": "p", "owner": "o"}
        answer = await gateway.post("/v1/keys", json=made, key=gateway.admin)
        answer.problem(503, "store_gone")
    file.with_name("away").rename(file)
    assert (await gateway.get("/readyz")).status == 200


async def test_another_file_in_its_place_is_not_taken_for_it(
    gateway: Gateway, tmp_path: Path
) -> None:
    await gateway.send(event(id="1"))
    folder = folder_of(gateway)
    shutil.copytree(folder, tmp_path / "copy")
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "copy").rename(folder)
    (await gateway.post("/v1/events", json=event(id="2"))).problem(503, "store_gone")
    (await gateway.get("/readyz")).problem(503, "store_gone")
    await asyncio.to_thread(shutil.rmtree, folder)
    (tmp_path / "elsewhere").rename(folder)
    await gateway.send(event(id="3"))


async def test_keys_that_need_a_pepper_that_is_not_here_are_named(gateway: Gateway) -> None:
    context = gateway.context
    other = bytes(range(32))
    key, _ = new_key(
        name="made elsewhere", purpose="p", owner="o", grants=(), now=context.clock.now(),
        life=3600, pepper=other,
    )  # fmt: skip
    await context.key_store.create(key)

    await context.enforcement.poll()
    wanted = f"1 living keys need the pepper {pepper_id(other)}"
    assert wanted in (await gateway.get("/readyz")).body.decode()
    await context.key_store.change(
        key.id, lambda found: lifecycle.revoke(found, context.clock.now(), "made by mistake")
    )
    await context.enforcement.poll()
    assert (await gateway.get("/readyz")).body == b"ready\n"
