"""Differences of grants in sentences: what is newly allowed, and what is not any more. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from gateway.access.grants.grant import Grant
from gateway.access.policy.subsumption import run_steps, uncovered_grant
from gateway.filters.pattern import ANY
from gateway.oversight.review.sentences import denial_sentences, denied_duties, grant_sentences

# More patterns than that are not looked at one by one.
_MOST_SPLIT = 64


def widens(before: tuple[Grant, ...], after: tuple[Grant, ...]) -> bool:
    """Whether the second grants allow or show something that the first do not."""
    return before != after and run_steps(uncovered_grant(before, after)) is not None


def gained(before: tuple[Grant, ...], after: tuple[Grant, ...]) -> list[str]:
    """Sentences for what the second grants allow that the first do not."""
    denied = denied_duties(after)
    sentences = [
        sentence
        for grant in after
        if grant.effect == "allow" and grant not in before
        for part in _uncovered(before, after, grant)
        for sentence in grant_sentences(part, denied)
    ]
    kept = set(denial_sentences(after))
    lifted = [one for one in denial_sentences(before) if one not in kept]
    return [*dict.fromkeys(sentences), *(f"Not denied any more: {one}" for one in lifted)]


def differences(before: tuple[Grant, ...], after: tuple[Grant, ...]) -> tuple[list[str], list[str]]:
    """Sentences for what is new, and for what is not any more."""
    new, lost = gained(before, after), gained(after, before)
    return new, lost


def _uncovered(
    before: tuple[Grant, ...], after: tuple[Grant, ...], grant: Grant
) -> Sequence[Grant]:
    """The part of a grant that is not covered, by tenants and then by categories."""
    denials = tuple(one for one in after if one.effect == "deny")

    def missing(part: Grant) -> bool:
        return run_steps(uncovered_grant(before, (part, *denials))) is not None

    if not missing(grant):
        return ()
    actions = [one for one in grant.actions if missing(replace(grant, actions=(one,)))]
    part = replace(grant, actions=tuple(actions) or grant.actions)
    for member in ("tenants", "categories"):
        patterns: tuple[str, ...] = getattr(part, member)
        if 1 < len(patterns) <= _MOST_SPLIT and ANY not in patterns:
            left = [one for one in patterns if missing(replace(part, **{member: (one,)}))]
            part = replace(part, **{member: tuple(left) or patterns})
    return (part,)
