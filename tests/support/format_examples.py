"""Five events, and what they are in each format: the examples of deploy/formats.md."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.access.grants.mask import Masks, masked
from gateway.event import Draft
from gateway.ingest.decode import decode_event
from tests.support.stored_events import stored

RECORDED_AT = "2026-11-29T10:00:00.200000Z"
_TIME = "2026-11-29T10:00:00.123456Z"
LOGIN: dict[str, Any] = {
    "id": "e-1", "time": _TIME, "tenant": "acme", "category": "auth", "action": "user.login",
    "outcome": "failure", "severity": 3,
    "actor": {"type": "user", "id": "u-1", "name": "ann@example.org"},
    "source": {"service": "sso", "ip": "203.0.113.7", "port": 443, "user_agent": "Mozilla/5.0"},
    "targets": [{"urn": "app:portal", "type": "app", "id": "portal", "name": "Portal"}],
    "request": {"id": "r-1"},
    "reason": "bad password | 3rd = try",
    "data": {"attempt": 3},
}  # fmt: skip
DENIED: dict[str, Any] = {
    "id": "e-2", "time": _TIME, "tenant": "acme", "category": "k8s.audit", "action": "pods.delete",
    "outcome": "denied", "severity": 4, "actor": {"type": "user", "id": "u-2", "name": "bob"},
    "source": {"ip": "2001:db8::7"}, "targets": [{"urn": "k8s:prod/ns/pay/pods/web-1"}],
}  # fmt: skip
GRANTED: dict[str, Any] = {
    "id": "e-3", "time": _TIME, "tenant": "acme", "category": "iam.user",
    "action": "user.role.grant", "outcome": "success", "severity": 2,
    "actor": {"type": "admin", "id": "u-1"},
    "targets": [{"urn": "user:bob", "type": "user", "id": "u-2", "name": "bob"}],
}  # fmt: skip
OPENED: dict[str, Any] = {
    "id": "e-4", "time": _TIME, "tenant": "gateway", "category": "gateway.access",
    "action": "stream.open", "outcome": "success", "actor": {"type": "key", "id": "7kQ2mZ0aB1cD"},
    "source": {"ip": "203.0.113.7"}, "targets": [{"urn": "gateway:stream"}],
}  # fmt: skip
EXPORTED: dict[str, Any] = {
    "id": "e-5", "time": _TIME, "tenant": "acme", "category": "billing.invoice",
    "action": "invoice.export", "actor": {"id": "u-1", "name": "Ann"},
}  # fmt: skip


def _draft(**members: Any) -> Draft:
    return decode_event(orjson.dumps(members), iter(()), own=True)


def native(members: dict[str, Any], mask: tuple[str, ...] = ()) -> bytes:
    """Native JSON of an event, with members masked."""
    event = masked(stored(_draft, 1, recorded_at=RECORDED_AT, **members), Masks(mask))
    # The epoch of the examples.
    return event.json.replace(b"k3f9xq7m2p-", b"abc-", 1)


EXAMPLES = {
    "failed login": native(LOGIN),
    "denied delete": native(DENIED),
    "role granted to a user": native(GRANTED),
    "gateway's own": native(OPENED),
    "masked actor, no source": native(EXPORTED, ("actor",)),
}
