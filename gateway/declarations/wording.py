"""Differences of grants in sentences: what is newly allowed, and what is not any more. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from msgspec.structs import replace

from gateway.access.grants.grant import Grant
from gateway.access.policy.subsumption import uncovered_grant
from gateway.filters.pattern import ANY
from gateway.oversight.review.sentences import denial_sentences, denied_duties, grant_sentences

# More patterns than that are not looked at one by one.
_MOST_SPLIT = 64
Result = TypeVar("Result")
# Grants are compared in steps: many of them, with many patterns, take long.
Steps = Generator[None, None, Result]


def widens(before: tuple[Grant, ...], after: tuple[Grant, ...]) -> Steps[bool]:
    """Whether the second grants allow or show something that the first do not; in steps."""
    return before != after and (yield from uncovered_grant(before, after)) is not None


def _gained(before: tuple[Grant, ...], after: tuple[Grant, ...]) -> Steps[list[str]]:
    """Sentences for what the second grants allow that the first do not; in steps."""
    denied = denied_duties(after)
    sentences: list[str] = []
    for grant in after:
        if grant.effect == "allow" and grant not in before:
            yield
            for part in (yield from _uncovered(before, after, grant)):
                sentences += grant_sentences(part, denied)
    kept = set(denial_sentences(after))
    lifted = [one for one in denial_sentences(before) if one not in kept]
    return [*dict.fromkeys(sentences), *(f"Not denied any more: {one}" for one in lifted)]


def differences(
    before: tuple[Grant, ...], after: tuple[Grant, ...]
) -> Steps[tuple[list[str], list[str]]]:
    """Sentences for what is new, and for what is not any more; in steps."""
    new = yield from _gained(before, after)
    lost = yield from _gained(after, before)
    return new, lost


def _uncovered(
    before: tuple[Grant, ...], after: tuple[Grant, ...], grant: Grant
) -> Steps[Sequence[Grant]]:
    """The part of a grant that is not covered, by tenants and then by categories."""
    denials = tuple(one for one in after if one.effect == "deny")

    def missing(part: Grant) -> Steps[bool]:
        return (yield from uncovered_grant(before, (part, *denials))) is not None

    if not (yield from missing(grant)):
        return ()
    actions: list[str] = []
    for action in grant.actions:
        if (yield from missing(replace(grant, actions=(action,)))):
            actions.append(action)
    part = replace(grant, actions=tuple(actions) or grant.actions)
    for member in ("tenants", "categories"):
        patterns: tuple[str, ...] = getattr(part, member)
        if 1 < len(patterns) <= _MOST_SPLIT and ANY not in patterns:
            left = []
            for pattern in patterns:
                if (yield from missing(replace(part, **{member: (pattern,)}))):
                    left.append(pattern)
            part = replace(part, **{member: tuple(left) or patterns})
    return (part,)
