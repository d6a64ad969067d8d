"""The recipes of deploy/shippers/ with the real programs, all of which are killed meanwhile."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable
from functools import partial

import pytest
import recipes
from otlp_receiver import receiving
from recipes import Started
from scene import EVENTS, ROUNDS, MissingProgram, Scene, content, program_of

from tests.support.machine_time import patience


def started(recipe: Callable[..., Started], scene: Scene, *more: str) -> Started:
    try:
        return recipe(scene, *more)
    except MissingProgram as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(
    "recipe",
    [recipes.websocat, recipes.benthos, recipes.benthos_pages, recipes.telegraf, recipes.node_red],
    ids=lambda recipe: recipe.__name__,
)
def test_a_program_brings_every_event_of_a_consumer(
    scene: Scene, recipe: Callable[[Scene], Started]
) -> None:
    one = started(recipe, scene)
    kill = partial(scene.kill_while_reading, one.shipper, one.file)
    scene.produce(EVENTS, [kill, kill, scene.kill_gateway, kill])
    counts = scene.await_all(lambda: content(one.file))
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")


def test_the_collector_brings_every_event_from_the_file_of_tail(scene: Scene) -> None:
    with receiving() as (url, received):
        one = started(recipes.collector, scene, url)
        assert one.tail is not None
        assert one.events is not None
        kills = [one.shipper.kill, one.tail.kill, scene.kill_gateway, one.shipper.kill]
        scene.produce(EVENTS, kills * ROUNDS)
        counts = scene.await_all(lambda: b"".join(received))
    assert content(one.events).count(b"\n") == len(scene.sent)
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")


def test_telegraf_brings_every_line_once_into_the_gateway(scene: Scene) -> None:
    path, _ = program_of("telegraf")
    lines, url = scene.folder / "lines.ndjson", scene.gateway.url
    places = {"https://audit.example.org": url, "/var/log/app/audit.ndjson": str(lines)}
    file = scene.configured("telegraf", places, "ingest.conf")
    telegraf = scene.run([path, "--config", str(file)], {"AUDIT_KEY": scene.key})
    for fault in (telegraf.kill, scene.kill_gateway, telegraf.kill, lambda: None):
        before = len(scene.log_lines())
        ids = [f"t{len(scene.sent) + number}" for number in range(EVENTS // 4)]
        with lines.open("a") as output:
            for one in ids:
                print(f'{{"id":"{one}","category":"auth","action":"login"}}', file=output)
        scene.sent.update(ids)
        deadline = time.monotonic() + patience()
        while len(scene.log_lines()) == before:
            assert time.monotonic() < deadline, "nothing more is stored"
            time.sleep(0.05)
        fault()
    assert set(scene.await_all(scene.log_lines).values()) == {1}


def test_the_gateway_brings_every_event_into_victorialogs(scene: Scene) -> None:
    path, _ = program_of("victoria-logs")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    places = {
        "7kQ2mZ0aB1cD": scene.key.split("_")[1],
        "https://victorialogs.example.org": url,
    }
    file = scene.configured("victorialogs", places, "gateway.toml")
    storage = scene.folder / "storage"
    options = ["-retentionPeriod=10y", "-defaultMsgValue=event"]
    options += [f"-storageDataPath={storage}", f"-httpListenAddr={url.removeprefix('http://')}"]
    logs = scene.run([path, *options], {})
    scene.options = ["--config", str(file)]
    scene.kill_gateway()
    scene.produce(EVENTS, [scene.kill_gateway, logs.restart, scene.kill_gateway] * ROUNDS)

    def received() -> bytes:
        query = f"{url}/select/logsql/query?query=*&limit=1000000"
        try:
            with urllib.request.urlopen(query, timeout=patience(10)) as answer:
                found: bytes = answer.read()
                return found
        except OSError:
            return b""

    counts = scene.await_all(received)
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")
