"""Destinations of the configuration: read-only for others, with secrets that stand elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner
from gateway_client import event, key_id
from gateways import Gateway
from msgspec.structs import replace

from gateway.cli.main import cli
from gateway.delivery.administration import Stores
from gateway.delivery.destination import OWNER, Destination
from gateway.errors import GatewayError, InvalidSetting
from gateway.runtime.compose import running
from gateway.runtime.declared import Declared
from gateway.settings.declarations import Settings
from gateway.settings.load import load
from gateway.settings.server import ServerSettings
from tests.support.machine_time import becomes, eventually
from tests.support.scripted_receiver import Received, Reply, scripted_receiver

StartWith = Callable[..., AbstractAsyncContextManager[Gateway]]
PATH = "/v1/destinations/siem"


@pytest.fixture
def start_with(tmp_path: Path, session: aiohttp.ClientSession) -> StartWith:
    """Start a gateway on one folder with the tables of destinations; its first key stays."""
    keys: list[str] = []
    settings = Settings(data=tmp_path / "data", server=ServerSettings(port=0))

    @asynccontextmanager
    async def start(**tables: dict[str, Any]) -> AsyncIterator[Gateway]:
        declared = dataclasses.replace(settings, declared_destinations=tables)
        async with running(declared) as started:
            keys.append(started.first_key or keys[0])
            gateway = Gateway(started.url, keys[0], session, started.context)
            yield gateway
            gateway.disconnect()

    return start


def takes(_: Received) -> Reply:
    return Reply(204)


async def test_it_delivers_is_read_only_and_reads_its_secret_again_when_it_is_refused(
    start_with: StartWith, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    async with scripted_receiver(takes) as receiver:
        async with start_with() as gateway:
            reader = key_id(await gateway.mint({"actions": ["stream"], "categories": ["auth"]}))
        table = {
            "type": "http", "key": reader, "retry": {"min": "1ms", "max": "20ms"},
            "batch": {"max_wait": "1ms"}, "secrets": {"token": {"file": str(secret)}},
            "settings": {"url": f"http://127.0.0.1:{receiver.port}/in"},
        }  # fmt: skip
        async with start_with(siem=table) as gateway:
            for method in ("PATCH", "DELETE"):
                answer = await gateway.request(method, PATH, key=gateway.admin, json={})
                answer.problem(409, "managed_by_config")
            shown = (await gateway.get(PATH, key=gateway.admin)).json()
            assert (shown["managed_by"], shown["secrets"]) == ("config", {})
            receiver.script.append(Reply(401, b"not first"))
            await gateway.send(event(id="a", category="auth"), key=gateway.admin)
            secret.write_text("second\n")
            await eventually(lambda: len(receiver.received) >= 2, "it was sent again")
            await gateway.post(f"{PATH}/pause", key=gateway.admin)
        sent = [one.headers["authorization"] for one in receiver.received]
        assert sent[-1] == "Bearer second"
        # State and position stay, whatever else the table says now.
        async with start_with(siem={**table, "on_gap": "fail"}) as gateway:
            shown = (await gateway.get(PATH, key=gateway.admin)).json()
            assert (shown["state"], shown["on_gap"]) == ("paused", "fail")
        async with start_with() as gateway:
            (await gateway.get(PATH, key=gateway.admin)).problem(404, "unknown_destination")

            async def recorded() -> list[tuple[str, str]]:
                page = await gateway.get("/v1/events?category=gateway.delivery", key=gateway.admin)
                return [(one["action"], one["actor"]["id"]) for one in page.json()["events"]]

            changes = [
                (f"destination.{what}", "config") for what in ("created", "changed", "deleted")
            ]
            await becomes(recorded, lambda records: [c for c in records if c in changes] == changes)


async def test_a_secret_that_cannot_be_read_is_waited_for_and_nothing_is_sent_without_it(
    start_with: StartWith, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    async with scripted_receiver(takes) as receiver:
        async with start_with() as gateway:
            reader = key_id(await gateway.mint({"actions": ["stream"], "categories": ["auth"]}))
        table = {
            "type": "http", "key": reader, "retry": {"min": "1ms", "max": "20ms"},
            "batch": {"max_wait": "1ms"}, "secrets": {"signing": {"file": str(secret)}},
            "settings": {"url": f"http://127.0.0.1:{receiver.port}/in"},
        }  # fmt: skip
        async with start_with(siem=table) as gateway:
            await gateway.send(event(id="a", category="auth"), key=gateway.admin)

            async def shown() -> Any:
                return (await gateway.get(PATH, key=gateway.admin)).json()

            waiting = await becomes(shown, lambda one: one["retries"] >= 3)
            assert waiting["state"] == "failing"
            assert waiting["last_error"]["kind"] == "secret_unreadable"
            assert "secrets.signing" in waiting["last_error"]["message"]
            tried = (await gateway.post(f"{PATH}/test", key=gateway.admin)).json()
            assert tried["result"] == "config"
            assert receiver.received == []
            secret.write_text("whsec_" + "a2V5" * 8)
            await eventually(lambda: len(receiver.received) == 1, "it arrives, without a restart")
            assert receiver.received[0].headers["webhook-signature"].startswith("v1,")
            # It goes away under a running delivery, too.
            secret.unlink()
            receiver.script.append(Reply(401))
            await gateway.send(event(id="b", category="auth"), key=gateway.admin)
            await becomes(shown, lambda one: one.get("state") == "failing")
            await becomes(shown, lambda one: one["last_error"]["kind"] == "secret_unreadable")
            assert len(receiver.received) == 2
            secret.write_text("whsec_" + "a2V5" * 8)
            await eventually(lambda: len(receiver.received) == 3, "it arrives again")


async def test_a_table_that_cannot_work_stops_the_start_with_its_path(
    start_with: StartWith,
) -> None:
    good = {"type": "file", "key": "k" * 12}
    for table, path in (
        ({**good, "colour": 1}, "colour"),
        ({**good, "type": "smoke"}, "type"),
        ({**good, "type": "http", "settings": {"url": "ftp://x"}}, "settings.url"),
        ({**good, "type": "http", "settings": {"url": "https://x"},
          "secrets": {"token": {"shell": "x"}}}, "secrets.token"),
    ):  # fmt: skip
        with pytest.raises(InvalidSetting) as caught:
            async with start_with(siem=table):
                pass
        assert f"destinations.siem: {path}" in caught.value.detail


def test_tables_come_from_the_file_of_settings(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[destinations]\nallow_networks = ["10.0.0.0/8"]\n'
        '[destinations.siem]\ntype = "http"\n[destinations.siem.settings]\nurl = "https://x"\n'
    )
    settings = load(config, {}, {})
    assert settings.declared_destinations == {
        "siem": {"type": "http", "settings": {"url": "https://x"}}
    }
    assert len(settings.destinations.allow_networks) == 1
    assert settings.given["destinations.siem"].origin.endswith(":3")
    checked = CliRunner().invoke(cli, ["config", "check", "--config", str(config)])
    assert checked.exit_code == 2
    assert "destinations.siem: key: it is required" in checked.output


async def test_one_that_was_made_otherwise_meanwhile_is_neither_changed_nor_deleted(
    start_with: StartWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with start_with() as gateway:
        reader = key_id(await gateway.mint({"actions": ["stream"], "categories": ["auth"]}))
    table = {"type": "http", "key": reader, "settings": {"url": "https://siem.example/in"}}
    async with start_with(siem=table) as gateway:
        context = gateway.context
        stores = Stores(
            context.destination_store, context.consumer_store, context.key_store, context.log
        )
        known = await stores.destination_store.all()

        def made_otherwise(before: Destination | None, others: int) -> Destination | None:
            return before and replace(before, managed_by="http")

        async def as_it_was() -> list[Destination]:
            return known

        made = await stores.destination_store.change("siem", made_otherwise)
        monkeypatch.setattr(stores.destination_store, "all", as_it_was)
        for tables in ({"siem": {**table, "on_gap": "fail"}}, {}):
            declared = dataclasses.replace(
                Settings(data=context.settings.data), declared_destinations=tables
            )
            outlets, clock = context.deliveries.parts.outlets, context.clock
            with suppress(GatewayError):
                await Declared(declared, outlets, clock).store(stores)
            assert await stores.destination_store.get("siem") == made
            assert await stores.consumer_store.get(OWNER, "siem") is not None
