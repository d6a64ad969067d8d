"""`/v1/status`: whether delivery works, since when, and what to do; `/readyz` with its reasons."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from failing import Broken, Started, ends
from gateway_client import event
from gateways import Gateway, ShiftedClock, Start
from test_destination_reports import AdvancedClock
from test_destinations import TRANSIENT as BUSY
from test_destinations import make

from gateway.errors import Unavailable
from gateway.fleet.health import REASONS
from tests.support.machine_time import becomes, eventually, patience
from tests.support.scripted_outlet import Receiver

MEMBERS = [
    "delivery", "since", "reasons", "gateways", "log", "streams", "destinations", "findings",
]  # fmt: skip
ON_CALL = {"actions": ["ops.read"], "categories": ["**"]}


@pytest.fixture
async def operator(gateway: Gateway) -> str:
    return await gateway.mint(ON_CALL, name="on call")


async def status(gateway: Gateway, key: str) -> dict[str, Any]:
    answer = await gateway.get("/v1/status", key=key)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json()
    assert list(found) == MEMBERS
    return found


def codes(found: dict[str, Any]) -> list[str]:
    return [one["code"] for one in found["reasons"]]


async def test_a_healthy_gateway_says_so_and_since_when(gateway: Gateway, operator: str) -> None:
    await gateway.send(event(), event())
    canary = gateway.context.canary
    await eventually(lambda: sum(canary.seconds.cells[:-1]) > 0, "an event is handed over")
    gateway.context.health.look()
    found = await status(gateway, operator)
    assert (found["delivery"], found["reasons"]) == ("ok", [])
    [process] = found["gateways"]
    assert found["since"] == process["started_at"]
    assert (process["answers"], process["ready"], process["delivery"]) == (True, True, "ok")
    assert (process["redis"], process["certificate_expires_at"]) == ("none", None)
    assert process["worker"] == 0
    log = found["log"]
    assert (log["store"], log["takes_events"]) == ("sqlite", True)
    assert log["events"] >= 2
    assert log["oldest_at"] <= log["newest_at"]
    assert found["streams"]["open"] == 0
    assert set(found["streams"]["transports"].values()) == {0}
    assert found["destinations"] == []
    assert found["findings"] == {"open": 0}


async def test_it_needs_ops_read_and_takes_no_parameters(gateway: Gateway, operator: str) -> None:
    reader = await gateway.mint({"actions": ["stream", "pull"], "categories": ["**"]})
    (await gateway.get("/v1/status", key=reader)).problem(403, "action_not_granted")
    (await gateway.get("/v1/status", key=None)).problem(401, "missing_key")
    (await gateway.get("/v1/status?a=1", key=operator)).problem(400, "unknown_parameter")


async def test_findings_that_are_open_are_counted(gateway: Gateway, operator: str) -> None:
    findings = gateway.context.detector.findings

    async def two() -> list[Any]:
        return [SimpleNamespace(state=state) for state in ("open", "expected", "open")]

    findings.all = two  # type: ignore[method-assign]
    assert (await status(gateway, operator))["findings"] == {"open": 2}


async def test_reasons_that_need_hours_or_a_bug_decide_as_they_are_declared(
    gateway: Gateway, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their faults are set here. All others are brought about by real ones, in tests of the parts
    that have them (`Gateway.reasons`), below, and in `tests/unit/streaming/test_canary.py`."""
    context = gateway.context
    certificates = SimpleNamespace(expires=0.0, warnings=lambda: [("certificate_expiring", "soon")])
    faults: dict[str, tuple[Any, str, Any]] = {
        "streams_overdue": (context.hub, "overdue", lambda: 2),
        "not_ready": (context, "ready", False),
        "record_waiting": (type(context.access_log), "waiting", 5000),
        "certificate_expiring": (context, "certificates", certificates),
    }
    for code, (owner, name, value) in faults.items():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value, raising=False)
            found = await status(gateway, operator)
        assert code in codes(found), code
        assert found["delivery"] == REASONS[code].delivery, code
        reason = next(one for one in found["reasons"] if one["code"] == code)
        assert reason["advice"] == REASONS[code].advice
    assert codes(await status(gateway, operator)) == []


async def test_a_wall_clock_that_was_set_is_told_of(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(shifted)
    shifted.step = 90.0
    await becomes(gateway.reasons, lambda found: found == {"clock_stepped"})


async def test_an_address_for_others_without_tls_is_told_of(start: Start) -> None:
    gateway = await start(server={"port": 0, "host": "0.0.0.0"})
    assert await gateway.reasons() == {"plain_text"}


async def test_an_event_loop_that_was_held_up_is_told_of(start: Start) -> None:
    clock = AdvancedClock()
    gateway = await start(clock)
    # There is a connection, so its delay is measured.
    assert await gateway.reasons() == set()
    clock.shift = 6.0
    await becomes(gateway.reasons, lambda found: "loop_late" in found)


async def test_a_task_that_was_given_up_is_told_of_until_the_process_ends(
    tmp_path: Path, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, started = Broken(monkeypatch), Started(tmp_path, session)
    async with started as gateway:
        broken.always("consumer_watch")
        await ends(started, "consumer_watch")
        found = await gateway.context.health.status()
        assert (found.delivery, found.reasons[0].code) == ("stalled", "internal_error")


async def test_a_canary_that_is_behind_means_that_delivery_is_stalled(
    gateway: Gateway, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(gateway.context.canary), "behind", 6.0)
    found = await status(gateway, operator)
    assert (found["delivery"], codes(found)) == ("stalled", ["canary_behind"])
    assert found["since"] == found["reasons"][0]["since"]
    assert found["gateways"][0]["canary_behind_seconds"] == 6.0


async def test_deliveries_that_are_slow_for_a_minute_are_told_of(start: Start) -> None:
    clock = ShiftedClock()
    gateway = await start(clock)
    operator = await gateway.mint(ON_CALL)
    passed = 0.0
    monotonic = gateway.context.clock.monotonic
    gateway.context.clock.monotonic = lambda: monotonic() + passed  # type: ignore[method-assign]
    for _ in range(62):
        gateway.context.canary.seconds.observe(3.0, 100)
        gateway.context.health.look()
        passed += 1.0
    found = await status(gateway, operator)
    assert (found["delivery"], codes(found)[0]) == ("slow", "delivery_slow")
    assert found["streams"]["p99_seconds"] > 1
    assert found["gateways"][0]["p99_seconds"] > 1


async def test_a_log_that_cannot_be_read_is_down(
    gateway: Gateway, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(*_: Any, **__: Any) -> Any:
        raise Unavailable("the database does not answer", code="store_slow")

    await gateway.send(event())
    with monkeypatch.context() as patch:
        patch.setattr(gateway.context.log, "read", read)
        found = await status(gateway, operator)
    assert (found["delivery"], codes(found)) == ("down", ["store_away"])
    assert found["log"]["newest_at"] is None
    assert (await status(gateway, operator))["delivery"] == "ok"


async def test_a_store_that_is_gone_is_down(
    gateway: Gateway, operator: str, tmp_path: Path
) -> None:
    log = gateway.context.settings.data / "log.db"
    log.rename(tmp_path / "away.db")
    found = await gateway.context.health.status()
    assert found.delivery == "down"
    assert "store_away" in [one.code for one in found.reasons]
    (tmp_path / "away.db").rename(log)
    assert (await gateway.context.health.status()).delivery == "ok"


async def test_keys_that_cannot_be_read_mean_that_delivery_is_down(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refresh(*_: Any) -> Any:
        raise Unavailable("the keys do not answer", code="store_slow")

    freshness = gateway.context.enforcement.freshness
    with monkeypatch.context() as patch:
        patch.setattr(gateway.context.keyring, "refresh_keys", refresh)
        await eventually(lambda: not freshness.keys_known, "the keys are not known")
        found = await gateway.context.health.status()
        assert (found.delivery, found.reasons[0].code) == ("down", "keys_unavailable")
        assert "the keys do not answer" in found.reasons[0].detail


async def test_findings_that_cannot_be_read_are_told_of(
    gateway: Gateway, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unread() -> Any:
        raise Unavailable("the keys do not answer", code="store_slow")

    monkeypatch.setattr(gateway.context.detector.findings, "all", unread)
    found = await status(gateway, operator)
    assert (found["delivery"], codes(found)) == ("down", ["keys_unavailable"])
    assert found["findings"] == {"open": None}


async def both_fail(gateway: Gateway) -> None:
    async with asyncio.timeout(patience()):
        while [one.state for one in await gateway.context.deliveries.numbers()] != ["failing"] * 2:
            await gateway.context.deliveries.poll()


async def test_destinations_that_fail_or_were_disabled_are_reasons_of_their_own(
    gateway: Gateway, operator: str
) -> None:
    receiver = Receiver()
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    receiver.answer = lambda batch: BUSY
    for name in ("siem", "lake"):
        await make(gateway, await gateway.reader_key(), name=name)
    await gateway.send(event())
    await both_fail(gateway)
    found = await status(gateway, operator)
    assert codes(found) == ["destination_failing"] * 2
    assert found["delivery"] == "ok"
    lake, siem = found["destinations"]
    assert (lake["name"], siem["name"], siem["state"]) == ("lake", "siem", "failing")
    assert {one["failing_since"] for one in (lake, siem)} == {
        one["since"] for one in found["reasons"]
    }
    assert siem["last_error"]["status"] == 503


async def test_a_disabled_destination_is_told_of(gateway: Gateway, operator: str) -> None:
    receiver = Receiver()
    gateway.context.deliveries.parts.outlets.types = {"scripted": receiver.outlet_type()}
    key = await gateway.reader_key()
    await make(gateway, key, name="siem")
    await gateway.revoke(key)

    async def disabled() -> dict[str, Any]:
        return await status(gateway, operator)

    found = await becomes(disabled, lambda one: one["destinations"][0]["state"] == "disabled")
    assert codes(found) == ["destination_disabled"]
    [shown] = found["destinations"]
    assert (shown["name"], shown["failing_since"], shown["last_error"]) == ("siem", None, None)


async def test_readyz_has_the_reasons_as_lines_and_as_json(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_json = {"Accept": "application/json"}
    ready = await gateway.get("/readyz", key=None, headers=as_json)
    assert ready.json() == {"ready": True, "reasons": []}
    assert "Accept" in ready.headers["Vary"]
    monkeypatch.setattr(gateway.context.hub, "overdue", lambda: 2)
    ready = await gateway.get("/readyz", key=None)
    assert ready.status == 200
    assert ready.body == b"ready\n2 live streams are owed events for over 5 s\n"
    [reason] = (await gateway.get("/readyz", key=None, headers=as_json)).json()["reasons"]
    assert reason["code"] == "streams_overdue"
    assert reason["advice"] == REASONS["streams_overdue"].advice
