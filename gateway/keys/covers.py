"""Whether one set of grants allows everything that another would: nobody passes on more.

Conservative where exactness would be hard: what cannot be shown to be covered
is not.
"""

from __future__ import annotations

import msgspec

from gateway.keys.grant import Grant
from gateway.keys.mask import Masks
from gateway.match.overlap import category_in_reach, patterns_overlap
from gateway.match.scope import RESERVED, SEPARATORS, Scope


def uncovered(holder: tuple[Grant, ...], wanted: tuple[Grant, ...]) -> Grant | None:
    """The first wanted grant that allows something which `holder` does not; None if all is covered.

    What the holder is denied must be denied again by the wanted grants themselves.
    """
    for grant in wanted:
        if grant.effect == "allow" and not _covered(holder, wanted, grant):
            return grant
    return None


def _covered(holder: tuple[Grant, ...], all_wanted: tuple[Grant, ...], wanted: Grant) -> bool:
    for action in wanted.actions:
        having = [grant for grant in holder if action in grant.actions]
        allowing = [grant for grant in having if grant.effect == "allow"]
        # Categories are alternatives: each may be covered by another grant.
        for category in wanted.categories:
            part = msgspec.structs.replace(wanted, categories=(category,))
            if not any(_grant_covers(grant, part) for grant in allowing):
                return False
        for grant in having:
            if grant.effect == "deny" and not _denied_again(grant, all_wanted, action):
                return False
            # What the holder sees through several grants wears the masks of all of them.
            if grant.fields and not _hidden_again(grant, wanted):
                return False
    return True


def _denied_again(denial: Grant, wanted: tuple[Grant, ...], action: str) -> bool:
    return any(
        grant.effect == "deny"
        and action in grant.actions
        and grant.when is None
        and scope_covers(grant.scope(), denial.scope())
        for grant in wanted
    )


def _grant_covers(holder: Grant, wanted: Grant) -> bool:
    if holder.when is not None and holder.when != wanted.when:
        return False
    return scope_covers(holder.scope(), wanted.scope())


def _hidden_again(holder: Grant, wanted: Grant) -> bool:
    """Whether `wanted` hides what `holder` hides, or they have no event in common."""
    if not have_in_common(holder.scope(), wanted.scope()):
        return True
    hidden, hides = holder.fields or Masks(), wanted.fields or Masks()
    drops = Masks(drop=hides.drop)
    return all(map(drops.hides, hidden.drop)) and all(map(hides.hides, hidden.mask))


def have_in_common(one: Scope, other: Scope) -> bool:
    """Whether one event can be in both; one with several targets is in many scopes."""
    if not any(category_in_reach(one, pattern) for pattern in other.category or ("**",)):
        return False
    return any(
        patterns_overlap(pattern, another, SEPARATORS["tenant"])
        for pattern in one.tenant or ("**",)
        for another in other.tenant or ("**",)
    )


def scope_covers(outer: Scope, inner: Scope) -> bool:
    """Whether every event of `inner` is in `outer`."""
    if outer.min_severity > inner.min_severity:
        return False
    for member, separator in SEPARATORS.items():
        having: tuple[str, ...] = getattr(outer, member)
        wanted: tuple[str, ...] = getattr(inner, member)
        reserved = member == "category" and not outer.reserved
        if not having and not reserved:
            continue
        if not all(
            any(_reaches(one, other, separator, reserved) for one in having or ("**",))
            for other in wanted or ("**",)
        ):
            return False
    return True


def _reaches(outer: str, inner: str, separator: str, reserved: bool) -> bool:
    begins = inner.split(separator)
    if reserved and outer.startswith("*") and begins[0] == RESERVED:
        return False
    return _pattern_covers(outer.split(separator), begins)


def _pattern_covers(outer: list[str], inner: list[str]) -> bool:
    if outer == ["**"]:
        return True
    if not outer or not inner:
        return not outer and not inner
    if inner[0] == "**" or (outer[0] != "*" and outer[0] != inner[0]):
        return False
    return _pattern_covers(outer[1:], inner[1:])
