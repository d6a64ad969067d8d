"""Explanation of why a key may or may not do something, or see an event. Pure.

The decision is that of `gateway.access.policy.decision`; this evaluates every grant one predicate
at a time, and names the failed ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec

from gateway.access.grants.grant import Grant, When
from gateway.access.grants.mask import Masks
from gateway.access.keys.key import Key
from gateway.access.policy.attributed_grant import AttributedGrant, NamedGrant
from gateway.access.policy.decision import (
    DENIED_BY_GRANT,
    NOT_GRANTED,
    RAW_ITEM,
    ROLE_UNREADABLE,
    Allowed,
    Denied,
    decide_grants,
    decide_state,
)
from gateway.clock import Moment, format_time
from gateway.filters.pattern import ANY
from gateway.filters.scope import REJECTED, RESERVED, Described, Scope, is_reserved
from gateway.json_members import about
from gateway.oversight.access_log.past_access import READING

GRANTED = "granted"
EVENT_NOT_GRANTED = "event_not_granted"
BEYOND_LOOKBACK = "beyond_lookback"
NOT_FOR_PRODUCERS = "reserved"
Decision = Literal["allow", "deny", "depends"]
_DECISION = about("`depends`: on what was not said of the event; see `depends_on`.")
_NEAREST = about("The grant that came nearest, and the predicate that failed.")
_DEPENDS = about("The `member` that it depends on, and the `patterns` of grants that are about it.")
_THROTTLED = about("Until then a few requests a minute are let through.")
_MAKER = about("The nearest of its makers that has ended: the key makes and widens nothing more.")


class AccessQuery(msgspec.Struct, frozen=True):
    """Query for an action, at a time (seconds since 1970), from an address, on an event.

    Without an `event` it is whether the key may perform the action at all, as for actions that are
    `NOT_ABOUT_EVENTS`. `age` is how long ago the event was recorded (seconds; None: just now).
    `unsaid` are predicates of grants about members that the query does not give, which may be
    anything.
    """

    action: str
    now: float
    address: str | None = None
    event: Described | None = None
    age: float | None = None
    unsaid: frozenset[str] = frozenset()


class Failure(msgspec.Struct, frozen=True):
    """Failed predicate of a grant, named as in its JSON."""

    predicate: str
    expected: Any
    actual: Any


class Dependence(msgspec.Struct, frozen=True):
    """Grant that counts for some of the described events only: by their `member`, for the patterns
    (or the least severity) in `values`."""

    grant: AttributedGrant
    member: str
    values: tuple[str | int, ...]

    def public(self) -> dict[str, Any]:
        shown = {"member": self.member, "grant": self.grant.name, "effect": self.grant.grant.effect}
        if self.member == "severity":
            return {**shown, "least": self.values[0]}
        return {**shown, "patterns": list(self.values)}


class EndedMaker(msgspec.Struct, frozen=True):
    """The nearest maker of a key that has ended."""

    maker: Annotated[str, _MAKER]
    how: Annotated[str, about("Such as revoked, expired or suspended.")]


class DecisionAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An explanation in an answer."""

    decision: Annotated[Decision, _DECISION]
    reason_code: str
    grants: Annotated[list[NamedGrant], about("The grants that match.")]
    nearest: Annotated[dict[str, Any] | None, _NEAREST]
    masks: tuple[str, ...]
    drops: tuple[str, ...]
    pseudonymizes: tuple[str, ...]
    depends_on: Annotated[list[dict[str, Any]], _DEPENDS] = []
    throttled_until: Annotated[Moment, _THROTTLED] = ""
    maker_ended: EndedMaker | None = None


class Explanation(msgspec.Struct, frozen=True):
    """Decision and its reasons. `reason_code` is stable; `nearest` is the grant that came closest.

    Until `throttled_until` (seconds since 1970) an allowed action is allowed a few times a minute.
    `ended_issuer` is the nearest issuer of the key that has ended, and how: then the key may revoke
    and look at keys, but issue, resume and widen nothing.
    """

    allowed: bool
    reason_code: str
    grants: tuple[AttributedGrant, ...] = ()
    nearest: AttributedGrant | None = None
    failed: tuple[Failure, ...] = ()
    masks: Masks = Masks()
    throttled_until: float | None = None
    depends: tuple[Dependence, ...] = ()
    ended_issuer: tuple[str, str] | None = None

    @property
    def decision(self) -> Decision:
        """`allow`, `deny`, or `depends` if the query does not give enough of the event."""
        return "allow" if self.allowed else "depends" if self.depends else "deny"

    def public(self) -> DecisionAnswer:
        until = self.throttled_until
        return DecisionAnswer(
            decision=self.decision, reason_code=self.reason_code, nearest=self._nearest(),
            grants=[one.public() for one in self.grants],
            masks=self.masks.mask, drops=self.masks.drop, pseudonymizes=self.masks.pseudonymize,
            depends_on=[one.public() for one in self.depends],
            throttled_until="" if until is None else format_time(until),
            maker_ended=self.ended_issuer and EndedMaker(*self.ended_issuer),
        )  # fmt: skip

    def _nearest(self) -> dict[str, Any] | None:
        if not self.failed:
            return None
        first: dict[str, Any] = msgspec.to_builtins(self.failed[0])
        named = {} if self.nearest is None else msgspec.to_builtins(self.nearest.public())
        return {**named, **first, "failed": msgspec.to_builtins(self.failed)}


def explain(
    key: Key,
    grants: tuple[AttributedGrant, ...],
    query: AccessQuery,
    ended_issuer: tuple[str, str] | None = None,
) -> Explanation:
    """Explain the decision over `query`. `ended_issuer` is the key's nearest issuer that has
    ended."""
    found = _explain(key, grants, query)
    if found.allowed and query.action == "keys.admin":
        found = msgspec.structs.replace(found, ended_issuer=ended_issuer)
    if key.throttled(query.now):
        found = msgspec.structs.replace(found, throttled_until=key.throttled_until)
    return found


def _explain(key: Key, grants: tuple[AttributedGrant, ...], query: AccessQuery) -> Explanation:
    matching = tuple(one for one in grants if not failures(one.grant, query))
    state = decide_state(key, query.now)
    if state is not None:
        failure = Failure("state", "active", key.state(query.now))
        return Explanation(False, state.reason, matching, failed=(failure,))
    plain = tuple(one.grant for one in grants)
    decision = decide_grants(plain, query.action, now=query.now, address=query.address)
    if decision == ROLE_UNREADABLE:
        unread = [one for one in grants if one.grant.unreadable]
        failure = Failure("roles", "roles that can be read", [one.role for one in unread])
        return Explanation(False, ROLE_UNREADABLE.reason, matching, unread[0], (failure,))
    if isinstance(decision, Denied) and decision != DENIED_BY_GRANT:
        return _missed(decision.reason, grants, query, matching)
    if query.action == "ingest" and (reserved := _reserved(query.event)) is not None:
        return Explanation(False, NOT_FOR_PRODUCERS, matching, failed=(reserved,))
    denying = [
        one for one in matching if one.grant.effect == "deny" and not _dependences(one, query)
    ]
    # A denial of events means nothing without an event.
    if decision == DENIED_BY_GRANT or (denying and query.event is not None):
        failure = Failure("effect", "allow", "deny")
        return Explanation(False, DENIED_BY_GRANT.reason, matching, denying[0], (failure,))
    allowing = [one for one in matching if one.grant.effect == "allow"]
    if not allowing:
        return _missed(None, grants, query, matching)
    if depends := _depends(matching, query):
        masks = _masks(allowing, query, decision)
        reason = f"depends_on_{depends[0].member}"
        return Explanation(False, reason, matching, masks=masks, depends=depends)
    allowing = [one for one in allowing if not _dependences(one, query)]
    return Explanation(True, GRANTED, matching, masks=_masks(allowing, query, decision))


def _masks(
    allowing: list[AttributedGrant], query: AccessQuery, decision: Allowed | Denied
) -> Masks:
    masks = Masks()
    if query.event is None or query.action not in READING:
        return masks
    for one in allowing:
        masks = masks.joined(one.grant.fields or Masks())
    if query.event.category == REJECTED and isinstance(decision, Allowed) and decision.view.hides:
        masks = masks.joined(RAW_ITEM)
    return masks


def _depends(matching: tuple[AttributedGrant, ...], query: AccessQuery) -> tuple[Dependence, ...]:
    """What the decision depends on, resources first: grants that deny some of the events only, and,
    unless a grant allows all of them, those that allow some only."""
    found = [
        one
        for named in matching
        if named.grant.effect == "deny" or not _allows_all(matching, query)
        for one in _dependences(named, query)
    ]
    order = ("resource", "tenant", "severity")
    return tuple(sorted(found, key=lambda one: order.index(one.member)))


def _allows_all(matching: tuple[AttributedGrant, ...], query: AccessQuery) -> bool:
    return any(
        named.grant.effect == "allow" and not _dependences(named, query) for named in matching
    )


def _dependences(named: AttributedGrant, query: AccessQuery) -> tuple[Dependence, ...]:
    """Requirements of a grant on members of the event that the query does not give."""
    if query.event is None or not query.unsaid:
        return ()
    grant = named.grant
    found = [
        Dependence(named, member, values)
        for predicate, member, values in (
            ("resources", "resource", grant.resources),
            ("tenants", "tenant", grant.tenants),
        )
        if predicate in query.unsaid and values and ANY not in values
    ]
    if "min_severity" in query.unsaid and grant.min_severity > 1:
        found.append(Dependence(named, "severity", (grant.min_severity,)))
    return tuple(found)


def _reserved(event: Described | None) -> Failure | None:
    """Member of an event that only the gateway itself may send."""
    if event is None:
        return None
    if is_reserved(event.category):
        return Failure("category", f"none of the gateway's own ({RESERVED}.**)", event.category)
    if event.tenant == RESERVED:
        return Failure("tenant", "another than the gateway's own", event.tenant)
    return None


def failures(grant: Grant, query: AccessQuery) -> tuple[Failure, ...]:
    """Failed predicates of a grant for a query, in a fixed order."""
    failed = []
    if not grant.concerns(query.action):
        failed.append(Failure("actions", list(grant.actions), query.action))
    if grant.when is not None:
        failed += _circumstances(grant.when, query, grant.effect == "deny")
    if query.event is not None:
        failed += _parts(grant, query, query.event)
    lookback = grant.when.lookback if grant.when is not None and grant.effect == "allow" else None
    if lookback is not None and query.age is not None and query.age > lookback:
        assert grant.when is not None
        failed.append(Failure("when.max_lookback", grant.when.max_lookback, f"{int(query.age)}s"))
    return tuple(failed)


def _circumstances(when: When, query: AccessQuery, unknown: bool) -> list[Failure]:
    failed = []
    if When(cidr=when.cidr).holds(query.now, query.address, unknown=unknown) is not None:
        failed.append(Failure("when.cidr", list(when.cidr), query.address))
    in_hours = When(hours=when.hours, tz=when.tz)
    if in_hours.holds(query.now, None, unknown=unknown) is not None:
        known = when.local_hour(query.now)
        hour = "??" if known is None else f"{known:02d}"
        failed.append(Failure("when.hours", f"{when.hours} {when.tz}", hour))
    return failed


def _parts(grant: Grant, query: AccessQuery, event: Described) -> list[Failure]:
    whole = grant.scope()
    parts: tuple[tuple[str, Scope, Any, Callable[[], Any]], ...] = (
        ("tenants", Scope(tenant=whole.tenant), list(grant.tenants), lambda: event.tenant),
        (
            "categories",
            Scope(category=whole.category, reserved=whole.reserved),
            list(grant.categories),
            lambda: event.category,
        ),
        (
            "resources",
            Scope(resource=whole.resource),
            list(grant.resources),
            lambda: event.resources.split("\n") if event.resources else [],
        ),
        (
            "min_severity",
            Scope(min_severity=whole.min_severity),
            grant.min_severity,
            lambda: event.severity,
        ),
    )
    return [
        Failure(predicate, expected, actual())
        for predicate, scope, expected, actual in parts
        if predicate not in query.unsaid and not scope.compile()(event)
    ]


def _missed(
    reason: str | None,
    grants: tuple[AttributedGrant, ...],
    query: AccessQuery,
    matching: tuple[AttributedGrant, ...],
) -> Explanation:
    """Denial because no grant allows it; the nearest grant is the one that fails least."""
    allowing = [one for one in grants if one.grant.effect == "allow"]
    if not allowing:
        return Explanation(False, reason or NOT_GRANTED.reason, matching)
    tried = [(failures(one.grant, query), one) for one in allowing]
    # A grant for another action is farther away than one for other events.
    failed, nearest = min(
        tried, key=lambda one: (one[0][0].predicate == "actions" if one[0] else False, len(one[0]))
    )
    if reason is None:
        beyond = [failure.predicate for failure in failed] == ["when.max_lookback"]
        reason = BEYOND_LOOKBACK if beyond else EVENT_NOT_GRANTED
    return Explanation(False, reason, matching, nearest, failed)
