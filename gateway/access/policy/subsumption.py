"""Subsumption: whether one set of grants allows all that another would, so that no key delegates
more than it has. Conservative: what cannot be shown to be covered is not."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from gateway.access.grants.grant import IMPLIED_BY, Grant
from gateway.access.grants.mask import Masks
from gateway.filters.overlap import category_overlaps, one_overlaps
from gateway.filters.pattern import ANY, END, Tree, segment_tree
from gateway.filters.scope import REJECTED, RESERVED, SEPARATORS, Scope

_READING = frozenset(("stream", "pull"))
Result = TypeVar("Result")
Steps = Generator[None, None, Grant | None]


def run_steps(steps: Generator[None, None, Result]) -> Result:
    """Run a generator to its end and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: Result = done.value
            return result


def uncovered_grant(holder: tuple[Grant, ...], wanted: tuple[Grant, ...]) -> Steps:
    """First wanted grant that allows something which `holder` does not; None if all are covered.

    In steps, each of which compares two grants. What the holder is denied must be denied again by
    the wanted grants themselves.
    """
    for grant in wanted:
        if grant.effect == "allow" and not (yield from _covered(holder, wanted, grant)):
            return grant
        if (yield from _tells_apart(holder, grant)):
            return grant
    return None


def _tells_apart(holder: tuple[Grant, ...], wanted: Grant) -> Generator[None, None, bool]:
    """Whether `wanted` grants or denies by resources what the holder sees with its resources
    hidden: grants match the event itself, so that a key of its own would confirm guesses. It may
    pass on its own patterns for such events as they are."""
    named = frozenset(wanted.resources)
    if not named or ANY in named:
        return False
    for grant in holder:
        yield
        if frozenset(grant.resources) == named and scopes_overlap(grant.scope(), wanted.scope()):
            return False
    reading = _READING.intersection(wanted.actions)
    for grant in holder:
        yield
        if (
            grant.fields
            and grant.fields.hides("targets.urn")
            and not reading.isdisjoint(grant.actions)
            and scopes_overlap(grant.scope(), wanted.scope())
        ):
            return True
    return False


def _covered(
    holder: tuple[Grant, ...], all_wanted: tuple[Grant, ...], wanted: Grant
) -> Generator[None, None, bool]:
    for action in wanted.actions:
        # What denies the action that implies this one is taken to deny this one, too.
        having = [
            grant
            for grant in holder
            if action in grant.actions or IMPLIED_BY.get(action) in grant.actions
        ]
        # Each category may be covered by another grant; the other members are the same for all, and
        # compared once.
        missing, able = wanted.categories, False
        for grant in having:
            yield
            if grant.effect == "allow" and _covers_but_for_category(grant, wanted):
                able = True
                missing = _missing(grant.scope(), "category", missing) if missing else ()
        if missing or not able:
            return False
        for grant in having:
            yield
            # The masks of all grants that let an event through apply to it.
            if grant.fields and not _hidden_again(grant, wanted):
                return False
            if grant.effect == "deny" and not (yield from _denied_again(grant, all_wanted, action)):
                return False
        if any(grant.fields for grant in having) and not _hides_rejected(
            all_wanted, wanted, action
        ):
            return False
    return True


def _hides_rejected(all_wanted: tuple[Grant, ...], wanted: Grant, action: str) -> bool:
    """Whether raw rejected items stay hidden: `wanted` does not reach them, or some mask or denial
    hides them."""
    return (
        bool(wanted.fields)
        or not category_overlaps(wanted.scope(), REJECTED)
        or any(
            (grant.fields or grant.effect == "deny")
            and action in grant.actions
            and grant.when is None
            for grant in all_wanted
        )
    )


def _denied_again(
    denial: Grant, wanted: tuple[Grant, ...], action: str
) -> Generator[None, None, bool]:
    for grant in wanted:
        yield
        if (
            grant.effect == "deny"
            and action in grant.actions
            and grant.when is None
            and scope_covers(grant.scope(), denial.scope())
        ):
            return True
    return False


def _covers_but_for_category(holder: Grant, wanted: Grant) -> bool:
    if holder.when is not None and holder.when != wanted.when:
        return False
    return _covers_rest(holder.scope(), wanted.scope())


def _hidden_again(holder: Grant, wanted: Grant) -> bool:
    """Whether `wanted` hides what `holder` hides, or they share no event."""
    if not scopes_overlap(holder.scope(), wanted.scope()):
        return True
    hidden, hides = holder.fields or Masks(), wanted.fields or Masks()
    drops = Masks(drop=hides.drop)
    return (
        all(map(drops.hides, hidden.drop))
        and all(map(hides.conceals, hidden.mask))
        and all(map(hides.hides, hidden.pseudonymize))
    )


def scopes_overlap(one: Scope, other: Scope) -> bool:
    """Whether an event can be in both; one with several targets is in many scopes."""
    if not any(category_overlaps(one, pattern) for pattern in other.category or ("**",)):
        return False
    tenants = one.tenant or (ANY,)
    return any(
        one_overlaps(tenants, pattern, SEPARATORS["tenant"]) for pattern in other.tenant or (ANY,)
    )


def scope_covers(outer: Scope, inner: Scope) -> bool:
    """Whether every event of `inner` is in `outer`."""
    return _covers_rest(outer, inner) and _member_covers(outer, "category", inner.category)


def alternatives_cover(outer: Iterable[Scope], inner: Scope) -> bool:
    """Whether every category of `inner` is covered by one of several scopes."""
    missing = inner.category or (ANY,)
    for scope in outer:
        if missing and _covers_rest(scope, inner):
            missing = _missing(scope, "category", missing)
    return not missing


def _covers_rest(outer: Scope, inner: Scope) -> bool:
    """Whether all members but the category are covered."""
    return outer.min_severity <= inner.min_severity and all(
        _member_covers(outer, member, getattr(inner, member))
        for member in SEPARATORS
        if member != "category"
    )


def _member_covers(outer: Scope, member: str, wanted: tuple[str, ...]) -> bool:
    return next(_each_missing(outer, member, wanted or (ANY,)), None) is None


def _missing(outer: Scope, member: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Wanted patterns of a member that the scope does not cover."""
    return tuple(_each_missing(outer, member, wanted))


def _each_missing(outer: Scope, member: str, wanted: tuple[str, ...]) -> Iterator[str]:
    having: tuple[str, ...] = getattr(outer, member)
    reserved = member == "category" and not outer.reserved
    if not having and not reserved:
        return
    separator = SEPARATORS[member]
    tree = named = segment_tree(having or (ANY,), separator)
    if reserved:
        # Patterns that begin with a wildcard do not match reserved categories.
        named = {first: node for first, node in tree.items() if not str(first).startswith("*")}
    for pattern in wanted:
        inner = pattern.split(separator)
        if not _reaches(named if inner[0] == RESERVED else tree, inner):
            yield pattern


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
