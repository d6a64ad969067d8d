"""`/v1/status`: whether delivery works, since when, and what to do; `/readyz` with its reasons."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gateway_client import event
from gateways import Gateway, ShiftedClock, Start
from test_destinations import TRANSIENT as BUSY
from test_destinations import make

from gateway.access.limits.ports import Health
from gateway.delivery.health import Status
from gateway.delivery.running.meter import DestinationNumbers
from gateway.errors import InternalFailure, Unavailable
from gateway.fleet.health import REASONS
from gateway.log.lag import LogLag
from gateway.streaming.consumers.row import ConsumerKey
from gateway.trusted_clock import WaitingStep
from tests.support.machine_time import eventually, patience
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


async def test_each_reason_is_brought_about_by_its_fault(
    gateway: Gateway, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that others of these tests, and `tests/unit/streaming/test_canary.py`, bring
    about with real parts."""
    context = gateway.context
    away = Unavailable("the store is away", code="store_gone")
    certificates = SimpleNamespace(
        expires=0.0,
        warnings=lambda: [("certificate_refused", "refused"), ("certificate_expiring", "soon")],
    )
    waits = SimpleNamespace(pid=7, seconds=90.0)
    table = SimpleNamespace(name="t", degraded_reason=None, waits=waits, rows=0, marked=0)
    faults: dict[str, tuple[Any, str, Any]] = {
        "internal_error": (context.tasks, "failure", InternalFailure("a task failed")),
        "streams_overdue": (context.hub, "overdue", lambda: 2),
        "not_ready": (context, "ready", False),
        "peers_stalled": (context.hub.totals, "stalled", 3),
        "loop_late": (context.loop_delay, "longest", lambda now: 6.5),
        "record_waiting": (type(context.access_log), "waiting", 5000),
        "position_at_risk": (context.consumer_watch, "at_risk", {ConsumerKey("k", "c")}),
        "certificate_refused": (context, "certificates", certificates),
        "certificate_expiring": (context, "certificates", certificates),
        "followed_waiting": (context, "followed", table),
        "followed_away": (
            context, "followed",
            SimpleNamespace(name="t", degraded_reason=away, waits=None, rows=0, marked=0),
        ),
        "redis_away": (
            context, "shared",
            SimpleNamespace(
                health=lambda: Health(up=False), usage=context.shared.usage,
            ),
        ),
        "clock_stepped": (context.clock, "waiting", WaitingStep(90.0)),
        "plain_text": (type(context.settings.server), "is_readable_on_the_way", True),
        "pepper_missing": (context.missing_peppers, "lines", lambda: ["pepper p is gone"]),
    }  # fmt: skip
    for code, (owner, name, value) in faults.items():
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value, raising=False)
            found = await status(gateway, operator)
        assert code in codes(found), code
        assert found["delivery"] == REASONS[code].delivery, code
        reason = next(one for one in found["reasons"] if one["code"] == code)
        assert reason["advice"] == REASONS[code].advice
    assert codes(await status(gateway, operator)) == []


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


async def test_a_disabled_destination_is_told_of(
    gateway: Gateway, operator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = DestinationNumbers("siem", "disabled", LogLag(3, 1.5), Status())

    async def numbers() -> list[DestinationNumbers]:
        return [one]

    monkeypatch.setattr(gateway.context.deliveries, "numbers", numbers)
    found = await status(gateway, operator)
    assert codes(found) == ["destination_disabled"]
    assert found["destinations"][0] == {
        "name": "siem", "state": "disabled", "lag_events": 3, "lag_seconds": 1.5,
        "failing_since": None, "last_error": None,
    }  # fmt: skip


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
