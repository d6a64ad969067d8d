"""The pepper is rotated step by step for gateways with folders of their own on one database."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

import pytest

from gateway.cli.pepper import _LEARN_SECONDS
from tests.support.gateway_process import GatewayProcess, run_program
from tests.support.machine_time import Stopwatch, patience
from tests.support.services.postgres import PostgresServer, installations

pytestmark = pytest.mark.slow
READER = {"actions": ["stream", "pull"], "categories": ["**"]}


class Replicas:
    """Two gateways, and the file of the first one's folder brought to the other's."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        database = PostgresServer(installations()[min(installations())])
        stack.callback(database.close)
        self.settings = {"AUDIT_GATEWAY_STORE__URL": database.url()}
        self.folders = (folder / "a", folder / "b")
        self.first = stack.enter_context(
            GatewayProcess(self.folders[0], settings=self.settings, shows_key=True)
        )
        self.folders[1].mkdir(mode=0o700)
        self.copy()
        self.second = stack.enter_context(
            GatewayProcess(self.folders[1], settings=self.settings, shows_key=False)
        )

    def copy(self) -> None:
        """As tools that bring secrets to machines do: a new file takes the old one's place."""
        draft = self.folders[1] / "pepper.new"
        shutil.copy(self.folders[0] / "pepper", draft)
        draft.rename(self.folders[1] / "pepper")

    def command(self, *arguments: str) -> str:
        done = run_program(*arguments, "--data", str(self.folders[0]), settings=self.settings)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def statuses(self, *keys: str) -> set[int]:
        """What each gateway answers to each key."""
        return {
            gateway.ask("GET", "/v1/events?limit=1", key)[0]
            for key in keys
            for gateway in (self.first, self.second)
        }


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    with ExitStack() as stack:
        yield Replicas(tmp_path, stack)


def told(gateway: GatewayProcess) -> tuple[int, int]:
    """How many peppers it knows, and how many of them are coming."""
    with urlopen(f"{gateway.url}/metrics", timeout=patience(10)) as answer:
        rows = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines())
    known, coming = (rows["audit_gateway_" + name] for name in ("peppers", "peppers_coming"))
    return int(float(known)), int(float(coming))


def until(gateway: GatewayProcess, peppers: int, coming: int) -> None:
    """Return when it says so; within two seconds, as `pepper rotate` waits for."""
    watch = Stopwatch()
    while told(gateway) != (peppers, coming):
        assert watch.seconds < _LEARN_SECONDS, told(gateway)
        time.sleep(0.02)


def test_no_key_is_refused_at_any_gateway_at_any_step(replicas: Replicas) -> None:
    first, second = replicas.first, replicas.second
    old = first.make_key(READER)
    assert replicas.statuses(old) == {200}
    replicas.command("pepper", "add")
    until(first, 2, 1)
    assert told(second) == (1, 0)
    replicas.copy()
    until(second, 2, 1)
    coming = first.make_key(READER)
    assert replicas.statuses(old, coming) == {200}
    replicas.command("pepper", "switch")
    until(first, 2, 0)
    # Only the first has switched; what it makes, the other takes.
    made = first.make_key(READER)
    assert told(second) == (2, 1)
    assert replicas.statuses(old, coming, made) == {200}
    replicas.copy()
    until(second, 2, 0)
    assert replicas.statuses(old, coming, made, first.first_key) == {200}
    status = json.loads(replicas.command("pepper", "status", "--json"))["peppers"]
    assert [(one["standing"], one["keys"]) for one in status] == [("current", 4), ("previous", 0)]
    replicas.command("pepper", "forget")
    replicas.copy()
    until(first, 1, 0)
    until(second, 1, 0)
    assert replicas.statuses(old, coming, made, first.first_key) == {200}
