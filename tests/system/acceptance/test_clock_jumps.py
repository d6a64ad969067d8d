"""A wall clock that is set under running gateways (libfaketime): nothing is lost or prolonged."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.setup_clients import faketime_library
from tests.support.gateway_process import GatewayProcess, run_program
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresServer, installations

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(faketime_library() is None, reason="libfaketime is not installed"),
]
READER = {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}
AHEAD = 60 * 86400


class Faked:
    """The wall clock of the processes that are started with `settings`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        self.settings = {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            # CLOCK_BOOTTIME is not faked either with this.
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: int) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{ahead:+d}s\n")
        draft.rename(self._file)


@pytest.fixture
def faked(tmp_path: Path) -> Faked:
    return Faked(tmp_path / "clock")


def readyz(gateway: GatewayProcess) -> str:
    with urlopen(f"{gateway.url}/readyz", timeout=patience()) as answer:
        assert answer.status == 200
        return str(answer.read().decode())


def figure(gateway: GatewayProcess, name: str) -> int:
    with urlopen(f"{gateway.url}/metrics", timeout=patience()) as answer:
        found = re.search(
            rf"^audit_gateway_{name} (-?[\d.e+]+)$", answer.read().decode(), re.MULTILINE
        )
    assert found is not None
    return int(float(found[1]))


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + patience()
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def sent(gateway: GatewayProcess, key: str, name: str) -> float:
    """How far `recorded_at` of a new event is ahead of true time (behind it, if below 0)."""
    before = datetime.now(UTC)
    gateway.post([{"id": name, "category": "test", "action": "sent"}], key)
    after = datetime.now(UTC)
    status, event = gateway.ask("GET", f"/v1/events/{name}", key)
    assert status == 200
    recorded = datetime.fromisoformat(event["recorded_at"])
    nearest = min(max(recorded, before), after)
    return (recorded - nearest).total_seconds()


def there(gateway: GatewayProcess, key: str) -> list[str]:
    status, page = gateway.ask("GET", "/v1/events?category=test&limit=1000", key)
    assert status == 200, page
    return [event["id"] for event in page["events"]]


def test_a_jump_of_sixty_days_and_back_changes_nothing_and_one_that_is_right_is_adopted(
    tmp_path: Path, faked: Faked
) -> None:
    settings = {**faked.settings, "AUDIT_GATEWAY_STORE__RETENTION_AGE": "1d"}
    with GatewayProcess(tmp_path / "data", settings=settings) as gateway:
        key = gateway.make_key(READER)
        assert abs(sent(gateway, key, "before")) < 5
        stream = urlopen_stream(gateway, key)
        faked.set(AHEAD)
        until(lambda: "was set by" in readyz(gateway), "the jump is told of")
        assert figure(gateway, "clock_offset_seconds") == pytest.approx(AHEAD, abs=2)
        assert figure(gateway, "clock_steps_total") == 1
        assert abs(sent(gateway, key, "meanwhile")) < 5
        faked.set(0)
        until(lambda: "was set by" not in readyz(gateway), "the jump is over")
        assert abs(sent(gateway, key, "after")) < 5
        assert there(gateway, key) == ["before", "meanwhile", "after"]
        # The stream is the same one, and has all of it.
        assert ids_of(stream, 2) == ["meanwhile", "after"]
        found = findings(gateway)
        assert [one["signal"] for one in found] == ["clock_jump"]
        # A step that is right is adopted at once, where somebody says so.
        faked.set(3600)
        until(lambda: "was set by" in readyz(gateway), "the step is told of")
        done = run_program("log", "trust-clock", "--data", str(gateway.data), settings=settings)
        assert "trusted time moves by +3600 s" in done.stdout, done.stderr
        until(lambda: "was set by" not in readyz(gateway), "the step is adopted")
        assert sent(gateway, key, "later") == pytest.approx(3600, abs=5)
        stream.close()


def test_keys_end_when_they_should_on_a_machine_that_was_started_with_another_clock(
    tmp_path: Path, faked: Faked
) -> None:
    with GatewayProcess(tmp_path / "data", settings=faked.settings) as gateway:
        key = gateway.make_key(READER)
        sent(gateway, key, "before")
    # Within one boot even a start is not fooled.
    faked.set(AHEAD * 10)
    with GatewayProcess(tmp_path / "data", settings=faked.settings) as gateway:
        assert "was set by" in readyz(gateway)
        assert abs(sent(gateway, key, "after")) < 5
        made = run_program(
            "keys", "create", "--name", "k", "--purpose", "p", "--expires", "1h", "--json",
            "--data", str(gateway.data), settings=faked.settings,
        )  # fmt: skip
        ends = datetime.fromisoformat(json.loads(made.stdout)["expires_at"])
        assert (ends - datetime.now(UTC)).total_seconds() == pytest.approx(3600, abs=30)


@pytest.fixture
def replicas(tmp_path: Path, faked: Faked) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    """Two gateways on one database, the second of them with the clock that is set."""
    with ExitStack() as stack:
        database = PostgresServer(installations()[min(installations())])
        stack.callback(database.close)
        shared = {
            "AUDIT_GATEWAY_STORE__URL": database.url(),
            "AUDIT_GATEWAY_STORE__RETENTION_AGE": "1d",
            "AUDIT_GATEWAY_SERVER__PEPPER": "0f" * 32,
        }
        first = GatewayProcess(tmp_path / "a", settings=shared, shows_key=True)
        stack.enter_context(first)
        second = GatewayProcess(
            tmp_path / "b", settings={**shared, **faked.settings}, shows_key=False
        )
        stack.enter_context(second)
        second.first_key = first.first_key
        yield first, second


def test_of_two_gateways_on_one_database_one_may_have_any_clock(
    replicas: tuple[GatewayProcess, GatewayProcess], faked: Faked
) -> None:
    first, second = replicas
    key = first.make_key(READER)
    assert abs(sent(second, key, "before")) < 5
    stream = urlopen_stream(second, key)
    faked.set(AHEAD)
    for number in range(10):
        assert abs(sent(second, key, f"there-{number}")) < 5
        assert abs(sent(first, key, f"here-{number}")) < 5
    faked.set(0)
    assert abs(sent(second, key, "after")) < 5
    everything = there(first, key)
    assert len(everything) == 22
    assert there(second, key) == everything
    assert ids_of(stream, 21) == everything[1:]
    for gateway in replicas:
        assert "was set by" not in readyz(gateway)
        assert figure(gateway, "clock_steps_total") == 0
    stream.close()


def findings(gateway: GatewayProcess) -> list[dict[str, Any]]:
    status, answer = gateway.ask("GET", "/v1/findings", gateway.first_key)
    assert status == 200
    found: list[dict[str, Any]] = answer["findings"]
    return found


def urlopen_stream(gateway: GatewayProcess, key: str) -> Any:
    """An open stream of lines."""
    from urllib.request import Request

    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    request = Request(f"{gateway.url}/v1/stream?category=test", headers=headers)
    return urlopen(request, timeout=patience())


def ids_of(stream: Any, count: int) -> list[str]:
    """The ids of the next events."""
    found: list[str] = []
    while len(found) < count:
        line = json.loads(stream.readline())
        assert line.get("type") != "end", line
        if "id" in line:
            found.append(line["id"])
    return found
