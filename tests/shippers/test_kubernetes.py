"""The audit webhook of Kubernetes with the configuration of deploy/shippers/kubernetes/.

The backend of `k8s.io/apiserver` as it is, in a program that needs Go to be built
(tests/setup_shippers.py)."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest
from scene import Scene, program_of

from tests.support.gateway_process import GatewayProcess
from tests.support.machine_time import patience
from tests.system.deploy.proxies import Certificate, Proxy

POISON = 20
_SAYS = re.compile(r"events (\d+), given up (\d+), seconds ([\d.]+), behind ([\d.]+)")


class Sent(NamedTuple):
    """What the backend says: events, how many it gave up, and seconds of making them and after."""

    events: int
    given_up: int
    seconds: float
    behind: float


@pytest.fixture
def proxy(scene: Scene) -> Iterator[Proxy]:
    """What the webhook connects to: it sends no token without TLS."""
    folder = scene.folder / "tls"
    folder.mkdir()
    address = f"127.0.0.1:{scene.gateway.port}"
    with Proxy("nginx", scene.folder / "nginx", Certificate(folder), (address, address)) as made:
        yield made


class Webhook:
    """A program that is an API server to its audit backend."""

    def __init__(self, scene: Scene, proxy: Proxy, requests: int, rate: int, *options: str) -> None:
        path, _ = program_of("kube_audit")
        grant = {"actions": ["ingest"], "categories": ["k8s.audit"]}
        key = scene.folder / "audit-gateway.key"
        key.write_text(scene.gateway.make_key(grant))
        places = {
            "https://audit.example.org": proxy.url,
            "/etc/kubernetes/audit-gateway.key": str(key),
            "# certificate-authority:": "certificate-authority:",
            "/etc/kubernetes/audit-ca.crt": str(proxy.certificate),
        }
        file = scene.configured("kubernetes", places, "audit-webhook.yaml")
        command = [path, f"-audit-webhook-config-file={file}", f"-requests={requests}"]
        command += [f"-rate={rate}", "-audit-webhook-batch-max-wait=500ms", *options]
        # It writes down each event that it gives up.
        self._errors = scene.folder / "errors"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def sent(self, seconds: float) -> Sent:
        """What it says at its end."""
        try:
            said, _ = self._process.communicate(timeout=patience(seconds))
        finally:
            self._process.kill()
            self._process.wait()
        found = _SAYS.fullmatch(said.strip())
        assert found is not None, self._errors.read_text()[-3000:]
        events, given_up, making, behind = found.groups()
        return Sent(int(events), int(given_up), float(making), float(behind))


def logged(scene: Scene, category: str) -> list[Any]:
    """All events of a category."""
    found: list[Any] = []
    after = "from=start"
    while True:
        path = f"/v1/events?{after}&limit=5000&category={category}"
        page = scene.ask("GET", path)
        found += page["events"]
        if not page["has_more"]:
            return found
        after = f"after={page['cursor']}"


def test_no_event_of_the_webhook_is_lost_or_doubled_while_the_gateway_is_away_or_killed(
    scene: Scene, proxy: Proxy
) -> None:
    requests = 1000
    webhook = Webhook(
        scene, proxy, requests, 400, "-audit-webhook-initial-backoff=2s", f"-poison={POISON}"
    )
    scene.gateway.kill()
    time.sleep(3)
    scene.gateway = GatewayProcess(scene.gateway.data, port=scene.gateway.port)
    scene.until(lambda: bool(logged(scene, "k8s.audit")), "a batch after the pause")
    scene.kill_gateway()
    sent = webhook.sent(60)
    assert (sent.events, sent.given_up) == (2 * requests, 0)
    events = logged(scene, "k8s.audit")
    counts = Counter((event["request"]["id"], event["data"]["stage"]) for event in events)
    poisoned = {(f"a-{number}", "ResponseComplete") for number in range(0, requests, POISON)}
    both = ("RequestReceived", "ResponseComplete")
    wanted = {(f"a-{number}", stage) for number in range(requests) for stage in both}
    assert counts.keys() == wanted - poisoned
    assert set(counts.values()) == {1}
    assert all(event["targets"][0]["urn"].startswith("k8s:prod/ns/pay/") for event in events)
    refused = logged(scene, "gateway.rejected")
    assert len(refused) == len(poisoned)
    assert all("twice" in event["data"]["rejected_item"]["reason"] for event in refused)


@pytest.mark.parametrize("seconds", [5])
def test_the_gateway_keeps_up_with_ten_batches_of_400_events_a_second(
    scene: Scene, proxy: Proxy, seconds: int
) -> None:
    webhook = Webhook(scene, proxy, 2000 * seconds, 4000)
    sent = webhook.sent(120)
    print(
        f"{sent.events} events in {sent.seconds} s, and {sent.behind} s until the last was stored"
    )
    assert sent.given_up == 0
    assert sent.behind < patience(2)
    scene.until(partial(_has, scene, sent.events), "all events")


def _has(scene: Scene, count: int) -> bool:
    return len(logged(scene, "k8s.audit")) == count
