"""`audit-gateway import --follow` on a log that grows and is rotated, through kills."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess, start
from tests.support.machine_time import patience, wait_until

_GRANT = {"actions": ["ingest", "pull"], "categories": ["app"]}


class Following:
    """A run of the command; what it says is in a file."""

    def __init__(self, folder: Path, *arguments: str, key: str = "") -> None:
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self._process = start(
                ["import", "--follow", "--batch", "20", *arguments],
                {"AUDIT_GATEWAY_KEY": key, "XDG_STATE_HOME": str(folder / "state")},
                stdout=said, stderr=said,
            )  # fmt: skip

    @property
    def said(self) -> str:
        return self._said.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self, number: int) -> int:
        self._process.send_signal(number)
        return self._process.wait(patience(20))


@contextmanager
def following(folder: Path, *arguments: str, key: str = "") -> Iterator[Following]:
    one = Following(folder, *arguments, key=key)
    try:
        yield one
    finally:
        one.kill()


def stored(gateway: GatewayProcess, key: str) -> list[str]:
    status, page = gateway.ask("GET", "/v1/events?category=app&limit=1000", key)
    assert status == 200, page
    return [str(one["data"]["n"]) for one in page["events"]]


class Writer:
    """A program that writes numbered records, without ids, and whose log is rotated."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.written: list[str] = []

    def write(self, count: int) -> None:
        begin = len(self.written)
        numbers = [str(number) for number in range(begin, begin + count)]
        with self._log.open("ab") as file:
            for n in numbers:
                record: dict[str, Any] = {"category": "app", "action": "a", "data": {"n": n}}
                file.write(json.dumps(record).encode() + b"\n")
        self.written += numbers

    def rotate(self) -> None:
        self._log.rename(self._log.with_name(f"{self._log.name}.1"))
        self._log.touch()


def test_kills_while_a_log_grows_and_is_rotated_lose_and_double_nothing(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()
    writer = Writer(log)
    with GatewayProcess(tmp_path / "data") as gateway:
        key = gateway.make_key(_GRANT)
        command = "--url", gateway.url, str(log)
        for kill in range(1, 4):
            writer.write(100)
            with following(tmp_path, *command, key=key) as one:
                more = 100 * kill - 60
                wait_until(lambda more=more: len(stored(gateway, key)) > more, "some more", 30)
                one.kill()
        writer.write(20)
        writer.rotate()
        with following(tmp_path, *command, key=key) as one:
            writer.write(30)
            wait_until(lambda: len(stored(gateway, key)) >= len(writer.written), "all", 90)
            assert one.end(signal.SIGTERM) == 0
            assert "accepted" in one.said
        assert sorted(stored(gateway, key), key=int) == writer.written


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_end_by_a_signal_keeps_the_position_beside_the_data_folder(
    tmp_path: Path, number: int
) -> None:
    log, data = tmp_path / "logs" / "app.log", tmp_path / "data"
    log.parent.mkdir()
    writer = Writer(log)
    for round, refused in enumerate((b"oops\n", b"")):
        writer.write(10)
        with log.open("ab") as file:
            file.write(refused)
        size = log.stat().st_size
        with following(tmp_path, "--data", str(data), str(log)) as one:
            wait_until(lambda size=size: kept_offset(tmp_path) == size, "the position is kept", 30)
            assert one.end(number) == 0, one.said
            # The second one has not read what the first one had.
            read = 11 if round == 0 else 10
            assert f"{read} records read: 10 accepted, 0 duplicates" in one.said
    assert len((tmp_path / "data.refused.ndjson").read_bytes().splitlines()) == 1
    assert [path.name for path in log.parent.iterdir()] == ["app.log"]


def kept_offset(folder: Path) -> int | None:
    for path in folder.glob("data.follow-*.cursor"):
        return int(json.loads(path.read_text())["offset"])
    return None
