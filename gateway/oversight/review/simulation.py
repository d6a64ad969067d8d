"""Simulation of past accesses and events of a key under other grants. Pure.

It adds up what differs between the present grants (`before`) and the proposed ones (`after`).
Hours, networks and look-back are tried on accesses, which have a time and an address; events are
tried on scopes and masks alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any

import msgspec

from gateway.access.grants.mask import Masks
from gateway.access.policy.attributed_grant import AttributedGrant
from gateway.access.policy.decision import Allowed, Denied, MasksFor, decide_grants
from gateway.access.policy.reader import SEES_EVERYTHING, Reader
from gateway.access.policy.subsumption import run_steps
from gateway.clock import format_time
from gateway.event import Event
from gateway.oversight.access_log.out_of_scope import is_out_of_scope
from gateway.oversight.access_log.past_access import READING, PastAccess
from gateway.oversight.review.explain import EVENT_NOT_GRANTED
from gateway.oversight.review.grant_use import GrantUse, evaluate_use

_MOST_GROUPS = 50
_MOST_EXAMPLES = 5
# Denials that grants decide; others are about the state of the key, or not about grants.
_BY_GRANTS = frozenset(
    {"action_not_granted", "outside_hours", "address_not_allowed", "denied_by_grant"}
)


class _Tally:
    """Number of events, their tenants and categories, and some of their cursors."""

    def __init__(self) -> None:
        self._groups: Counter[tuple[str, str]] = Counter()
        self._examples: list[str] = []

    def add(self, event: Event) -> None:
        self._groups[event.tenant, event.category] += 1
        if len(self._examples) < _MOST_EXAMPLES:
            self._examples.append(event.cursor.decode())

    def public(self) -> dict[str, Any]:
        return {
            "count": self._groups.total(),
            "by": [
                {"tenant": tenant, "category": category, "count": count}
                for (tenant, category), count in self._groups.most_common(_MOST_GROUPS)
            ],
            "examples": self._examples,
        }


class _Difference:
    """Events that one reading action shows before and after."""

    def __init__(self, before: MasksFor, after: MasksFor) -> None:
        self._before = before
        self._after = after
        self._seen_before = 0
        self._seen_after = 0
        self._tallies = {
            name: _Tally()
            for name in ("no_longer_seen", "newly_seen", "more_hidden", "less_hidden")
        }

    def add(self, event: Event) -> None:
        before, after = self._before(event), self._after(event)
        self._seen_before += before is not None
        self._seen_after += after is not None
        if before is None or after is None:
            if before is not None:
                self._tallies["no_longer_seen"].add(event)
            elif after is not None:
                self._tallies["newly_seen"].add(event)
            return
        both = before.joined(after)
        if both != before:
            self._tallies["more_hidden"].add(event)
        if both != after:
            self._tallies["less_hidden"].add(event)

    def public(self) -> dict[str, Any]:
        return {
            "seen_before": self._seen_before,
            "seen_after": self._seen_after,
            **{name: tally.public() for name, tally in self._tallies.items()},
        }


class Simulation:
    """Proposed grants compared with the present ones. `hidden` are masks of the reader on
    accesses."""

    def __init__(
        self,
        before: Iterable[AttributedGrant],
        after: Iterable[AttributedGrant],
        hidden: Masks | None = None,
    ) -> None:
        self._before = tuple(one.grant for one in before)
        after = tuple(after)
        self._after = tuple(one.grant for one in after)
        self._grants = [GrantUse(one) for one in after]
        self._differences = {
            action: _Difference(_masks_for(self._before, action), _masks_for(self._after, action))
            for action in READING
            if any(action in grant.actions for grant in self._before + self._after)
        }
        self._hides_address = hidden is not None and hidden.hides("source.ip")
        self._accesses: list[PastAccess] = []
        self._events = 0
        self._changed: dict[str, Counter[tuple[str, str, str, str]]] = {
            "would_be_denied": Counter(),
            "would_be_allowed": Counter(),
        }
        self._last: dict[tuple[str, str, str, str], float] = {}

    def add_access(self, access: PastAccess) -> None:
        """Add an access of the key."""
        self._accesses.append(access)
        for one in self._grants:
            one.count_access(access)
        if not access.count:
            return
        decisions = [
            decide_grants(self._after, access.attempted, now=moment, address=access.address)
            for moment in dict.fromkeys((access.at, access.until))
        ]
        denials = [one.reason for one in decisions if isinstance(one, Denied)]
        if access.allowed and access.attempted in READING and not denials:
            denials = [
                EVENT_NOT_GRANTED
                for one in decisions
                if isinstance(one, Allowed)
                and any(is_out_of_scope(one.view, query) for query in access.queries)
            ]
        if access.allowed and denials:
            self._note("would_be_denied", access, denials[0])
        elif not access.allowed and not denials and access.reason in _BY_GRANTS:
            self._note("would_be_allowed", access, access.reason)

    def add_event(self, event: Event) -> None:
        """Add an event of the log."""
        self._events += 1
        for one in self._grants:
            one.count_event(event)
        for difference in self._differences.values():
            difference.add(event)

    def public(self, **shown: Any) -> dict[str, Any]:
        """Result of `summarize`, computed at once."""
        return run_steps(self.summarize(**shown))

    def summarize(
        self,
        *,
        with_uses: bool = True,
        reader: Reader = SEES_EVERYTHING,
        since: float = 0.0,
        first: int = 0,
    ) -> Generator[None, None, dict[str, Any]]:
        """`{"uses", "events", "grants", "unused", "not_known"}`; the last two name proposed grants.

        Without `with_uses` nothing is said of accesses. Events were examined as the `reader` sees
        them, behind the offset `first`, and accesses `since` then. In steps, one a grant.
        """
        found = yield from evaluate_use(
            self._grants, self._accesses, since=since, reader=reader, first=first
        )
        uses = {
            "looked_at": sum(access.count for access in self._accesses),
            **{kind: self._changes(kind) for kind in self._changed},
        }
        return {
            "uses": uses if with_uses else None,
            "events": {
                "looked_at": self._events,
                **{action: one.public() for action, one in self._differences.items()},
            },
            "grants": [one.public() for one in self._grants],
            "unused": [one.name for one in found.unused] if with_uses else None,
            "not_known": [one.name for one in found.not_known] if with_uses else None,
        }

    def _note(self, kind: str, access: PastAccess, reason: str) -> None:
        address = "***" if self._hides_address else access.address or ""
        what = (access.attempted, reason, address, access.route)
        self._changed[kind][what] += access.count
        self._last[what] = max(access.until, self._last.get(what, 0.0))

    def _changes(self, kind: str) -> list[dict[str, Any]]:
        return [
            {
                "action": action,
                "reason_code": reason,
                "address": address,
                "route": route,
                "count": count,
                "last": format_time(self._last[action, reason, address, route]),
            }
            for (action, reason, address, route), count in self._changed[kind].most_common(
                _MOST_GROUPS
            )
        ]


def _masks_for(grants: Iterable[Any], action: str) -> MasksFor:
    """Masks of events under the grants when all their conditions hold."""
    always = tuple(msgspec.structs.replace(grant, when=None) for grant in grants)
    decision = decide_grants(always, action)
    return decision.view.masks_for() if isinstance(decision, Allowed) else lambda event: None
