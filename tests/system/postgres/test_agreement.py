"""Gateways on one database agree on their secrets and on the time, whatever their machines have."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.files.agreement import agree_on_secrets
from gateway.adapters.files.folder import DataFolder
from gateway.adapters.postgres.keys import PostgresKeys
from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.oversight.clock_store import open_clock
from gateway.oversight.clock_watch import ClockWatch
from gateway.oversight.detection.findings import Findings
from tests.support.machine_time import patience


async def test_of_two_that_begin_at_the_same_moment_one_is_refused(
    database: str, tmp_path: Path
) -> None:
    stores = [await PostgresKeys.open(database) for _ in range(2)]
    folders = [DataFolder(tmp_path / name) for name in "ab"]
    now = SystemClock().now()
    done = await asyncio.gather(
        *(
            agree_on_secrets(folder, store, now, fleet=True)
            for folder, store in zip(folders, stores, strict=True)
        ),
        return_exceptions=True,
    )
    [refused] = [one for one in done if one is not None]
    assert isinstance(refused, GatewayError)
    assert refused.code == "pepper_missing"
    first = folders[done.index(None)]
    other = folders[1 - done.index(None)]
    for name in ("pepper", "log-secret"):
        (other.path / name).write_bytes((first.path / name).read_bytes())
    await agree_on_secrets(other, stores[0], now, fleet=True)
    for store in stores:
        await store.close()


class Unasked(SystemClock):
    """A machine whose wall clock is not to be believed by anybody."""

    def now(self) -> float:
        raise AssertionError("the wall clock of a machine was asked")


async def test_the_wall_clock_of_a_gateways_machine_is_never_asked(database: str) -> None:
    store = await PostgresKeys.open(database)
    machine = Unasked()
    clock = await open_clock(store, machine)
    assert abs(clock.now() - SystemClock().now()) < patience()
    watch = ClockWatch(store, machine, clock, Findings(store, None, clock))  # type: ignore[arg-type]
    await watch.poll()
    await watch.close()
    assert clock.waiting is None
    await store.close()


async def test_a_jump_of_the_databases_clock_is_a_finding_and_moves_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await PostgresKeys.open(database)
    machine = SystemClock()
    clock = await open_clock(store, machine)
    findings = Findings(store, None, clock)  # type: ignore[arg-type]
    watch = ClockWatch(store, machine, clock, findings)
    await watch.poll()
    wall_time: Any = store.wall_time

    async def ahead() -> float:
        wall: float = await wall_time()
        return wall + 60 * 86400

    monkeypatch.setattr(store, "wall_time", ahead)
    before = clock.now()
    await watch.poll()
    assert 0 <= clock.now() - before < patience()
    # Whoever starts now goes by what the others hold.
    late = await open_clock(store, machine)
    assert abs(late.now() - clock.now()) < 1
    [finding] = await findings.all()
    assert finding.signal == "clock_jump"
    await store.close()
