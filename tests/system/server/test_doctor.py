"""`audit-gateway doctor` and `GET /v1/doctor`: faults that are there are found."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from gateways import Gateway, ShiftedClock, Start

from gateway.cli.main import cli
from gateway.oversight.detection.signals import Signal

GRANT = '{"actions":["pull"],"categories":["auth.*"]}'
Checks = dict[str, dict[str, Any]]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, list(arguments), standalone_mode=False)
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return done.exit_code, done.stdout


def examined(*target: str) -> tuple[int, Checks]:
    """Exit code, and the checks that are not ok."""
    code, output = run("doctor", "--json", *target)
    checks = json.loads(output)["checks"]
    return code, {one["code"]: one for one in checks if one["result"] != "ok"}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a key, and a log that is deleted at an age."""
    monkeypatch.setenv("AUDIT_GATEWAY_STORE__RETENTION_AGE", "30d")
    made = ("--name", "n", "--purpose", "p", "--owner", "o", "--expires", "30d", "--grant", GRANT)
    run("keys", "create", *made, "--data", str(tmp_path / "data"))
    return tmp_path / "data"


def test_files_that_others_can_read_are_named(data: Path) -> None:
    (data / "pepper").chmod(0o644)
    data.chmod(0o755)
    code, checks = examined("--data", str(data))
    assert code == 0
    assert str(data / "pepper") in checks["files_readable"]["detail"]
    assert checks.keys() == {"files_readable", "backup_old", "keys_every_tenant"}
    lines = run("doctor", "--data", str(data))[1].splitlines()
    assert [line for line in lines if line.startswith("warn  backup_old ")]


def test_a_missing_pepper_fails_and_is_not_made_anew(data: Path) -> None:
    (data / "pepper").unlink()
    code, checks = examined("--data", str(data))
    assert (code, checks["pepper_missing"]["result"]) == (1, "fail")
    assert not (data / "pepper").exists()


def test_a_store_of_a_newer_version_fails(data: Path) -> None:
    with closing(sqlite3.connect(data / "keys.db")) as store:
        store.execute("PRAGMA user_version = 9999")
        store.commit()
    code, checks = examined("--data", str(data))
    assert (code, checks["store_version"]["result"]) == (1, "fail")
    assert "newer version" in checks["store_version"]["detail"]


def test_settings_that_let_others_listen_are_found(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_STORE__RETENTION_AGE", "0s")
    monkeypatch.setenv("AUDIT_GATEWAY_SERVER__HOST", "0.0.0.0")
    monkeypatch.setenv("AUDIT_GATEWAY_REDIS__URL", "redis://far.example/0")
    _, checks = examined("--data", str(data))
    assert {"retention_unbounded", "plain_text", "redis_open"} <= checks.keys()
    monkeypatch.setenv("AUDIT_GATEWAY_SERVER__TRUSTED_PROXIES", "8.0.0.0/7")
    _, checks = examined("--data", str(data))
    assert "proxies_wide" in checks
    assert "plain_text" not in checks


def test_a_certificate_that_cannot_be_used_fails(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CERTIFICATE", "KEY"):
        (tmp_path / name).write_text("none")
        monkeypatch.setenv(f"AUDIT_GATEWAY_SERVER__TLS__{name}", str(tmp_path / name))
    code, checks = examined("--data", str(data))
    assert (code, checks["certificate_refused"]["result"]) == (1, "fail")


async def test_a_backup_is_noted_and_grows_old(
    start: Start, shifted: ShiftedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start(clock=shifted)
    folder = str(gateway.context.settings.data)
    assert (await asked(gateway))["backup_old"]["result"] == "warn"
    await asyncio.to_thread(run, "log", "backup", "--data", folder, str(tmp_path / "copy"))
    assert "backup_old" not in await asked(gateway)
    shifted.shift = 8 * 86400.0
    assert "8 days old" in (await asked(gateway))["backup_old"]["detail"]


async def asked(gateway: Gateway) -> Checks:
    """Checks over HTTP that are not ok."""
    answer = await gateway.get("/v1/doctor", key=gateway.admin)
    assert answer.status == 200
    return {one["code"]: one for one in answer.json()["checks"] if one["result"] != "ok"}


async def test_keys_that_want_looking_at_are_counted(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(clock=shifted)
    await gateway.mint({"actions": ["pull"], "categories": ["**"]}, expires_in="60d")
    checks = await asked(gateway)
    assert checks.keys() >= {"keys_every_tenant"}
    assert not checks.keys() & {"keys_unused", "keys_never_used", "keys_expiring"}
    shifted.shift = 48 * 86400.0
    checks = await asked(gateway)
    assert checks.keys() >= {"keys_never_used", "keys_expiring"}


async def test_findings_and_readers_that_take_nothing_are_told(gateway: Gateway) -> None:
    assert not {"findings_open", "consumers_silent"} & (await asked(gateway)).keys()
    at = gateway.context.clock.now()
    await gateway.context.detector.findings.add(Signal("silent_consumer", at), "0" * 12)
    assert {"findings_open", "consumers_silent"} <= (await asked(gateway)).keys()


async def test_a_destination_that_is_behind_is_told(start: Start, shifted: ShiftedClock) -> None:
    gateway = await start(clock=shifted)
    body = {
        "name": "siem", "type": "http", "key": gateway.admin.split("_")[1],
        "settings": {"url": "https://siem.example.org/in"},
    }  # fmt: skip
    assert (await gateway.post("/v1/destinations", key=gateway.admin, json=body)).status == 201
    await gateway.post("/v1/destinations/siem/pause", key=gateway.admin)
    await gateway.send_many(1)
    shifted.shift = 400.0
    assert "siem" in (await asked(gateway))["destinations_behind"]["detail"]


async def test_both_have_the_same_shape_and_a_gateway_checks_more(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", gateway.admin)
    folder = ("--data", str(gateway.context.settings.data))
    shown = []
    for target in (folder, ("--url", gateway.url)):
        code, output = await asyncio.to_thread(run, "doctor", "--json", *target)
        assert code == 0
        shown.append({one["code"] for one in json.loads(output)["checks"]})
    assert shown[0] < shown[1]
    assert {"canary_behind", "versions_uneven", "settings_uneven"} <= shown[1] - shown[0]
