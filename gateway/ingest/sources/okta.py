"""Okta's System Log, API v1 `LogEvent`.

Source: Okta developer documentation, "System Log". Some exports write the
names of the outer members in lower case; both are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gateway.ingest.sources.identity import event_id
from gateway.ingest.sources.native import (
    Unmappable,
    action,
    address,
    category,
    first,
    inner,
    native_event,
    text,
    urn,
)
from gateway.ingest.sources.timestamps import utc_time

_OUTCOMES = {
    "SUCCESS": "success",
    "ALLOW": "success",
    "FAILURE": "failure",
    "DENY": "denied",
}
# HIGH is not documented, but occurs in exports.
_SEVERITIES = {"DEBUG": 1, "INFO": 1, "WARN": 3, "ERROR": 4, "HIGH": 4}
_EVENT_TYPE = re.compile(r"[\w-]+(\.[\w-]+)+", re.ASCII)


def to_event(record: dict[str, Any]) -> dict[str, Any]:
    """Map one log event to a native event. Raises `Unmappable`."""
    outer = {name.lower(): value for name, value in record.items()}
    kind = outer.get("eventtype")
    if not isinstance(kind, str) or not _EVENT_TYPE.fullmatch(kind):
        raise Unmappable("eventType", "a dotted name is required in an Okta log event")
    outcome = _OUTCOMES.get(str(inner(outer, "outcome", "result")).upper(), "unknown")
    debug = inner(outer, "debugcontext", "debugData")
    return native_event(
        record,
        id=event_id(record, outer.get("uuid")),
        time=utc_time(outer, "published"),
        category=category("okta", kind.rpartition(".")[0]),
        action=action(kind),
        outcome=outcome,
        severity=_SEVERITIES.get(str(outer.get("severity")).upper()),
        actor=_actor(outer),
        source={
            "service": "okta",
            "ip": _address(outer),
            "user_agent": inner(outer, "client", "userAgent", "rawUserAgent"),
        },
        targets=_targets(outer.get("target")),
        request={
            "id": inner(debug, "requestId") or inner(outer, "transaction", "id"),
            "trace_id": inner(outer, "transaction", "id"),
        },
        reason=inner(outer, "outcome", "reason"),
    )


def _address(outer: dict[str, Any]) -> str | None:
    client = address(inner(outer, "client", "ipAddress"))
    return client or address(inner(first(inner(outer, "request", "ipChain")), "ip"))


def _actor(outer: dict[str, Any]) -> dict[str, Any]:
    actor = outer.get("actor")
    return {
        "type": inner(actor, "type"),
        "id": inner(actor, "id"),
        "name": inner(actor, "alternateId") or inner(actor, "displayName"),
        "key_id": inner(outer, "transaction", "detail", "requestApiTokenId"),
    }


def _targets(targets: Any) -> Iterator[dict[str, Any]]:
    for target in targets if isinstance(targets, list) else []:
        kind = text(inner(target, "type")) or "target"
        name = text(inner(target, "alternateId"))
        if name in (None, "unknown"):
            name = text(inner(target, "displayName"))
        own = text(inner(target, "id"), 4096) or name
        if own is None:
            continue
        branch = re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")
        yield {"urn": urn("okta", branch, own), "type": kind, "id": own, "name": name}
