"""Made-up audit events, to try the gateway without a producer.

Names are roles, not people; addresses are reserved for documentation (RFC 5737).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

Event = dict[str, Any]

_TENANTS = ("acme", "globex", "initech")
_TENANT_WEIGHTS = (6, 3, 1)
_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")
_MACHINES = ("svc-deploy", "svc-backup", "svc-billing", "svc-scanner", "svc-gitops")
_BROWSERS = ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Macintosh)", "Mozilla/5.0 (Windows)")
_TOOLS = ("kubectl/v1.31.0", "terraform/1.9.5", "helm/3.16.1")
_SCRIPTS = ("curl/8.10.1", "python-httpx/0.27")
_NAMESPACES = ("pay", "shop", "search", "ops")
_ROLES = ("viewer", "editor", "admin", "auditor", "billing-manager")
_OUTCOMES = ("success", "failure", "denied")


def demo_events(seed: int) -> Iterator[Event]:
    """Endless events as a producer would send them; the same for the same seed.

    They begin with password guessing, so that a stream of denials shows something at once. Without
    `id` and `time`, a second run with the same seed makes new events, not duplicates.
    """
    rng = random.Random(seed)
    scenes = tuple(_SCENES)
    weights = tuple(_SCENES.values())
    for event in _password_guessing(rng):
        yield {"tenant": _TENANTS[0], **event}
    while True:
        tenant = rng.choices(_TENANTS, _TENANT_WEIGHTS)[0]
        scene = rng.choices(scenes, weights)[0]
        for event in scene(rng):
            yield {"tenant": tenant, **event}


def _person(rng: random.Random) -> Event:
    number = rng.randint(1, 40)
    return {"type": "user", "id": f"u-{number:04d}", "name": f"user-{number}"}


def _machine(name: str) -> Event:
    number = _MACHINES.index(name)
    return {
        "type": "service",
        "id": f"sa-{number:04d}",
        "name": name,
        "key_id": f"demo{number:08d}",
    }


def _source(rng: random.Random, service: str, agents: tuple[str, ...]) -> Event:
    return {
        "service": service,
        "ip": f"{rng.choice(_NETWORKS)}.{rng.randint(1, 254)}",
        "port": rng.randint(32768, 60999),
        "user_agent": rng.choice(agents),
    }


def _request(rng: random.Random) -> Event:
    request = {"id": f"req-{rng.getrandbits(48):012x}"}
    if rng.random() < 0.5:
        request["trace_id"] = f"{rng.getrandbits(128):032x}"
    return request


def _outcome(rng: random.Random, success: int, failure: int, denied: int) -> str:
    return rng.choices(_OUTCOMES, (success, failure, denied))[0]


def _sign_in(rng: random.Random) -> Iterator[Event]:
    action = rng.choice(("user.login", "user.logout", "token.refresh", "mfa.challenge"))
    outcome = "success" if action == "user.logout" else _outcome(rng, 20, 2, 1)
    event: Event = {
        "category": "auth",
        "action": action,
        "outcome": outcome,
        "severity": 1 if outcome == "success" else 2,
        "actor": _person(rng),
        "source": _source(rng, "login", _BROWSERS),
        "request": _request(rng),
        "data": {"method": rng.choice(("password", "passkey", "oidc"))},
    }
    if outcome != "success":
        event["reason"] = rng.choice(
            ("wrong password", "second factor timed out", "unknown device")
        )
    yield event


def _password_guessing(rng: random.Random) -> Iterator[Event]:
    """Attempts from one address on the password of one account, until a lockout or a success."""
    common: Event = {
        "category": "auth",
        "action": "user.login",
        "actor": _person(rng),
        "source": _source(rng, "login", _SCRIPTS),
    }
    for attempt in range(1, rng.randint(4, 9)):
        yield {
            **common,
            "outcome": "failure",
            "severity": 2 if attempt < 4 else 3,
            "request": _request(rng),
            "reason": "wrong password",
            "data": {"method": "password", "attempt": attempt},
        }
    guessed = rng.random() < 0.2
    yield {
        **common,
        "outcome": "success" if guessed else "denied",
        "severity": 5 if guessed else 4,
        "request": _request(rng),
        "reason": "first success after many failures" if guessed else "account locked",
        "data": {"method": "password"},
    }


def _kubernetes(rng: random.Random) -> Iterator[Event]:
    kind, verbs = rng.choice(
        (
            ("pods", ("create", "delete", "get", "exec")),
            ("deployments", ("patch", "scale", "create")),
            ("secrets", ("get", "list", "update")),
            ("configmaps", ("get", "update")),
        )
    )
    verb = rng.choice(verbs)
    cluster = rng.choice(("prod", "prod", "staging"))
    namespace = rng.choice(_NAMESPACES)
    name = f"{rng.choice(('web', 'worker', 'db', 'cache'))}-{rng.randint(1, 9)}"
    delicate = kind == "secrets" or verb in ("exec", "delete")
    outcome = _outcome(rng, 16, 1, 4 if delicate else 1)
    yield {
        "category": "k8s.audit",
        "action": f"{kind}.{verb}",
        "outcome": outcome,
        "severity": (3 if delicate else 1) + (outcome == "denied"),
        "actor": _machine(rng.choice(_MACHINES)) if rng.random() < 0.7 else _person(rng),
        "source": _source(rng, "kube-apiserver", _TOOLS),
        "targets": [
            {"urn": f"k8s:{cluster}/ns/{namespace}/{kind}/{name}", "type": kind, "name": name}
        ],
        "request": _request(rng),
        "data": {"stage": "ResponseComplete", "code": _CODES[outcome]},
    }


def _invoice(rng: random.Random) -> Iterator[Event]:
    number = f"inv-{rng.randint(1000, 9999)}"
    action = rng.choice(("invoice.issue", "invoice.pay", "invoice.remind", "invoice.void"))
    outcome = _outcome(rng, 15, 2, 1)
    yield {
        "category": "billing.invoice",
        "action": action,
        "outcome": outcome,
        "severity": 2 if action == "invoice.void" or outcome != "success" else 1,
        "actor": _machine("svc-billing"),
        "source": _source(rng, "billing", _SCRIPTS),
        "targets": [{"urn": f"billing:invoices/{number}", "type": "invoice", "id": number}],
        "request": _request(rng),
        "data": {
            "amount_cents": rng.randint(900, 2_500_000),
            "currency": rng.choice(("EUR", "USD", "GBP")),
        },
    }


def _role_change(rng: random.Random) -> Iterator[Event]:
    role = rng.choice(_ROLES)
    action = rng.choice(("role.grant", "role.revoke", "role.update"))
    outcome = _outcome(rng, 8, 1, 3)
    subject = _person(rng)
    powerful = role == "admin" and action != "role.revoke"
    event: Event = {
        "category": "iam.role",
        "action": action,
        "outcome": outcome,
        "severity": (4 if powerful else 2) + (outcome == "denied"),
        "actor": _person(rng),
        "source": _source(rng, "console", _BROWSERS),
        "targets": [
            {"urn": f"iam:roles/{role}", "type": "role", "name": role},
            {"urn": f"iam:users/{subject['id']}", **subject},
        ],
        "request": _request(rng),
    }
    if outcome == "denied":
        event["reason"] = "a second approver is needed"
    yield event


def _export(rng: random.Random) -> Iterator[Event]:
    size = int(rng.lognormvariate(13, 2.5))
    name = rng.choice(("customers", "orders", "payments", "events"))
    outcome = _outcome(rng, 8, 1, 3)
    yield {
        "category": "data.export",
        "action": rng.choice(("export.start", "export.download")),
        "outcome": outcome,
        "severity": 4 if size > 1_000_000 else 2,
        "actor": _person(rng),
        "source": _source(rng, "warehouse", _BROWSERS + _SCRIPTS),
        "targets": [{"urn": f"warehouse:tables/{name}", "type": "table", "name": name}],
        "request": _request(rng),
        "data": {
            "bytes": size,
            "rows": size // 120,
            "format": rng.choice(("csv", "parquet", "json")),
        },
    }


def _deployment(rng: random.Random) -> Iterator[Event]:
    """A deployment and, if it fails, its rollback."""
    namespace = rng.choice(_NAMESPACES)
    version = f"{rng.randint(1, 4)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}"
    failed = rng.random() < 0.2
    common: Event = {
        "category": "ci.deploy",
        "actor": _machine(rng.choice(("svc-deploy", "svc-gitops"))),
        "source": _source(rng, "pipeline", _TOOLS),
        "targets": [{"urn": f"ci:prod/{namespace}/releases/{version}", "type": "release"}],
    }
    for action, outcome in (
        ("deploy.start", "success"),
        ("deploy.finish", "failure" if failed else "success"),
        *((("deploy.rollback", "success"),) if failed else ()),
    ):
        yield {
            **common,
            "action": action,
            "outcome": outcome,
            "severity": 3 if outcome == "failure" else 1,
            "request": _request(rng),
            "data": {"version": version},
        }


def _agent_lost(rng: random.Random) -> Iterator[Event]:
    """An event without actor, outcome and target."""
    yield {
        "category": "system.agent",
        "action": "agent.lost",
        "severity": rng.choice((3, 3, 6)),
        "source": {"service": "inventory", "ip": f"{rng.choice(_NETWORKS)}.{rng.randint(1, 254)}"},
        "reason": "no sign of life for 5 minutes",
    }


_CODES = {"success": 200, "failure": 409, "denied": 403}
_SCENES: dict[Callable[[random.Random], Iterator[Event]], int] = {
    _sign_in: 300,
    _kubernetes: 300,
    _invoice: 140,
    _role_change: 80,
    _export: 60,
    _deployment: 50,
    _password_guessing: 12,
    _agent_lost: 15,
}
