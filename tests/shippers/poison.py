"""One event in 1,000 that receivers refuse: found, shown, and sent again when they are mended.

    python tests/shippers/soak.py poison [EVENTS [SEED]]

What has no way to refuse an event is left out: `file` and `syslog`. What is printed is a table of
deploy/destinations.md.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import receivers
from otlp_receiver import receiving
from receivers import fetched
from scene import MissingProgram, Scene, content, ids_in
from soak import seeded

from tests.support.bad_receivers import STORES, EventStore
from tests.support.loaded_program import end_loader
from tests.support.machine_time import patience
from tests.support.outlets import HTTP_CASES, SECRET
from tests.support.scripted_receiver import scripted_receiver
from tests.support.services.ports import free_port

EVENTS, ONE_IN = 20_000, 1_000
_RATE, _BATCH = 400, 10
_LOOK_SECONDS = 0.25
# Those that no program here has, and that refuses.
_DOUBLES = ("splunk_hec", "loki", "s3")
_POISON = b'"poison"'
# The name of an actor has to be a number, and is no more than not indexed when it is mended.
_NUMBER = {"properties": {"user": {"properties": {"name": {"type": "integer"}}}}}
_MENDED = {"type": "integer", "ignore_malformed": True}


class Refusing(NamedTuple):
    """A receiver that refuses poison until it is mended."""

    name: str
    destination: Mapping[str, Any]
    counts: Callable[[], Counter[str]]
    mend: Callable[[], object]


def main() -> None:
    numbers = [int(one) for one in sys.argv[1:]]
    events = numbers[0] if numbers else EVENTS
    refused = [_POISON]
    with (
        TemporaryDirectory() as folder, Scene(Path(folder)) as scene,
        receiving(refused) as (url, received), _doubles() as doubles,
    ):  # fmt: skip
        if len(numbers) > 1:
            seeded(scene, numbers[1])
        path = scene.folder / "gateway.toml"
        path.write_text('[destinations]\nallow_networks = ["127.0.0.0/8"]\n')
        scene.options = ["--config", str(path)]
        scene.kill_gateway()
        rows = [_http(scene), *_opensearch(scene), *_collector(scene, url, received, refused)]
        rows += doubles
        for at, row in enumerate(rows):
            scene.ask("POST", "/v1/destinations", {
                "name": f"d{at}", "key": scene.key.split("_")[1], **row.destination,
            })  # fmt: skip
        bad, found = _send(scene, rows, events)
        print("| receiver, type | events | lost | dead letters | found within | sent again |")
        print("| --- | --- | --- | --- | --- | --- |")
        for at, row in enumerate(rows):
            _tell(scene, f"d{at}", row, bad, found[f"d{at}"])
    end_loader()


# Receivers


def _http(scene: Scene) -> Refusing:
    port, received, refused = free_port(), scene.folder / "taken", scene.folder / "refused"
    refused.write_bytes(_POISON)
    sink = [sys.executable, receivers.SINK, str(port), str(received), str(refused)]
    scene.run(sink, {})
    destination = {"type": "http", "settings": {"url": f"http://127.0.0.1:{port}/"}}
    return Refusing("a receiver of ours, `http`", destination,
                    lambda: Counter(ids_in(content(received))), refused.unlink)  # fmt: skip


def _opensearch(scene: Scene) -> Iterator[Refusing]:
    try:
        [made] = receivers.opensearch(scene)
    except MissingProgram as missing:
        print(missing)
        return
    url = made.destination["settings"]["url"]
    template = {"index_patterns": ["audit-*"], "priority": 300,
                "template": {"mappings": {"dynamic": False, **_NUMBER}}}  # fmt: skip
    fetched(f"{url}/_index_template/strict", json.dumps(template).encode(), "PUT")
    mended = {"properties": {"user": {"properties": {"name": _MENDED}}}}

    def mend() -> None:
        assert fetched(f"{url}/audit-*/_mapping", json.dumps(mended).encode(), "PUT")

    yield Refusing(made.name, made.destination, made.counts, mend)


def _collector(
    scene: Scene, url: str, received: list[bytes], refused: list[bytes]
) -> Iterator[Refusing]:
    try:
        [made] = receivers.collector(scene, url, received)
    except MissingProgram as missing:
        print(missing)
        return
    yield Refusing(made.name, made.destination, made.counts, refused.clear)


@contextmanager
def _doubles() -> Iterator[list[Refusing]]:
    """Receivers of ours, in a thread."""
    made: list[Refusing] = []
    started, stop = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with AsyncExitStack() as stack:
            for name in _DOUBLES:
                store = STORES[name](SECRET)
                receiver = await stack.enter_async_context(scripted_receiver(store.answer))
                made.append(_double(name, store, receiver.port))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait()
    try:
        yield made
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()


def _double(name: str, store: EventStore, port: int) -> Refusing:
    case = HTTP_CASES[name]
    store.refuses = lambda event: event.startswith("bad")

    def mend() -> None:
        store.refuses = lambda event: False

    destination = {
        "type": name, "settings": {**case.settings, "url": f"http://127.0.0.1:{port}"},
        "secrets": {kind: values[0] for kind, values in case.secrets.items()},
        "batch": {"max_wait": "1s"},
    }  # fmt: skip
    return Refusing(f"a receiver of ours, `{name}`", destination,
                    lambda: Counter(store.taken), mend)  # fmt: skip


# The run


def _send(
    scene: Scene, rows: list[Refusing], events: int
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Send the events. Returns when each bad one was sent, and, for each destination, when it was
    seen among the dead letters."""
    bad: dict[str, float] = {}
    found: dict[str, dict[str, float]] = {f"d{at}": {} for at in range(len(rows))}
    ended = threading.Event()

    def look() -> None:
        for name, seen in found.items():
            shown = scene.ask("GET", f"/v1/destinations/{name}/dead-letters?limit=1000")
            for letter in shown["dead_letters"]:
                seen.setdefault(letter["event"], time.monotonic())

    def watch() -> None:
        while not ended.wait(_LOOK_SECONDS):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    due = time.monotonic()
    poisoned = {
        scene.chance.randrange(first, min(first + ONE_IN, events))
        for first in range(0, events, ONE_IN)
    }
    for first in range(0, events, _BATCH):
        time.sleep(max(0.0, due - time.monotonic()))
        due += _BATCH / _RATE
        batch = [_event(number, number in poisoned) for number in range(first, first + _BATCH)]
        now = time.monotonic()
        status, said = scene.gateway.ask("POST", "/v1/events", scene.key, batch)
        assert status == 201, said
        scene.sent |= {one["id"] for one in batch}
        bad |= {one["id"]: now for one in batch if "actor" in one}
    deadline = time.monotonic() + patience(60)
    while any(len(seen) < len(bad) for seen in found.values()) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    ended.set()
    thread.join()
    return bad, found


def _event(number: int, bad: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"id": f"e{number}", "category": "auth", "action": "login"}
    if bad:
        made |= {"id": f"bad{number}", "actor": {"id": "mallory", "name": "poison"}}
    return made


def _tell(
    scene: Scene, name: str, row: Refusing, bad: dict[str, float], found: dict[str, float]
) -> None:
    good = scene.sent - bad.keys()
    scene.until(lambda: scene.ask("GET", f"/v1/destinations/{name}")["lag"]["events"] == 0, "level")
    scene.until(lambda: row.counts().keys() >= good, f"the good ones at {row.name}")
    counts = row.counts()
    assert not counts.keys() & bad.keys(), "it was to refuse them"
    shown = scene.ask("GET", f"/v1/destinations/{name}")
    assert shown["state"] == "active", shown
    late = max((found[one] - at for one, at in bad.items() if one in found), default=float("nan"))
    row.mend()
    again = {"dead_letters": "all", "reason": "the receiver is mended"}
    scene.ask("POST", f"/v1/destinations/{name}/replay", again)
    scene.until(lambda: row.counts().keys() >= bad.keys(), f"the bad ones at {row.name}")
    scene.until(
        lambda: scene.ask("GET", f"/v1/destinations/{name}")["dead_letters"] == 0, "no dead letters"
    )
    lost = len(scene.sent - row.counts().keys())
    print(
        f"| {row.name} | {len(scene.sent):,} | {lost} | {len(found.keys() & bad.keys())} of "
        f"{len(bad)} | {late:.1f} s | {len(row.counts().keys() & bad.keys())} |", flush=True,
    )  # fmt: skip


if __name__ == "__main__":
    main()
