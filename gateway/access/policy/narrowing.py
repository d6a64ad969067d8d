"""Grants as far as a query reaches, and views as far back as somebody may look. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.access.grants.grant import Grant
from gateway.access.policy.decision import View
from gateway.access.policy.satisfiability import common_patterns
from gateway.filters.pattern import ANY
from gateway.filters.scope import Scope

_MEMBERS = {"tenant": "tenants", "category": "categories", "resource": "resources"}


def narrowed(grant: Grant, action: str, wanted: Scope) -> Grant | None:
    """What a grant says of one action on what is asked for; None if it says nothing."""
    if action not in grant.actions:
        return None
    scope, changes = grant.scope(), dict[str, Any](actions=(action,))
    for name, member in _MEMBERS.items():
        asked, granted = list(getattr(wanted, name)), list(getattr(scope, name))
        # Grants are about the urn, selectors about what stands in its place.
        if not asked or (name == "resource" and grant.fields and grant.fields.hides("targets.urn")):
            continue
        common = common_patterns(name, asked, granted or [ANY], scope.reserved)
        found = tuple(dict.fromkeys(common))
        if not found:
            return None
        changes[member] = found
    changes["min_severity"] = max(scope.min_severity, wanted.min_severity)
    return msgspec.structs.replace(grant, **changes)


def within_lookback(view: View, seconds: int | None) -> View:
    """The view, not further back than so many seconds; None for no further bound."""
    if seconds is None:
        return view
    rules = [
        msgspec.structs.replace(
            rule, lookback=seconds if rule.lookback is None else min(rule.lookback, seconds)
        )
        for rule in view.rules
    ]
    return View(tuple(rules), view.denied)
