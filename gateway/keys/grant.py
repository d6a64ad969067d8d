"""Grants: what a key may do, to which part of the log, how much of each event, and when.

The JSON form is that of the administration interface, for HTTP and the command
line alike; unknown members are refused, never ignored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import orjson

from gateway.clock import parse_duration
from gateway.errors import InvalidRequest
from gateway.keys.mask import Masks, check_paths
from gateway.match.scope import Scope

ACTIONS = ("stream", "pull", "ingest", "keys.admin", "usage.read", "erase")
# What these allow or deny is not about events: the scopes and fields of grants mean nothing there.
NOT_ABOUT_EVENTS = ("keys.admin", "usage.read")
MAX_GRANTS = 64
MAX_NETWORKS = 64
_HOURS = re.compile(r"([01]\d|2[0-3])-([01]\d|2[0-4])", re.ASCII)


class When(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """When and from where a grant counts, and how far back it reaches.

    `hours` such as `06-20` begin with the first and end before the second, in
    the time zone `tz`; `22-06` goes over midnight.
    """

    cidr: tuple[str, ...] = ()
    hours: str | None = None
    tz: str = "UTC"
    max_lookback: str | None = None

    def holds(self, now: float, address: str | None) -> str | None:
        """None if the grant counts at `now` (seconds since 1970), else the reason code."""
        if self.cidr and not _within(address, self.cidr):
            return "address_not_allowed"
        if self.hours is not None:
            first, last = (int(part) for part in self.hours.split("-"))
            hour = self.local_hour(now)
            inside = first <= hour < last if first < last else hour >= first or hour < last
            if not inside:
                return "outside_hours"
        return None

    def local_hour(self, now: float) -> int:
        """The hour of the day in its time zone, which `hours` are compared with."""
        return datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(self.tz)).hour

    @property
    def lookback(self) -> int | None:
        """Seconds."""
        return None if self.max_lookback is None else parse_duration(self.max_lookback)


class Grant(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One grant. `effect` is allow or deny (deny wins over every allow)."""

    id: str = ""
    effect: Literal["allow", "deny"] = "allow"
    actions: tuple[str, ...]
    tenants: tuple[str, ...] = ()
    categories: tuple[str, ...]
    resources: tuple[str, ...] = ()
    min_severity: int = 1
    fields: Masks | None = None
    when: When | None = None

    def scope(self) -> Scope:
        """The part of the log it speaks of."""
        return Scope(
            tenant=self.tenants,
            category=self.categories,
            resource=self.resources,
            min_severity=self.min_severity,
            reserved=self.effect == "deny",
        )


def parse_grant(raw: Any) -> Grant:
    """A grant from its decoded JSON. Raises `InvalidRequest` naming the member."""
    if isinstance(raw, dict):
        unknown = sorted(set(raw) - set(Grant.__struct_fields__))
        if unknown:
            raise _invalid(
                f"unknown member {unknown[0]!r} in a grant; it may have "
                + ", ".join(Grant.__struct_fields__)
            )
    try:
        grant = msgspec.convert(raw, Grant)
    except msgspec.ValidationError as error:
        raise _invalid(f"invalid grant: {error}") from None
    _check(grant)
    return grant


def parse_grant_text(text: str) -> Grant:
    """A grant from JSON text, as the command line takes it."""
    try:
        raw = orjson.loads(text)
    except ValueError as error:
        raise _invalid(f"a grant must be JSON: {error}") from None
    return parse_grant(raw)


def parse_grants(raw: Any) -> tuple[Grant, ...]:
    """A list of grants from decoded JSON."""
    if not isinstance(raw, list):
        raise _invalid("grants: a list of grants is needed")
    if len(raw) > MAX_GRANTS:
        raise _invalid(f"grants: at most {MAX_GRANTS}")
    grants = tuple(map(parse_grant, raw))
    names = [grant.id for grant in grants if grant.id]
    if len(set(names)) < len(names):
        raise _invalid("grants: two of them have the same id, and nobody could tell which is meant")
    return grants


def _check(grant: Grant) -> None:
    if not grant.actions:
        raise _invalid("a grant needs at least one of `actions`")
    for action in grant.actions:
        if action not in ACTIONS:
            raise _invalid(f"unknown action {action!r} in a grant; there are {', '.join(ACTIONS)}")
    if not grant.categories:
        raise _invalid('a grant needs at least one of `categories`, such as "auth.*" or "**"')
    try:
        grant.scope().check()
        if grant.fields is not None:
            check_paths(grant.fields.mask + grant.fields.drop)
        if grant.when is not None:
            _check_when(grant.when)
    except InvalidRequest as error:
        raise _invalid(f"invalid grant: {error.detail}") from None
    if grant.effect == "deny" and grant.fields is not None:
        raise _invalid("a grant that denies hides whole events; leave out `fields`")


def _check_when(when: When) -> None:
    if len(when.cidr) > MAX_NETWORKS:
        raise InvalidRequest(f"when.cidr: at most {MAX_NETWORKS} networks")
    for network in when.cidr:
        try:
            ip_network(network)
        except ValueError:
            raise InvalidRequest(f"when.cidr: {network!r} is not a network") from None
    if when.hours is not None and not _HOURS.fullmatch(when.hours):
        raise InvalidRequest(f"when.hours: {when.hours!r}; write it like 06-20")
    if when.hours is not None and len(set(when.hours.split("-"))) == 1:
        raise InvalidRequest(f"when.hours: {when.hours!r} is no time at all; leave it out for all")
    try:
        ZoneInfo(when.tz)
    except (ValueError, OSError, KeyError):
        raise InvalidRequest(f"when.tz: there is no time zone {when.tz!r}") from None
    if when.max_lookback is not None:
        parse_duration(when.max_lookback)


# Asked anew for every request of such a key, from the same few addresses.
@lru_cache(4096)
def _within(address: str | None, networks: tuple[str, ...]) -> bool:
    if address is None:
        return False
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in ip_network(network) for network in networks)


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_grant")
