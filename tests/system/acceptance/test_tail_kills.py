"""`audit-gateway tail --output` killed at any moment: its file has every event of the log, once."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import threading
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

import pytest

from tests.support import gateway_process
from tests.support.examples import examples
from tests.support.gateway_process import GatewayProcess, run_program
from tests.support.loaded_program import LoadedProgram
from tests.support.machine_time import patience

MOST_SECONDS = 0.3
READER = {"actions": ["pull", "stream", "ingest"], "categories": ["auth", "auth.**"]}


class Producer:
    """Sends events without pause, of any length, until it is told to stop."""

    def __init__(self, gateway: GatewayProcess, key: str, chance: random.Random) -> None:
        self.gateway = gateway
        self.sent = 0
        self._key = key
        self._chance = chance
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _send(self) -> None:
        while not self._stopped.wait(0.005):
            events = [
                {"category": "auth", "action": "login", "reason": "x" * self._chance.randrange(900),
                 "data": {"n": number}}
                for number in range(self._chance.randrange(1, 40))
            ]  # fmt: skip
            try:
                status, _ = self.gateway.ask("POST", "/v1/events", self._key, events)
            except (OSError, HTTPException, ValueError):
                # It was killed, perhaps in the middle of its answer.
                continue
            self.sent += len(events) if status == 201 else 0


def lines_of_log(gateway: GatewayProcess, key: str) -> bytes:
    """All events as the log has them."""
    lines, cursor = b"", ""
    while True:
        place = f"after={cursor}" if cursor else "from=start"
        request = urllib.request.Request(
            f"{gateway.url}/v1/events?limit=5000&{place}",
            headers={"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"},
        )
        with urllib.request.urlopen(request, timeout=patience(30)) as answer:
            lines += answer.read()
            cursor = answer.headers["Audit-Cursor"]
            if answer.headers["Audit-Has-More"] != "true":
                return lines


def lines_of_files(file: Path) -> bytes:
    """What was written, from the oldest file to the newest."""
    rotated = [
        (int(found[1]), path)
        for path in file.parent.iterdir()
        if (found := re.fullmatch(rf"{re.escape(file.name)}\.([0-9]+)", path.name))
    ]
    paths = [path for _, path in sorted(rotated, reverse=True)]
    return b"".join(path.read_bytes() for path in (*paths, file))


def started(
    arguments: list[str], settings: dict[str, str], folder: Path
) -> LoadedProgram | subprocess.Popen[str]:
    with (folder / "said").open("ab") as said:
        return gateway_process.start(arguments, settings, stdout=said, stderr=said)


@pytest.mark.parametrize("rotated", [False, True])
def test_however_often_it_is_killed_the_file_is_the_log_byte_for_byte(
    tmp_path: Path, rotated: bool
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    file = tmp_path / "out" / "events.ndjson"
    file.parent.mkdir()
    rounds = examples(100, least=20) // 2
    with GatewayProcess(tmp_path / "data") as gateway:
        key = gateway.make_key(READER)
        settings = {"AUDIT_GATEWAY_KEY": key}
        arguments = ["tail", "--url", gateway.url, "--output", str(file), "--from", "start"]
        if rotated:
            arguments += ["--rotate-size", "30KiB", "--rotate-keep", "100000"]
        producer = Producer(gateway, key, random.Random(seed + 1))
        try:
            for _ in range(rounds):
                tail = started(arguments, settings, tmp_path)
                time.sleep(chance.uniform(0, MOST_SECONDS))
                tail.send_signal(signal.SIGKILL)
                assert tail.wait(patience()) == -signal.SIGKILL
        finally:
            producer.stop()
        done = run_program(*arguments, "--no-follow", settings=settings)
        assert done.returncode == 0, done.stderr
        expected = lines_of_log(gateway, key)
        assert producer.sent
        assert expected.count(b"\n") >= producer.sent
        assert lines_of_files(file) == expected


def test_a_gateway_that_is_killed_meanwhile_leaves_no_gap_and_no_repeat(tmp_path: Path) -> None:
    file = tmp_path / "events.ndjson"
    data = tmp_path / "data"
    first = GatewayProcess(data)
    with first:
        key = first.make_key(READER)
        arguments = ["tail", "--url", first.url, "--output", str(file), "--from", "start"]
        tail = started(arguments, {"AUDIT_GATEWAY_KEY": key}, tmp_path)
        try:
            producer = Producer(first, key, random.Random(1))
            for _ in range(examples(10, least=2)):
                wait_for_more(file)
                first.kill()
                gateway = GatewayProcess(data, port=first.port)
                producer.gateway = first = gateway
                wait_for_more(file)
            producer.stop()
            expected = lines_of_log(first, key)
            deadline = time.monotonic() + patience()
            while file.stat().st_size < len(expected):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert file.read_bytes() == expected
        finally:
            tail.send_signal(signal.SIGTERM)
            assert tail.wait(patience()) == 0
            first.stop()


def wait_for_more(file: Path) -> None:
    """Wait until more events have come."""

    def size() -> int:
        return file.stat().st_size if file.exists() else 0

    before, deadline = size(), time.monotonic() + patience()
    while size() == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_consumer_is_written_once_over_kills_and_acknowledged_behind_the_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "events.ndjson"
    chance = random.Random(5)
    with GatewayProcess(tmp_path / "data") as gateway:
        key = gateway.make_key(READER)
        settings = {"AUDIT_GATEWAY_KEY": key}
        arguments = ["tail", "--url", gateway.url, "--consumer", "file", "--from", "start"]
        arguments += ["--output", str(file)]
        producer = Producer(gateway, key, random.Random(6))
        try:
            for _ in range(examples(20, least=4)):
                tail = started(arguments, settings, tmp_path)
                wait_for_more(file)
                time.sleep(chance.uniform(0, MOST_SECONDS))
                tail.send_signal(signal.SIGKILL)
                tail.wait(patience())
        finally:
            producer.stop()
        done = run_program(*arguments, "--no-follow", settings=settings)
        assert done.returncode == 0, done.stderr
        assert file.read_bytes() == lines_of_log(gateway, key)
        _, shown = gateway.ask("GET", "/v1/consumers/file", key)
        last = json.loads(file.read_bytes().splitlines()[-1])["cursor"]
        assert shown["unacknowledged"] == 0
        # Or further, over records of the gateway's own.
        assert shown["cursor"] >= last
