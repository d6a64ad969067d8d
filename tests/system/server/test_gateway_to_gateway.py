"""What a destination of one gateway sends to another comes in there as the same events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import SHORT
from gateway_client import event, key_id
from gateways import Gateway, Start

from gateway.runtime.compose import running
from gateway.settings.declarations import SECTIONS, Settings
from tests.support.machine_time import becomes

EVENTS = [
    event(
        id=f"e{n}", category="auth.sso", tenant="acme", outcome=("denied", "success")[n % 2],
        severity=3, time="2026-01-01T00:00:00.123456Z",
        actor={"type": "user", "id": "i", "name": "n", "key_id": "k"},
        source={"service": "s", "ip": "192.0.2.1", "port": 443, "user_agent": "curl"},
        targets=[{"urn": "u", "type": "user", "id": "i", "name": "n"}],
        request={"id": "r", "trace_id": "t"}, reason="because", data={"a": [1.50, {"b": None}]},
    )
    for n in range(5)
]  # fmt: skip


@asynccontextmanager
async def sending(folder: Path, session: aiohttp.ClientSession) -> AsyncIterator[Gateway]:
    """A second gateway."""
    sections = {name: of(**SHORT.get(name, {})) for name, of in SECTIONS.items()}
    sections["destinations"] = SECTIONS["destinations"](allow_networks=(ip_network("127.0.0.0/8"),))
    async with running(Settings(data=folder, **sections), None) as started:
        assert started.first_key is not None
        sender = Gateway(started.url, started.first_key, session, started.context)
        await sender.make_user()
        yield sender
        sender.disconnect()


@pytest.mark.parametrize(
    ("kind", "settings", "secret"),
    [
        ("splunk_hec", {}, "token"),
        ("splunk_hec", {"ack": "required"}, "token"),
        ("elasticsearch", {}, "token"),
        ("elasticsearch", {"user": "x"}, "password"),
    ],
)
async def test_events_come_in_as_they_went_out_and_only_once(
    start: Start, tmp_path: Path, session: aiohttp.ClientSession, kind: str, settings: Any,
    secret: str,
) -> None:  # fmt: skip
    receiver = await start()
    writer = await receiver.mint({"actions": ["ingest"], "categories": ["**"]})
    async with sending(tmp_path / "other", session) as sender:
        reader = await sender.mint({"actions": ["stream"], "categories": ["auth.*"]})
        await sender.send(*EVENTS)
        for name in ("first", "again"):
            body = {
                "name": name, "type": kind, "key": key_id(reader), "from": "start",
                "settings": {"url": receiver.url, **settings}, "secrets": {secret: writer},
                "batch": {"max_wait": "10ms"},
            }  # fmt: skip
            made = await sender.post("/v1/destinations", key=sender.admin, json=body)
            assert made.status == 201, made.body
            await delivered(sender, name)
        sent = await events_of(sender)
    assert await events_of(receiver) == sent
    assert receiver.context.requests.duplicates >= len(EVENTS), "the second destination's"


async def delivered(gateway: Gateway, name: str) -> None:
    async def show() -> Any:
        answer = await gateway.get(f"/v1/destinations/{name}", key=gateway.admin)
        return answer.json()

    shown = await becomes(show, lambda one: one["lag"]["events"] == 0 and one["state"] == "active")
    assert not shown["dead_letters"], shown


async def events_of(gateway: Gateway) -> list[Any]:
    params = {"category": "auth.*", "limit": "100"}
    answer = await gateway.get("/v1/events", key=gateway.admin, params=params)
    return [
        {name: value for name, value in one.items() if name not in ("cursor", "recorded_at")}
        for one in answer.json()["events"]
    ]
