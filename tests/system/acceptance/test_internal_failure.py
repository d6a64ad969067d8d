"""A task that goes on failing, in the program as users run it: it ends with status 70."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import ROOT, GatewayProcess
from tests.support.machine_time import patience

pytestmark = pytest.mark.slow
EVERYTHING = {"actions": ["stream", "ingest"], "categories": ["**"]}
# Loaded by Python itself when the program starts: the tail of the processes that are named in the
# file fails.
_BREAKING = """
import os, pathlib
from gateway.streaming.tail import Tail

whole = Tail._has_more
marker = pathlib.Path({marker!r})

def has_more(self):
    if marker.exists() and str(os.getpid()) in marker.read_text().split():
        raise RuntimeError("made to fail")
    return whole(self)

Tail._has_more = has_more
"""


class Breakable:
    """A gateway whose processes can be made to fail."""

    def __init__(self, folder: Path, *options: str) -> None:
        site = folder / "site"
        site.mkdir()
        self._marker = folder / "failing"
        (site / "sitecustomize.py").write_text(_BREAKING.format(marker=str(self._marker)))
        settings = {"PYTHONPATH": f"{site}:{ROOT}", "AUDIT_GATEWAY_SERVER__DRAIN_TIMEOUT": "1s"}
        self.process = GatewayProcess(folder / "data", *options, settings=settings)

    def fail(self, *pids: int) -> None:
        self._marker.write_text(" ".join(map(str, pids)))


def streaming(gateway: GatewayProcess, key: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(30))
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    connection.request("GET", "/v1/stream", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer


def last_of(stream: http.client.HTTPResponse) -> Any:
    return json.loads(stream.read().splitlines()[-1])


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_gateway_that_cannot_go_on_ends_its_streams_and_exits_with_70(tmp_path: Path) -> None:
    breakable = Breakable(tmp_path)
    with breakable.process as gateway:
        key = gateway.make_key(EVERYTHING)
        stream = streaming(gateway, key)
        gateway.post([{"id": "a", "category": "auth", "action": "login"}], key)
        breakable.fail(gateway.pid)
        end = last_of(stream)
        assert (end["code"], end["reason"]) == (1012, "restart")
        assert end["cursor"]
        assert gateway.ended() == 70
        said = gateway.errors.splitlines()[-1]
        assert said.startswith("error: internal error: the task tail failed 3 times")
        assert gateway.errors.count("RuntimeError: made to fail") == 3


def test_a_worker_that_cannot_go_on_is_started_again(tmp_path: Path) -> None:
    breakable = Breakable(tmp_path, "--workers", "2")
    with breakable.process as gateway:
        before = children(gateway.pid)
        breakable.fail(before[1])
        deadline = time.monotonic() + patience(30)
        while len(now := children(gateway.pid)) < 2 or before[1] in now:
            assert time.monotonic() < deadline, gateway.errors
            time.sleep(0.05)
        assert before[0] in now, "the other one has gone on"
        assert "the task tail failed 3 times" in gateway.errors
        assert "starting it again" in gateway.errors
        key = gateway.make_key(EVERYTHING)
        gateway.post([{"id": "a", "category": "auth", "action": "login"}], key)
        gateway.kill()
