"""SIGKILL in the middle of ingest: what was acknowledged is there, once."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience

_ROUNDS = 5
_PRODUCERS = 4
_MOST_IN_ONE_REQUEST = 40
_PAGE = 5000

# Reads and sends everything but the gateway's own records, which these tests do not count.
_ALL_BUT_THE_RECORD = {"actions": ["stream", "pull", "ingest"], "categories": ["**"]}


@dataclass
class Batch:
    """The events of one request, by id, and whether the gateway said that it has them."""

    ids: list[str]
    acknowledged: bool = False

    def body(self) -> bytes:
        return json.dumps([event(one) for one in self.ids]).encode()


@dataclass
class Producer:
    """Posts batch after batch over one connection until the gateway is gone."""

    name: str
    host: str
    port: int
    key: str
    enough: threading.Semaphore
    batches: list[Batch] = field(default_factory=list)

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=patience(20))
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            for number in itertools.count():
                size = random.randint(1, _MOST_IN_ONE_REQUEST)
                batch = Batch([f"{self.name}-{number}-{index}" for index in range(size)])
                self.batches.append(batch)
                connection.request("POST", "/v1/events", batch.body(), headers)
                answer = connection.getresponse()
                counts = json.loads(answer.read())
                assert (answer.status, counts["accepted"]) == (201, size), counts
                batch.acknowledged = True
                self.enough.release()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()


def all_events(gateway: GatewayProcess, key: str) -> list[dict[str, Any]]:
    """Every event of the log, page by page."""
    events: list[dict[str, Any]] = []
    after, more = "", True
    while more:
        status, page = gateway.ask("GET", f"/v1/events?limit={_PAGE}{after}", key)
        assert status == 200, page
        events += page["events"]
        after, more = f"&after={page['cursor']}", page["has_more"]
    return events


def kill_amid_ingest(gateway: GatewayProcess, key: str, round_: int) -> list[Batch]:
    """Kill the gateway at a random moment under load; return everything that was sent."""
    enough = threading.Semaphore(0)
    producers = [
        Producer(f"r{round_}-p{number}", gateway.host, gateway.port, key, enough)
        for number in range(_PRODUCERS)
    ]
    threads = [threading.Thread(target=producer.run) for producer in producers]
    for thread in threads:
        thread.start()
    for _ in range(random.randint(5, 120)):
        assert enough.acquire(timeout=patience(20))
    gateway.kill()
    for thread in threads:
        thread.join(patience(20))
        assert not thread.is_alive()
    return [batch for producer in producers for batch in producer.batches]


def test_what_was_acknowledged_is_there_once_after_each_kill(tmp_path: Path) -> None:
    data, key, admin = tmp_path / "data", "", ""
    sent: list[Batch] = []
    for round_ in range(_ROUNDS):
        with GatewayProcess(data) as gateway:
            admin = admin or gateway.first_key
            key = key or gateway.make_key(_ALL_BUT_THE_RECORD)
            sent += kill_amid_ingest(gateway, key, round_)
    unsure = [batch for batch in sent if not batch.acknowledged]
    assert unsure

    with GatewayProcess(data) as gateway:
        stored = Counter(event["id"] for event in all_events(gateway, key))
        assert set(stored.values()) == {1}
        for batch in sent:
            kept = sum(stored[one] for one in batch.ids)
            # A request is all or nothing, also where nobody was told which.
            assert kept in ((len(batch.ids),) if batch.acknowledged else (0, len(batch.ids)))

        # A producer that does not know sends again.
        for batch in unsure:
            status, counts = gateway.ask("POST", "/v1/events", key, batch.body())
            assert status == 201
            assert counts["accepted"] + counts["duplicates"] == len(batch.ids)
        events = all_events(gateway, key)
        assert Counter(event["id"] for event in events) == Counter(
            one for batch in sent for one in batch.ids
        )
        assert_dense([event["cursor"] for event in all_events(gateway, admin)])


def test_a_stream_resumes_behind_its_cursor_after_each_kill(tmp_path: Path) -> None:
    data, key, cursor = tmp_path / "data", "", ""
    received: list[dict[str, Any]] = []
    sent: list[str] = []
    for round_ in range(_ROUNDS):
        with GatewayProcess(data) as gateway:
            key = key or gateway.make_key(_ALL_BUT_THE_RECORD)
            with open_stream(gateway, key, cursor) as lines:
                stored = [f"r{round_}-{number}" for number in range(200)]
                gateway.post([event(one) for one in stored], key)
                sent += stored
                # The last round takes what is left; the others leave events unread.
                left = len(sent) - len(received)
                wanted = left if round_ == _ROUNDS - 1 else random.randint(1, left)
                received += map(json.loads, islice(lines, wanted))
                cursor = received[-1]["cursor"]
                gateway.kill()
    assert [one["id"] for one in received] == sent
    cursors = [one["cursor"] for one in received]
    assert cursors == sorted(set(cursors))


@contextmanager
def open_stream(gateway: GatewayProcess, key: str, cursor: str) -> Iterator[Iterator[bytes]]:
    """The events of an NDJSON stream from the start, or behind a cursor."""
    begin = f"after={cursor}" if cursor else "from=start"
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/x-ndjson"}
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=patience(20))
    with closing(connection):
        connection.request("GET", f"/v1/stream?{begin}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        yield (line for line in answer if not line.startswith(b'{"type"'))


def event(event_id: str) -> dict[str, Any]:
    return {"id": event_id, "category": "test", "action": "test.kill"}


def assert_dense(cursors: list[str]) -> None:
    """The offsets are 1, 2, 3 and so on, in one epoch."""
    [epoch] = {cursor.partition("-")[0] for cursor in cursors}
    assert cursors == [f"{epoch}-{offset:020d}" for offset in range(1, len(cursors) + 1)]
