"""Programs and libraries that send CloudEvents and log records of OpenTelemetry, as they are: with
the configuration of deploy/shippers/, while the gateway is stopped for some seconds, and killed."""

from __future__ import annotations

import importlib.util
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import requests
from cloudevents.core.v1.event import CloudEvent
from scene import EVENTS, RECIPES, Scene, program_of
from senders import POISONED, events_of, paced

from tests.support.examples import examples
from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience

# As long as in the tables of the pages, where there is time for it.
STOPPED = examples(30, least=3) / 10


def module_of(recipe: str, name: str) -> ModuleType:
    """A file of a recipe, as its users run it."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / recipe / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stop_for(scene: Scene, seconds: float) -> None:
    """Stop the gateway in its own way, and start it after some seconds."""
    port = scene.gateway.port
    scene.gateway.stop()
    time.sleep(seconds)
    scene.gateway = GatewayProcess(scene.folder / "data", *scene.options, port=port)


@contextmanager
def faults(scene: Scene, seconds: float = STOPPED) -> Iterator[Callable[[], bool]]:
    """The gateway is stopped, and killed, meanwhile; gives what tells whether that goes on."""

    def fail() -> None:
        for fault in (lambda: stop_for(scene, seconds), scene.kill_gateway):
            time.sleep(scene.chance.uniform(0.1, 0.3))
            fault()

    thread = threading.Thread(target=fail)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        thread.join()


def await_numbers(
    scene: Scene, sent: Iterable[int], number_of: Callable[[Any], int]
) -> Counter[int]:
    """Wait until all good numbers are in the log; how often each is."""
    good = {number for number in sent if number % POISONED}
    deadline = time.monotonic() + patience()
    while True:
        events = [json.loads(line) for line in scene.log_lines().splitlines()]
        counts = Counter(map(number_of, events))
        if good <= counts.keys():
            print(f"lost 0 of {len(good)}, twice {counts.total() - len(counts)}")
            return counts
        missing = len(good - counts.keys())
        assert time.monotonic() < deadline, f"{missing} of {len(good)} are lost"
        time.sleep(0.05)


def refused(scene: Scene) -> int:
    """How many records are kept apart."""
    return len(events_of(scene, "gateway.rejected"))


def test_the_sdk_of_cloudevents_brings_every_event_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_URL", scene.gateway.url)
    monkeypatch.setenv("AUDIT_KEY", scene.key)
    recipe = module_of("cloudevents", "send")
    answers: Counter[int] = Counter()
    sent: list[int] = []
    with faults(scene) as go_on, recipe.SESSION:
        for number in paced(EVENTS // 2, go_on):
            sent.append(number)
            attributes = {
                "specversion": "1.0", "id": str(number), "source": "/shop", "type": "auth.login",
                "tenant": "default" if number % POISONED else "gateway",
            }  # fmt: skip
            try:
                recipe.send(CloudEvent(attributes, {"number": number}))
            except requests.HTTPError as error:
                answers[error.response.status_code] += 1
    counts = await_numbers(scene, sent, lambda event: event["data"]["data"]["number"])
    assert set(counts.values()) == {1}
    assert answers == {422: len(sent) // POISONED}, "a poisoned event costs only itself"


def test_the_sdk_of_opentelemetry_brings_every_record_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", scene.gateway.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer%20{scene.key}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", str(round(patience(60))))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    recipe = module_of("opentelemetry-python", "audit_log")
    provider = recipe.audit_provider("shop")
    sent: list[int] = []
    try:
        with faults(scene) as go_on:
            logger = provider.get_logger("audit")
            for number in paced(EVENTS, go_on):
                sent.append(number)
                tenant = {} if number % POISONED else {"audit__tenant": "gateway"}
                recipe.audit(logger, "login", number=number, **tenant)
        counts = await_numbers(scene, sent, lambda event: event["data"]["attributes"]["number"])
    finally:
        provider.shutdown()
    assert set(counts.values()) == {1}
    assert refused(scene) == len(sent) // POISONED


def test_a_collector_brings_every_line_of_a_file_once(scene: Scene) -> None:
    path, settings = program_of("otelcol")
    lines = scene.folder / "lines.ndjson"
    places = {
        "/var/lib/otelcol/storage": str(scene.folder / "storage"),
        "/var/log/app/audit.ndjson": str(lines),
        "https://audit.example.org": scene.gateway.url,
        "${env:AUDIT_KEY}": scene.key,
    }
    file = scene.configured("otel-collector", places, "ingest.*")
    options = ["--config", str(file), "--feature-gates=stanza.synchronousLogEmitter"]
    lines.touch()
    collector = scene.run([path, *options], settings)
    sent: list[int] = []
    with faults(scene, 3.0) as go_on, lines.open("a") as output:
        for number in paced(EVENTS, go_on):
            sent.append(number)
            category = "auth" if number % POISONED else "gateway.keys"
            event = {
                "id": f"n{number}", "category": category, "action": "login",
                "data": {"number": number},
            }  # fmt: skip
            print(json.dumps(event), file=output, flush=True)
            if number == EVENTS // 2:
                collector.kill()
    counts = await_numbers(scene, sent, lambda event: event["data"]["number"])
    assert set(counts.values()) == {1}
    assert refused(scene) == len(sent) // POISONED
