"""Elastic Common Schema 9.4, one JSON document each. Lossless with `original`: then
`event.original` is the native event.

Without it all members are there, but an index may spell numbers under `audit.data` in another way.
`audit` and `labels` are the only members outside of the schema's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from gateway.formats.action_words import (
    CREATE,
    DELETE,
    LOGOFF,
    LOGON,
    READ,
    UPDATE,
    about_authentication,
    about_identities,
    by_action,
)
from gateway.formats.format import FormatOptions
from gateway.formats.shown_event import ShownActor, ShownEvent, filled, shown_event

ECS_VERSION = "9.4.0"
_FINDINGS = "gateway.anomaly"
_CONFIGURATION = re.compile(r"(?:\A|\.)config")
_SESSIONS = {**dict.fromkeys(LOGON, "start"), **dict.fromkeys(LOGOFF, "end")}
_CHANGES = {**dict.fromkeys(CREATE, "creation"), **dict.fromkeys(DELETE, "deletion")}
_CALLS = {**_CHANGES, **dict.fromkeys(READ, "access"), **dict.fromkeys(UPDATE, "change")}
_ENCODE = msgspec.json.Encoder().encode


def ecs_encoder(options: FormatOptions) -> Callable[[bytes], bytes]:
    """Encoder of single events."""

    def encode(native: bytes) -> bytes:
        event = shown_event(native)
        actor, source = event.actor or ShownActor(), event.source
        target, address = event.target("user"), source.address()
        made: dict[str, Any] = {"@timestamp": event.time, "ecs": {"version": ECS_VERSION}}
        made["event"] = _event(event)
        if options.original:
            made["event"]["original"] = native.decode()
        if event.reason:
            made["message"] = event.reason
        made["organization"] = {"id": event.tenant}
        user = filled(id=actor.id, name=actor.name)
        related = [actor.id, actor.name]
        if target is not None and (named := filled(id=target.id, name=target.name)):
            user["target"] = named
            related += [target.id, target.name]
        if user:
            made["user"] = user
        port = source.port_number()
        # What is no address, or too long for one, stands where ECS has addresses of any kind.
        spelled = "" if source.ip == address else source.ip
        if origin := filled(address=spelled, ip=address, port=port):
            made["source"] = origin
        if source.service:
            made["service"] = {"name": source.service}
        if source.user_agent:
            made["user_agent"] = {"original": source.user_agent}
        if event.request.id:
            made["http"] = {"request": {"id": event.request.id}}
        if event.request.trace_id:
            made["trace"] = {"id": event.request.trace_id}
        if about := filled(
            user=[*dict.fromkeys(filter(None, related))], ip=[address] if address else None
        ):
            made["related"] = about
        made["labels"] = filled(
            cursor=event.cursor, actor_type=actor.type, actor_key_id=actor.key_id
        )
        if own := filled(
            targets=event.targets,
            masked=event.masked,
            pseudonymized=event.pseudonymized,
            reduced=event.reduced,
        ):
            made["audit"] = own
        if event.data is not UNSET:
            made.setdefault("audit", {})["data"] = event.data
        return _ENCODE(made)

    return encode


def _event(event: ShownEvent) -> dict[str, Any]:
    category, kinds = _sorted(event)
    denied = event.outcome == "denied"
    if denied:
        kinds = [*kinds, "denied"]
    return {
        "kind": "alert" if event.category == _FINDINGS else "event",
        "category": [category],
        "type": kinds,
        "id": event.id,
        "created": event.recorded_at,
        "dataset": event.category,
        "action": event.action,
        "outcome": "failure" if denied else event.outcome,
        "severity": event.severity,
        **filled(reason=event.reason),
    }


def _sorted(event: ShownEvent) -> tuple[str, list[str]]:
    """Values of `event.category` and `event.type`."""
    category, action = event.category, event.action
    if about_authentication(category):
        return "authentication", [by_action(action, _SESSIONS) or "info"]
    if about_identities(category):
        about = "group" if event.target("group") and not event.target("user") else "user"
        return "iam", [by_action(action, _CHANGES) or "change", about]
    if _CONFIGURATION.search(category):
        return "configuration", [by_action(action, _CALLS) or "change"]
    return "api", [by_action(action, _CALLS) or "access"]
