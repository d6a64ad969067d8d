"""What tests of programs that send into the gateway share: outages of it, and what came of it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from scene import Scene

from tests.support.examples import examples
from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience

# As long as in the tables of the pages, where there is time for it.
STOPPED = examples(30, least=5) / 10
# One in so many is poisoned.
POISONED = 20


def writer(scene: Scene) -> str:
    """A key that may write all events."""
    return scene.gateway.make_key({"actions": ["ingest"], "categories": ["**"]})


@contextmanager
def faults(scene: Scene, came: Callable[[], int]) -> Iterator[Callable[[], bool]]:
    """The gateway is stopped, and later killed, each once something has come; gives what tells
    whether that goes on."""

    def await_more(before: int) -> int:
        deadline = time.monotonic() + patience(30)
        while (now := came()) <= before:
            assert time.monotonic() < deadline, "nothing more comes"
            time.sleep(0.05)
        return now

    def fail() -> None:
        some = await_more(0)
        port = scene.gateway.port
        scene.gateway.stop()
        time.sleep(STOPPED)
        scene.gateway = GatewayProcess(scene.folder / "data", port=port)
        await_more(some)
        scene.kill_gateway()

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        thread.join()


def paced(many: int, go_on: Callable[[], bool]) -> Iterator[int]:
    """Numbers of what is sent: so many at least, and until the faults are over."""
    number = 0
    while number < many or go_on() or number % POISONED:
        yield number
        number += 1
        time.sleep(0.002)


def events_of(scene: Scene, category: str) -> list[Any]:
    """All events of a category; none while the gateway is away."""
    found: list[Any] = []
    after = "from=start"
    while True:
        path = f"/v1/events?{after}&limit=5000&category={category}"
        try:
            status, page = scene.gateway.ask("GET", path, scene.admin)
        except (OSError, ValueError):
            return []
        assert status == 200, page
        found += page["events"]
        if not page["has_more"]:
            return found
        after = f"after={page['cursor']}"


def await_once(scene: Scene, wanted: Iterable[str], names: Callable[[], Iterable[str]]) -> None:
    """Wait until all that is wanted has come, and see that nothing came twice."""
    missing = set(wanted)
    deadline = time.monotonic() + patience(30)
    while True:
        counts = Counter(names())
        if missing <= counts.keys():
            break
        lost = len(missing - counts.keys())
        assert time.monotonic() < deadline, f"{lost} of {len(missing)} are lost"
        time.sleep(0.1)
    print(f"{len(counts)} came, none lost")
    repeated = {name: count for name, count in counts.items() if count > 1}
    assert not repeated, json.dumps(repeated)[:500]
