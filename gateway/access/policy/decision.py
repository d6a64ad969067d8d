"""Policy decisions: what a key may do, and what it sees. Pure; default deny, deny wins.

Roles and own grants count together. An event that several grants let through gets the masks of all
of them: a mask denies a part, and denials win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec

from gateway.access.grants.grant import IMPLIED_BY, NOT_ABOUT_EVENTS, Grant
from gateway.access.grants.mask import Masks, masked
from gateway.access.grants.pseudonym import PseudonymDomain
from gateway.access.keys.key import Key
from gateway.event import Draft, Event
from gateway.filters.overlap import category_overlaps
from gateway.filters.pattern import is_literal
from gateway.filters.scope import REJECTED, REJECTED_ITEM, Scope, Test, all_of, any_of

Projection = Callable[[Event], Event | None]
# Masks for an event; None if it is not seen.
MasksFor = Callable[[Event], Masks | None]
_CLEAR = Masks()
RAW_ITEM = Masks((f"data.{REJECTED_ITEM}",))
# Members of an event as producers know them, and the parts of a scope up to each.
_NARROWING = (
    ("tenant", ("tenant",)),
    ("category", ("tenant", "category", "reserved")),
    ("targets", ("tenant", "category", "reserved", "resource")),
    ("severity", ("tenant", "category", "reserved", "resource", "min_severity")),
)


class Rule(msgspec.Struct, frozen=True):
    """One scope that is seen, its masks, and its look-back in seconds. In a view bound to a log,
    `after` is the offset that the look-back reaches to."""

    scope: Scope
    masks: Masks = _CLEAR
    lookback: int | None = None
    after: int = 0

    @property
    def limited(self) -> bool:
        """Whether events of the scope are masked, or too old."""
        return bool(self.masks) or self.lookback is not None


class View(msgspec.Struct, frozen=True):
    """What one key sees of the log. Hashable; equal views see the same."""

    rules: tuple[Rule, ...]
    denied: tuple[Scope, ...] = ()

    @classmethod
    def of(cls, *scopes: Scope, denied: tuple[Scope, ...] = ()) -> View:
        """View of all events of these scopes, unmasked."""
        return cls(tuple(map(Rule, scopes)), denied)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        return tuple([rule.scope for rule in self.rules])

    @property
    def limited(self) -> bool:
        """Whether events of its scopes are masked, or too old."""
        return any(rule.limited for rule in self.rules)

    @property
    def plain(self) -> bool:
        """Whether the scopes alone say what is seen."""
        return not self.denied and not self.limited

    @property
    def hides(self) -> bool:
        """Whether members of its events are masked."""
        return any(rule.masks for rule in self.rules)

    @property
    def pseudonymizes(self) -> bool:
        """Whether members of its events are pseudonymized."""
        return any(rule.masks.pseudonymize for rule in self.rules)

    def within(self, domain: PseudonymDomain) -> View:
        """The view with the domain of a reader's pseudonyms."""
        rules = [
            msgspec.structs.replace(rule, masks=rule.masks.within(domain)) for rule in self.rules
        ]
        return View(tuple(rules), self.denied)

    @property
    def begin(self) -> int:
        """Offset behind which all seen events lie."""
        return min((rule.after for rule in self.rules), default=0)

    def bound(self, offsets: Mapping[int | None, int]) -> View:
        """View bound to a log, where each look-back in seconds reaches to an offset."""
        rules = [
            msgspec.structs.replace(rule, after=offsets.get(rule.lookback, 0))
            for rule in self.rules
        ]
        return View(tuple(rules), self.denied)

    def unbound(self) -> View:
        """View of no log, for future events, or to compare with another decision."""
        return self.bound({}) if any(rule.after for rule in self.rules) else self

    def compile(self) -> Test:
        """Test whether the view contains an event (or a draft)."""
        return self._unless_denied(any_of([scope.compile() for scope in self.scopes]))

    def outside(self, event: Event | Draft) -> str:
        """First member of an event outside of the view that no scope lets through."""
        for path, names in _NARROWING:
            parts = [Scope(**{name: getattr(one, name) for name in names}) for one in self.scopes]
            if not any_of([part.compile() for part in parts])(event):
                return path
        # A denial hides it.
        return "category"

    def only_tenant(self) -> str | None:
        """The tenant that all scopes name; None if there are others, or patterns."""
        return _only({scope.tenant for scope in self.scopes})

    def only_category(self) -> str | None:
        """The category that all scopes name; None if there are others, or patterns."""
        return _only({scope.category for scope in self.scopes})

    def members(self) -> set[str]:
        """Attributes of events that the view depends on, but for its limits."""
        return set().union(*(scope.members() for scope in (*self.scopes, *self.denied)))

    def projection(self) -> Projection:
        """Function from an event to the event with masks applied, or None if it is not seen."""
        if not self.limited:
            sees = self.compile()
            return lambda event: event if sees(event) else None
        masks_for = self.masks_for()

        def project(event: Event) -> Event | None:
            masks = masks_for(event)
            return None if masks is None else masked(event, masks)

        return project

    def masks_for(self) -> MasksFor:
        """Function from an event to its masks, or None if it is not seen."""
        sees = self.compile()
        if not self.limited:
            return lambda event: _CLEAR if sees(event) else None
        parts = [(rule.scope.compile(), rule.masks, rule.after) for rule in self.rules]

        def masks_for(event: Event) -> Masks | None:
            if not sees(event):
                return None
            through = [
                masks for test, masks, after in parts if event.offset > after and test(event)
            ]
            return _joined(tuple(through)) if through else None

        return masks_for

    def _unless_denied(self, sees: Test) -> Test:
        if not self.denied:
            return sees
        hidden = any_of([scope.compile() for scope in self.denied])
        return all_of([sees, lambda event: not hidden(event)])


class Allowed(msgspec.Struct, frozen=True):
    """Permission for what is in `view`."""

    view: View


class Denied(msgspec.Struct, frozen=True):
    """Denial; `reason` is a stable code."""

    reason: str


REVOKED = Denied("key_revoked")
EXPIRED = Denied("key_expired")
SUSPENDED = Denied("key_suspended")
NOT_GRANTED = Denied("action_not_granted")
DENIED_BY_GRANT = Denied("denied_by_grant")
KEY_UNREADABLE = Denied("key_unreadable")
ROLE_UNREADABLE = Denied("role_unreadable")
_STATES = {
    "revoked": REVOKED,
    "expired": EXPIRED,
    "suspended": SUSPENDED,
    "unreadable": KEY_UNREADABLE,
}


def decide_state(key: Key, now: float) -> Denied | None:
    """Denial that follows from the state of the key, if any."""
    return _STATES.get(key.state(now))


def effective_grants(key: Key, roles: Mapping[str, tuple[Grant, ...]]) -> tuple[Grant, ...]:
    """Grants of the key and of its roles; a deleted role grants nothing."""
    if not key.roles:
        return key.grants
    return key.grants + tuple(grant for role in key.roles for grant in roles.get(role, ()))


def decide_grants(
    grants: tuple[Grant, ...], action: str, *, now: float = 0.0, address: str | None = None
) -> Allowed | Denied:
    """Whether grants allow `action` at `now` (seconds since 1970) from `address`, whatever the
    key's state. What implies it counts where it is allowed itself, and nothing denies the
    action."""
    decision = _decide_named(grants, action, now, address)
    if action not in IMPLIED_BY or isinstance(decision, Allowed):
        return decision
    implying = _decide_named(grants, IMPLIED_BY[action], now, address)
    if isinstance(implying, Denied):
        return decision if implying in (NOT_GRANTED, DENIED_BY_GRANT) else implying
    for grant in grants:
        if grant.effect == "deny" and action in grant.actions and not grant.unmet(now, address):
            return DENIED_BY_GRANT
    return implying


def _decide_named(
    grants: tuple[Grant, ...], action: str, now: float, address: str | None
) -> Allowed | Denied:
    """Decision by the grants that name the action."""
    if any(grant.unreadable for grant in grants):
        return ROLE_UNREADABLE
    allowed: dict[Rule, None] = {}
    denied: dict[Scope, None] = {}
    reason: str | None = None
    for grant in grants:
        if action not in grant.actions:
            continue
        unmet = grant.unmet(now, address)
        if grant.effect == "deny":
            if unmet is None:
                denied[grant.scope()] = None
        elif unmet is not None:
            reason = reason or unmet
        else:
            lookback = grant.when.lookback if grant.when is not None else None
            allowed[Rule(grant.scope(), grant.fields or _CLEAR, lookback)] = None
    if not allowed:
        return NOT_GRANTED if reason is None else Denied(reason)
    if denied and action in NOT_ABOUT_EVENTS:
        # Such actions have no events of which a part could be left.
        return DENIED_BY_GRANT
    rules = tuple(allowed)
    if denied or any(rule.masks for rule in rules):
        rules = tuple(map(_without_raw, rules))
    return Allowed(View(rules, tuple(denied)))


def _without_raw(rule: Rule) -> Rule:
    """The rule with raw rejected items masked, as they may contain what masks or denials of the key
    hide."""
    if not _test_of_categories(rule.scope.category, rule.scope.reserved):
        return rule
    return msgspec.structs.replace(rule, masks=rule.masks.joined(RAW_ITEM))


@lru_cache(1024)
def _test_of_categories(patterns: tuple[str, ...], reserved: bool) -> bool:
    return category_overlaps(Scope(category=patterns, reserved=reserved), REJECTED)


def depends_on_circumstances(grants: tuple[Grant, ...]) -> bool:
    """Whether a decision over the grants depends on the hour or the address."""
    return any(
        grant.when is not None and (grant.when.hours is not None or bool(grant.when.cidr))
        for grant in grants
    )


def depends_on_hours(grants: tuple[Grant, ...]) -> bool:
    """Whether a decision over the grants may change when an hour begins."""
    return any(grant.when is not None and grant.when.hours is not None for grant in grants)


@lru_cache(1024)
def compiled(view: View) -> Test:
    """`view.compile()`, cached, as a few keys send most of the requests."""
    return view.compile()


def _only(selected: set[tuple[str, ...]]) -> str | None:
    """What the selectors of all scopes name alone, if that is the same."""
    if len(selected) != 1:
        return None
    [patterns] = selected
    return patterns[0] if len(patterns) == 1 and is_literal(patterns[0]) else None


@lru_cache(1024)
def _joined(several: tuple[Masks, ...]) -> Masks:
    whole = several[0]
    for masks in several[1:]:
        whole = whole.joined(masks)
    return whole
