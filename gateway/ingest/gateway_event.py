"""Drafts of the gateway's own records: tenant `gateway`, categories `gateway.*`.

They hold what clients have sent (addresses, user agents, parameters), so every
text is cut, made printable, and stripped of anything that may be a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from gateway.access.credentials.token import is_key_id
from gateway.access.keys.operator import Person
from gateway.clock import format_time
from gateway.event import Actor, Draft, Members, Request, Source, Target
from gateway.filters.scope import RESERVED
from gateway.ingest.decode import draft_of
from gateway.sanitize import clean

ACCESS = f"{RESERVED}.access"
KEYS = f"{RESERVED}.keys"
ANOMALY = f"{RESERVED}.anomaly"
DELIVERY = f"{RESERVED}.delivery"
MOST_TARGETS = 32
_LONG = 1024
_ENCODE = msgspec.json.Encoder(order="deterministic").encode


def new_gateway_event(
    *,
    id: str,
    tenant: str = RESERVED,
    category: str,
    action: str,
    at: float = 0.0,
    outcome: str = "success",
    severity: int = 1,
    by: str = "",
    by_name: str = "",
    person: Person | None = None,
    address: str = "",
    client: str = "",
    about: Iterable[str] = (),
    request_id: str = "",
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> Draft:
    """Draft of one record. `by` is a kid or a program's name, or the kid of a `person`, `about` are
    the urns of its targets, `at` is in seconds since 1970 (0: when it is stored); empty members are
    left out."""
    members = Members(
        id=id,
        tenant=tenant,
        category=category,
        action=action,
        outcome=outcome,  # type: ignore[arg-type]
        severity=severity,
    )
    if at:
        members.time = format_time(at)
    if by:
        members.actor = _actor(by, by_name, person)
    if address or client:
        members.source = Source()
        if address:
            members.source.ip = clean(address)
        if client:
            members.source.user_agent = clean(client, _LONG)
    targets = [_target(urn) for urn in list(about)[:MOST_TARGETS]]
    if targets:
        members.targets = targets
    if request_id:
        members.request = Request(id=request_id)
    if reason:
        members.reason = clean(reason, _LONG)
    if data:
        members.data = msgspec.Raw(_ENCODE(data))
    return draft_of(members)


def _actor(by: str, name: str, person: Person | None) -> Actor:
    actor = Actor(id=clean(by))
    if person is not None:
        actor.type, actor.id, actor.key_id = "person", clean(person.subject), by
        name = person.name
    elif is_key_id(by):
        actor.type, actor.key_id = "key", by
    else:
        actor.type = "program"
    if name:
        actor.name = clean(name)
    return actor


def _target(urn: str) -> Target:
    kind, _, name = urn.partition(":")
    # Only keys have an `id`: the URN of an event has its tenant, too, and for other kinds the URN
    # says it all.
    return Target(urn=clean(urn, _LONG), type=kind, id=clean(name) if kind == "key" else UNSET)
