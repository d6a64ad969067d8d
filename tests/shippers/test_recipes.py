"""The recipes of deploy/shippers/ with the real programs, all of which are killed meanwhile."""

from __future__ import annotations

import os
import socket
import time
import urllib.request
from functools import partial

import pytest
from otlp_receiver import receiving
from scene import (
    EVENTS,
    FOLDER,
    RECEIVED_FILE,
    RECIPES,
    ROUNDS,
    MissingProgram,
    Scene,
    content,
    found,
    program_of,
)

from tests.setup_clients import Missing, node_program
from tests.support.machine_time import patience


def test_the_collector_brings_every_event_from_the_file_of_tail(scene: Scene) -> None:
    path, settings = program_of("otelcol")
    events = scene.folder / "events.ndjson"
    with receiving() as (url, received):
        places = {
            "/var/lib/otelcol/storage": str(scene.folder / "storage"),
            "https://otlp.example.org": url,
        }
        file = scene.configured("otel-collector", places)
        arguments = ["--config", str(file), "--feature-gates=stanza.synchronousLogEmitter"]
        tail = scene.tail(events)
        shipper = scene.run([path, *arguments], settings)
        scene.produce(EVENTS, [shipper.kill, tail.kill, scene.kill_gateway, shipper.kill] * ROUNDS)
        counts = scene.await_all(lambda: b"".join(received))
    assert content(events).count(b"\n") == len(scene.sent)
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")


def test_websocat_brings_every_event_of_a_consumer(scene: Scene) -> None:
    path, _ = program_of("websocat")
    received = scene.folder / "received.ndjson"
    credentials = scene.folder / "credentials"
    credentials.write_text(f"anybody:{scene.key}\n")
    settings = {
        "PATH": f"{path.parent}{os.pathsep}{os.environ['PATH']}", "FILE": str(received),
        "URL": scene.gateway.url.replace("http", "ws"), "CREDENTIALS": str(credentials),
    }  # fmt: skip
    websocat = scene.run(["sh", RECIPES / "websocat" / "follow.sh"], settings)
    kill = partial(scene.kill_while_reading, websocat, received)
    scene.produce(EVENTS, [kill, kill, scene.kill_gateway, kill])
    counts = scene.await_all(lambda: content(received))
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")


def test_benthos_brings_every_event_of_a_consumer(scene: Scene) -> None:
    path, _ = program_of("benthos")
    received = scene.folder / "received.ndjson"
    url = scene.gateway.url.replace("http", "ws")
    places = {"wss://audit.example.org": url, RECEIVED_FILE: str(received)}
    file = scene.configured("benthos", places)
    benthos = scene.run([path, "-c", str(file)], {"AUDIT_KEY": scene.key})
    kill = partial(scene.kill_while_reading, benthos, received)
    scene.produce(EVENTS, [kill, kill, scene.kill_gateway, kill])
    counts = scene.await_all(lambda: content(received))
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")


def test_benthos_brings_every_event_of_pages(scene: Scene) -> None:
    path, _ = program_of("benthos")
    received = scene.folder / "received.ndjson"
    places = {"https://audit.example.org": scene.gateway.url, RECEIVED_FILE: str(received)}
    file = scene.configured("benthos", places, "polling.yaml")
    benthos = scene.run([path, "-c", str(file)], {"AUDIT_KEY": scene.key})
    kill = partial(scene.kill_while_reading, benthos, received)
    scene.produce(EVENTS, [kill, kill, scene.kill_gateway, kill])
    counts = scene.await_all(lambda: content(received))
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")


def test_telegraf_brings_every_event_of_pages(scene: Scene) -> None:
    path, _ = program_of("telegraf")
    received, key = scene.folder / "received.ndjson", scene.folder / "key"
    key.write_text(scene.key)
    places = {
        "https://audit.example.org": scene.gateway.url, "/etc/audit/siem.key": str(key),
        "/var/lib/telegraf/buffer": str(scene.folder / "buffer"), RECEIVED_FILE: str(received),
    }  # fmt: skip
    file = scene.configured("telegraf", places)
    telegraf = scene.run([path, "--config", str(file)], {})
    kill = partial(scene.kill_while_reading, telegraf, received)
    scene.produce(EVENTS, [kill, kill, scene.kill_gateway, kill])
    counts = scene.await_all(lambda: content(received))
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


def test_node_red_brings_every_event_of_a_consumer(scene: Scene) -> None:
    try:
        node, _ = node_program(), found("node-red/node_modules/node-red/red.js")
    except (Missing, MissingProgram) as missing:
        pytest.skip(str(missing))
    received = scene.folder / "received.ndjson"
    file = scene.configured("node-red", {RECEIVED_FILE: str(received)}, "flows.json")
    url = scene.gateway.url.replace("http", "ws")
    settings = {
        "AUDIT_STREAM": f"{url}/v1/stream?consumer=node-red&from=start&on_gap=skip",
        "AUDIT_AUTHORIZATION": f"Bearer {scene.key}",
        # Node keeps compiled code there.
        "TMPDIR": str(scene.folder),
    }
    red = FOLDER / "node-red" / "node_modules" / "node-red" / "red.js"
    options = ["-u", str(scene.folder / "user"), "-p", "0", str(file)]
    node_red = scene.run([node, red, *options], settings)
    kill = partial(scene.kill_while_reading, node_red, received)
    scene.produce(EVENTS, [kill, kill, scene.kill_gateway, kill])
    counts = scene.await_all(lambda: content(received))
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")


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
