"""Parsing of queries for `gateway.oversight.review.explain` from decoded JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.access.grants.grant import ACTIONS, NOT_ABOUT_EVENTS
from gateway.access.grants.grant_check import NOT_YET, UNSUPPORTED
from gateway.clock import parse_rfc3339
from gateway.errors import InvalidRequest
from gateway.event import SET_BY_GATEWAY, Draft
from gateway.ingest.decode import decode_event
from gateway.ingest.ids import new_ids
from gateway.ingest.strict_json import Refused
from gateway.oversight.access_log.past_access import READING
from gateway.oversight.review.explain import AccessQuery

_DESCRIBING = ("tenant", "category", "severity", "resource")
# What a description may leave open, and the predicates of grants about it.
_UNSAID = {"tenant": "tenants", "severity": "min_severity", "resource": "resources"}


def parse_access_query(raw: Mapping[str, Any], now: float) -> AccessQuery:
    """Parse a query; defaults are as of `now` (seconds since 1970).

    `event` is an event as it is in the log or as it would be sent; `tenant`, `category`, `severity`
    and `resource` describe one instead, which may be anything in what they leave out. Raises
    `InvalidRequest` naming the member.
    """
    action = raw.get("action")
    if action not in ACTIONS:
        code = UNSUPPORTED if action in NOT_YET else None
        raise InvalidRequest(f"action: one of {', '.join(ACTIONS)} is needed", code=code)
    address = raw.get("address")
    if address is not None and not isinstance(address, str):
        raise InvalidRequest("address: a string is needed")
    at = parse_moment(raw, "at") if "at" in raw else now
    event, recorded_at = _event(raw, now)
    if action in NOT_ABOUT_EVENTS:
        event = None
    if action not in READING:
        # What is sent is new, whatever its members say.
        recorded_at = None
    return AccessQuery(
        action=action,
        now=at,
        address=address,
        event=event,
        age=None if recorded_at is None else at - recorded_at,
        unsaid=frozenset(_UNSAID[name] for name in _UNSAID if name not in raw)
        if "event" not in raw
        else frozenset(),
    )


def parse_moment(raw: Mapping[str, Any], member: str) -> float:
    """Seconds since 1970 of an RFC 3339 date-time."""
    text = raw.get(member)
    if not isinstance(text, str):
        raise InvalidRequest(f"{member}: an RFC 3339 date-time is needed")
    try:
        return parse_rfc3339(text) / 1_000_000
    except ValueError as error:
        raise InvalidRequest(f"{member}: {error}") from None


def _event(raw: Mapping[str, Any], now: float) -> tuple[Draft | None, float | None]:
    """Event of a query, and when it was recorded, as far as either is given."""
    recorded_at = parse_moment(raw, "recorded_at") if "recorded_at" in raw else None
    given = [name for name in _DESCRIBING if name in raw]
    if "event" in raw:
        event = raw["event"]
        if given:
            raise InvalidRequest(f"send either `event` or `{given[0]}`")
        if not isinstance(event, dict):
            raise InvalidRequest("event: an event as a JSON object is needed")
        if recorded_at is None and event.get("recorded_at") is not None:
            recorded_at = parse_moment(event, "recorded_at")
        # Members that the gateway has added to an event from the log.
        added = (*SET_BY_GATEWAY, "masked", "pseudonymized")
        sent = {name: value for name, value in event.items() if name not in added}
        return _draft(sent, "event.", now), recorded_at
    if not given:
        return None, recorded_at
    resources = raw.get("resource", [])
    if not isinstance(resources, list):
        resources = [resources]
    described = {name: raw[name] for name in given if name != "resource"}
    targets = [{"urn": urn} for urn in resources]
    return _draft({**described, "action": "any", "targets": targets}, "", now), recorded_at


def _draft(event: dict[str, Any], where: str, now: float) -> Draft:
    try:
        return decode_event(msgspec.json.encode(event), new_ids(lambda: now), own=True)
    except Refused as refused:
        path = f"{where}{refused.path}" if refused.path else where.rstrip(".") or "event"
        raise InvalidRequest(f"{path}: {refused.reason}") from None
