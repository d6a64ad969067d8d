"""Grants: what a key may do, to which part of the log, how much of each event, and when.

The JSON form is that of the administration interface, for HTTP and the command line alike; unknown
members are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import Meta

from gateway.access.credentials.token import HOLDS_KEY, holds_token
from gateway.access.grants.grant_check import ACTIONS as ACTIONS
from gateway.access.grants.grant_check import Problem, problems
from gateway.access.grants.mask import Masks
from gateway.access.grants.zones import zone_of
from gateway.clock import parse_duration
from gateway.errors import InvalidRequest
from gateway.event import Severity
from gateway.filters.scope import Scope
from gateway.json_members import about, refuse_repeated
from gateway.network import is_within

# Actions that are not about events, for which scopes and fields of grants mean nothing.
NOT_ABOUT_EVENTS = (
    "keys.admin", "keys.read", "usage.read", "ops.read", "ops.act", "destinations.admin",
    "pseudonyms.resolve",
)  # fmt: skip
# Actions that others imply: whoever may do the second may do the first.
IMPLIED_BY = {"keys.read": "keys.admin"}
MAX_GRANTS = 64
_DAY = 86400.0
# The years 1 to 9999, but for two days at either end.
_FIRST_DAY, _LAST_DAY = -62_135_596_800.0 + 2 * _DAY, 253_402_300_800.0 - 2 * _DAY
# For a role, and for a key with its roles: they are read and compared in milliseconds.
MAX_POLICY_PATTERNS = 4096
# Said in the schema alone: `problems` checks what is asked for, and stored grants may hold more.
_Texts = Annotated[tuple[str, ...], about(minItems=1)]
_Action = Annotated[str, about(enum=list(ACTIONS))]
_GRANT = {"$ref": "#/components/schemas/Grant"}
GrantsOfBody = Annotated[Any, about(type="array", items=_GRANT, maxItems=MAX_GRANTS)]
Problems = Annotated[list[dict[str, str]], about("Of grants that would be refused today.")]


class When(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """When and from where a grant counts, and how far back it reaches.

    `hours` such as `06-20` begin with the first and end before the second, in the time zone `tz`;
    `22-06` goes over midnight.
    """

    cidr: _Texts = ()
    hours: Annotated[str | None, Meta(examples=["06-20"])] = None
    tz: str = "UTC"
    max_lookback: Annotated[str | None, Meta(examples=["24h"])] = None

    def __post_init__(self) -> None:
        if self.hours is not None:
            zone_of(self.tz)

    def holds(self, now: float, address: str | None, *, unknown: bool = False) -> str | None:
        """None if the grant counts at `now` (seconds since 1970), else the reason code. `unknown`:
        whether it counts if the address or the hour of the day is unknown."""
        if self.cidr:
            within = is_within(address, self.cidr)
            if not (unknown if within is None else within):
                return "address_not_allowed"
        if self.hours is not None:
            first, last = (int(part) for part in self.hours.split("-"))
            hour = self.local_hour(now)
            if hour is None:
                return None if unknown else "unknown_time_zone"
            inside = first <= hour < last if first < last else hour >= first or hour < last
            if not inside:
                return "outside_hours"
        return None

    def local_hour(self, now: float) -> int | None:
        """Hour of the day in the time zone; None if this machine lacks the zone."""
        zone = zone_of(self.tz)
        if zone is None:
            return None
        if not _FIRST_DAY <= now < _LAST_DAY:
            # The hour in another zone may be in a year that `datetime` lacks.
            now = (_FIRST_DAY if now < _FIRST_DAY else _LAST_DAY - _DAY) + now % _DAY
        return datetime.fromtimestamp(now, UTC).astimezone(zone).hour

    @property
    def lookback(self) -> int | None:
        """Look-back in seconds."""
        return None if self.max_lookback is None else parse_duration(self.max_lookback)


class Grant(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One grant. `effect` is allow or deny (deny wins over every allow)."""

    id: str = ""
    effect: Literal["allow", "deny"] = "allow"
    actions: Annotated[tuple[_Action, ...], about(minItems=1)]
    tenants: _Texts = ()
    categories: _Texts
    resources: _Texts = ()
    min_severity: Severity = 1
    fields: Masks | None = None
    when: When | None = None

    @property
    def unreadable(self) -> bool:
        """Whether it stands for unreadable grants; then nothing is allowed."""
        return False

    def concerns(self, action: str) -> bool:
        """Whether it is about an action; one that allows `keys.admin` is about `keys.read`, too."""
        return action in self.actions or (
            self.effect == "allow" and IMPLIED_BY.get(action) in self.actions
        )

    def unmet(self, now: float, address: str | None) -> str | None:
        """None if the grant counts at `now` from `address`, else the reason code. With an unknown
        address a denial counts, and a permission does not."""
        if self.when is None:
            return None
        return self.when.holds(now, address, unknown=self.effect == "deny")

    def shown(self) -> Any:
        """Decoded JSON for administrators."""
        return msgspec.to_builtins(self)

    def defects(self) -> tuple[tuple[Problem, str], ...]:
        """Problems and how the grant is read for them: for grants stored before these were refused
        (`gateway.access.keys.stored_grant`), and for time zones unknown here."""
        when = self.when
        if when is None or when.hours is None or zone_of(when.tz) is not None:
            return ()
        reason = f"there is no time zone {when.tz!r} here; write it like Europe/Paris"
        means = "it denies at any hour" if self.effect == "deny" else "it allows nothing"
        return ((Problem("when.tz", reason), means),)

    def scope(self) -> Scope:
        """Part of the log that the grant is about."""
        return Scope(
            tenant=self.tenants,
            category=self.categories,
            resource=self.resources,
            min_severity=self.min_severity,
            reserved=self.effect == "deny",
        )


def parse_grant(raw: Any, path: str = "") -> Grant:
    """Grant from its decoded JSON at `path`. Raises `InvalidRequest` with the `path` of the member
    and, for a pattern, the `column`."""
    if holds_token(msgspec.json.encode(raw).decode()):
        # Checked before an error could repeat it.
        raise _refused(Problem("", f"it holds a whole key, {HOLDS_KEY}"), path)
    for problem in problems(raw):
        raise _refused(problem, path)
    return msgspec.convert(raw, Grant)


def defects_in(grants: Iterable[Grant], path: str = "grants") -> list[dict[str, str]]:
    """Problems of stored grants, as `{"grant", "path", "reason", "means"}`."""
    return [
        {
            "grant": grant.id or str(number + 1),
            "path": ".".join(filter(None, (f"{path}[{number}]", problem.place))),
            "reason": problem.reason,
            "means": means,
        }
        for number, grant in enumerate(grants)
        for problem, means in grant.defects()
    ]


def decode_grant_text(text: str) -> Any:
    """Decode the JSON text of a grant from the command line, without checking it."""
    try:
        raw = orjson.loads(text)
        json.loads(text, object_pairs_hook=refuse_repeated)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"a grant must be JSON: {error}") from None
    return raw


def parse_grants(raw: Any) -> tuple[Grant, ...]:
    """Grants from a decoded JSON list."""
    if not isinstance(raw, list):
        raise _invalid("grants: a list of grants is needed")
    if len(raw) > MAX_GRANTS:
        raise _invalid(f"grants: at most {MAX_GRANTS}")
    grants = tuple(parse_grant(one, f"grants[{place}]") for place, one in enumerate(raw))
    check_patterns_together(grants)
    names = [grant.id for grant in grants if grant.id]
    if len(set(names)) < len(names):
        raise _invalid("grants: two of them have the same id, and nobody could tell which is meant")
    return grants


def check_patterns_together(grants: Iterable[Grant]) -> None:
    """Refuse more patterns than can be read and compared in time. Stored grants are not checked."""
    count = sum(
        len(grant.tenants) + len(grant.categories) + len(grant.resources) for grant in grants
    )
    if count > MAX_POLICY_PATTERNS:
        raise InvalidRequest(
            f"the grants have {count} patterns together, those of roles included; at most "
            f"{MAX_POLICY_PATTERNS}: use wildcards, or several keys",
            code="policy_too_large",
        )


def _refused(problem: Problem, path: str) -> InvalidRequest:
    where = ".".join(filter(None, (path, problem.place)))
    members: dict[str, Any] = {"path": where} if where else {}
    if problem.column is not None:
        members["column"] = problem.column
    return InvalidRequest(
        f"invalid grant: {where}{': ' if where else ''}{problem.reason}",
        code=problem.code,
        **members,
    )


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_grant")
