"""Whether one set of grants allows everything that another would: nobody passes on more.

Conservative where exactness would be hard: what cannot be shown to be covered
is not.
"""

from __future__ import annotations

from functools import lru_cache

from gateway.keys.grant import Grant
from gateway.keys.mask import Masks
from gateway.match.overlap import category_in_reach, patterns_overlap
from gateway.match.pattern import END, Tree, segment_tree
from gateway.match.scope import RESERVED, SEPARATORS, Scope

_tree = lru_cache(4096)(segment_tree)


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
        # Categories are alternatives: each may be covered by another grant. The other members are
        # the same for all of them, and are compared once.
        able = [grant.scope() for grant in allowing if _covers_but_for_category(grant, wanted)]
        missing = wanted.scope().category
        for scope in able:
            missing = _missing(scope, "category", missing) if missing else ()
        if missing or not able:
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


def _covers_but_for_category(holder: Grant, wanted: Grant) -> bool:
    if holder.when is not None and holder.when != wanted.when:
        return False
    return _covers_rest(holder.scope(), wanted.scope())


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
    return _covers_rest(outer, inner) and _member_covers(outer, "category", inner.category)


def _covers_rest(outer: Scope, inner: Scope) -> bool:
    """The same but for their categories."""
    return outer.min_severity <= inner.min_severity and all(
        _member_covers(outer, member, getattr(inner, member))
        for member in SEPARATORS
        if member != "category"
    )


def _member_covers(outer: Scope, member: str, wanted: tuple[str, ...]) -> bool:
    return not _missing(outer, member, wanted or ("**",))


def _missing(outer: Scope, member: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The wanted patterns of a member that the scope does not cover."""
    having: tuple[str, ...] = getattr(outer, member)
    reserved = member == "category" and not outer.reserved
    if not having and not reserved:
        return ()
    separator = SEPARATORS[member]
    tree = named = _tree(having or ("**",), separator)
    if reserved:
        # Patterns that begin with a wildcard do not reach what is reserved.
        named = {first: node for first, node in tree.items() if not str(first).startswith("*")}
    missing = []
    for pattern in wanted:
        inner = pattern.split(separator)
        if not _reaches(named if inner[0] == RESERVED else tree, inner):
            missing.append(pattern)
    return tuple(missing)


def _reaches(tree: Tree, inner: list[str]) -> bool:
    """Whether one of the patterns covers the inner one."""
    nodes = [tree]
    for segment in inner:
        if any("**" in node for node in nodes):
            return True
        if segment == "**":
            return False
        names = {segment, "*"}
        nodes = [node[name] for node in nodes for name in names if name in node]
        if not nodes:
            return False
    return any("**" in node or END in node for node in nodes)
