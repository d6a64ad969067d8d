from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.demo import demo_events

MEMBERS = {
    "tenant": str,
    "category": str,
    "action": str,
    "outcome": str,
    "severity": int,
    "actor": dict,
    "source": dict,
    "targets": list,
    "request": dict,
    "reason": str,
    "data": dict,
}
TEXT_MEMBERS = {
    "actor": {"type", "id", "name", "key_id"},
    "source": {"service", "ip", "user_agent"},
    "request": {"id", "trace_id"},
    "target": {"urn", "type", "id", "name"},
}
DOCUMENTATION = [ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
DOTTED = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


def sample(seed: int = 1, count: int = 3000) -> list[dict[str, Any]]:
    return list(islice(demo_events(seed), count))


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0)


def complaints(event: dict[str, Any]) -> Iterator[str]:
    """What the rules for events (design, section 2) say against an event."""
    for name, value in event.items():
        if type(value) is not MEMBERS.get(name):
            yield f"member {name}"
    if not re.fullmatch(r"[a-z0-9._-]{1,64}", event.get("tenant", "default")):
        yield "tenant"
    for name, longest in (("category", 64), ("action", 128)):
        if len(event[name]) > longest or not DOTTED.fullmatch(event[name]):
            yield name
    if event.get("outcome", "unknown") not in ("success", "failure", "denied", "unknown"):
        yield "outcome"
    if not 1 <= event.get("severity", 1) <= 6:
        yield "severity"
    if len(event.get("targets", [])) > 32:
        yield "targets"
    source = dict(event.get("source", {}))
    if not 1 <= source.pop("port", 1) <= 65535:
        yield "source.port"
    objects = [("target", one) for one in event.get("targets", [])]
    objects += [(name, event.get(name, {})) for name in ("actor", "request")]
    for name, one in [*objects, ("source", source)]:
        for inner, value in one.items():
            if inner not in TEXT_MEMBERS[name] or not isinstance(value, str) or len(value) > 256:
                yield f"{name}.{inner}"
    if len(event.get("reason", "")) > 1024:
        yield "reason"
    if depth(event) > 16 or len(json.dumps(event)) > 2048:
        yield "size"


@pytest.mark.parametrize("seed", [0, 1, 2**40, -7])
def test_every_demo_event_keeps_the_rules_for_events(seed: int) -> None:
    for event in sample(seed):
        assert list(complaints(event)) == [], event


@pytest.mark.parametrize(
    "change",
    [{"id": 1}, {"cursor": "x"}, {"severity": 7}, {"outcome": "ok"}, {"category": "Auth"},
     {"tenant": ""}, {"actor": {"email": "x"}}, {"source": {"port": 0}}, {"data": []}],
)  # fmt: skip
def test_the_rules_of_this_test_refuse_what_is_wrong(change: dict[str, Any]) -> None:
    assert list(complaints(sample(count=1)[0] | change)) != []


def test_the_same_seed_gives_the_same_events_in_another_process() -> None:
    code = (
        "import json; from itertools import islice; from gateway.cli.demo import demo_events; "
        "print(json.dumps(list(islice(demo_events(5), 200))))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        timeout=30,
    )
    assert json.loads(run.stdout) == sample(5, 200)
    assert sample(6, 200) != sample(5, 200)


def test_identity_and_time_are_left_to_the_gateway() -> None:
    assert not {"id", "time", "recorded_at", "cursor"} & {name for e in sample() for name in e}


def test_demo_events_are_varied() -> None:
    events = sample()
    counts = {name: Counter(e.get(name) for e in events) for name in ("tenant", "category",
              "action", "outcome", "severity")}  # fmt: skip
    assert set(counts["tenant"]) == {"acme", "globex", "initech"}
    assert {"auth", "k8s.audit", "billing.invoice", "iam.role", "data.export"} < set(
        counts["category"]
    )
    assert len(counts["action"]) >= 25
    assert set(counts["outcome"]) == {"success", "failure", "denied", None}
    assert set(counts["severity"]) == {1, 2, 3, 4, 5, 6}
    assert max(counts["category"].values()) < len(events) / 2
    assert 0.6 < counts["outcome"]["success"] / len(events) < 0.9
    assert len({e["actor"]["name"] for e in events if "actor" in e}) >= 40
    urns = {target["urn"] for e in events for target in e.get("targets", [])}
    assert "k8s:prod/ns/pay/pods/web-1" in urns
    assert len(urns) > 300
    requests = [e["request"]["id"] for e in events if "request" in e]
    assert len(set(requests)) == len(requests)


def test_actors_are_roles_and_addresses_are_for_documentation() -> None:
    for event in sample():
        name = event.get("actor", {}).get("name", "user-0")
        assert re.fullmatch(r"user-[0-9]+|svc-[a-z]+", name)
        address = ip_address(event["source"]["ip"])
        assert any(address in network for network in DOCUMENTATION)


def test_some_exports_are_large() -> None:
    sizes = [e["data"]["bytes"] for e in sample() if e["category"] == "data.export"]
    assert min(sizes) < 1_000_000 < max(sizes)


def test_guessed_passwords_come_in_runs_from_one_address() -> None:
    runs = Counter(
        (e["tenant"], e["actor"]["name"], e["source"]["ip"], e["source"]["port"])
        for e in sample()
        if e["action"] == "user.login" and e["outcome"] == "failure"
    )
    assert sum(count >= 3 for count in runs.values()) >= 10
