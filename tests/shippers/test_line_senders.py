"""Benthos and Telegraf send lines of a file into the gateway, which is stopped for some seconds,
and killed. They need Go to be built (tests/setup_shippers.py)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from scene import EVENTS, Scene, program_of
from senders import POISONED, await_once, events_of, faults, paced, writer

from tests.support.machine_time import patience


def by_benthos(scene: Scene, lines: Path) -> None:
    path, settings = program_of("benthos")
    places = {
        "https://audit.example.org": scene.gateway.url, "/var/log/app/audit.ndjson": str(lines),
    }  # fmt: skip
    file = scene.configured("benthos", places, "ingest.yaml")
    scene.run([path, "-c", str(file)], settings | {"AUDIT_KEY": writer(scene)})


def by_telegraf(scene: Scene, lines: Path) -> None:
    path, settings = program_of("telegraf")
    places = {
        "https://audit.example.org": scene.gateway.url, "/var/log/app/audit.ndjson": str(lines),
    }  # fmt: skip
    file = scene.configured("telegraf", places, "ingest.conf")
    scene.run([path, "--config", str(file)], settings | {"AUDIT_KEY": writer(scene)})


@pytest.mark.parametrize("start", [by_benthos, by_telegraf])
def test_a_shipper_brings_every_line_of_a_file_once(
    scene: Scene, start: Callable[[Scene, Path], None]
) -> None:
    lines = scene.folder / "app.ndjson"
    if start is by_benthos:
        # It reads a file to its end, and waits for no more: a pipe has none.
        os.mkfifo(lines)
    else:
        lines.touch()
    start(scene, lines)
    sent: list[int] = []
    # A pipe that is opened so needs nobody who reads it yet.
    file = os.open(lines, os.O_RDWR | os.O_APPEND)
    with faults(scene, lambda: len(events_of(scene, "auth"))) as go_on, open(file, "w") as output:
        for number in paced(EVENTS, go_on):
            sent.append(number)
            wrong = {} if number % POISONED else {"severity": 9}
            event = {"id": f"e{number}", "category": "auth", "action": "login", **wrong}
            print(json.dumps(event), file=output, flush=True)
    good = [f"e{n}" for n in sent if n % POISONED]
    await_once(scene, good, lambda: [one["id"] for one in events_of(scene, "auth")])
    deadline = time.monotonic() + patience()
    while len(events_of(scene, "gateway.rejected")) < len(sent) // POISONED:
        assert time.monotonic() < deadline, "poisoned ones are kept apart"
        time.sleep(0.1)
