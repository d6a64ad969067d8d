"""Grants in plain sentences, for people who do not read JSON. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from gateway.access.grants.grant import IMPLIED_BY, Grant, When
from gateway.access.grants.mask import Masks
from gateway.filters.overlap import category_overlaps
from gateway.filters.pattern import ANY
from gateway.filters.scope import RESERVED
from gateway.oversight.access_log.past_access import READING

_VERBS = {"stream": "stream", "pull": "pull", "ingest": "send"}
_DUTIES = {
    "keys.admin": "make, change and end keys and roles",
    "keys.read": "list and look at keys and roles, and mark keys as reviewed",
    "usage.read": "read what keys are used for",
    "ops.read": "read the metrics, destinations and live streams of the gateway",
    "ops.act": "test, pause and resume destinations, and end live streams",
    "destinations.admin": "make, change and delete destinations",
    "pseudonyms.resolve": "find out what pseudonyms stand for",
}
_SEVERITIES = {2: "low", 3: "medium", 4: "high", 5: "critical", 6: "fatal"}


def denied_duties(grants: Iterable[Grant]) -> set[str]:
    """Duties that a grant denies at any time and from anywhere."""
    return {
        action
        for grant in grants
        if grant.effect == "deny" and not _circumstances(grant.when, False)
        for action in grant.actions
        if action in _DUTIES
    }


def can_sentences(grants: Sequence[Grant]) -> list[str]:
    """Sentences for what grants allow together."""
    in_vain = denied_duties(grants)
    return [
        sentence
        for grant in grants
        if grant.effect == "allow"
        for sentence in grant_sentences(grant, in_vain)
    ]


def denial_sentences(grants: Iterable[Grant]) -> list[str]:
    """Sentences for what grants deny by name."""
    return [
        sentence
        for grant in grants
        if grant.effect == "deny"
        for sentence in grant_sentences(grant)
    ]


def grant_sentences(grant: Grant, but: Collection[str] = ()) -> list[str]:
    """Sentences of one grant: one for events, and one for each other duty, but for duties that it
    allows in vain (`but`)."""
    allows = grant.effect == "allow"
    verbs = [_VERBS[action] for action in grant.actions if action in _VERBS]
    when = _circumstances(grant.when, allows)
    sentences = []
    if verbs:
        may = "May" if allows else "Must not"
        reads = not set(grant.actions).isdisjoint(READING)
        hidden = _hidden(grant.fields) if grant.fields and reads else ""
        back = _lookback(grant.when) if allows and reads else ""
        does = _listed(verbs, "and" if allows else "or")
        sentences.append(f"{may} {does} {_events(grant)}{back}{hidden}{when}.")
    for action in grant.actions:
        if action in _DUTIES and not (allows and action in but):
            sentences.append(f"{'May' if allows else 'Must not'} {_DUTIES[action]}{when}.")
    return sentences


def limits_of(grants: Sequence[Grant]) -> list[str]:
    """Sentences for what the grants together do not allow; at least one."""
    allowed = [grant for grant in grants if grant.effect == "allow"]
    actions = {action for grant in allowed for action in grant.actions}
    actions |= {implied for implied, by in IMPLIED_BY.items() if by in actions}
    sentences = ["Anything that no grant allows is denied."]
    if actions.isdisjoint(READING):
        sentences.append("Cannot read events.")
    else:
        for action, verb in (("stream", "follow events live"), ("pull", "pull past events")):
            if action not in actions:
                sentences.append(f"Cannot {verb}.")
        if not any(_reaches_own(grant) for grant in allowed):
            sentences.append(
                "Cannot see the gateway's own records of keys and their use (gateway.**)."
            )
    if "ingest" not in actions:
        sentences.append("Cannot send events.")
    for action, duty in _DUTIES.items():
        if action not in actions:
            sentences.append(f"Cannot {duty}.")
    return sentences


def _reaches_own(grant: Grant) -> bool:
    return not set(grant.actions).isdisjoint(READING) and category_overlaps(
        grant.scope(), f"{RESERVED}.{ANY}"
    )


def _events(grant: Grant) -> str:
    text = "events of " + _categories(grant)
    if grant.tenants:
        text += " of " + _patterns("the tenant", "the tenants", grant.tenants, "any tenant")
    if grant.resources and ANY not in grant.resources:
        text += " on " + _patterns("the resource", "the resources", grant.resources, "any resource")
    if grant.min_severity > 1:
        name = _SEVERITIES[grant.min_severity]
        text += f" of severity {grant.min_severity} ({name})"
        text += " or higher" if grant.min_severity < 6 else ""
    return text


def _categories(grant: Grant) -> str:
    own = [name for name in grant.categories if name.split(".")[0] == RESERVED]
    others = [name for name in grant.categories if name.split(".")[0] != RESERVED]
    wild = any(name.startswith("*") for name in others) and grant.effect == "allow"
    if ANY not in others:
        text = _patterns("category", "categories", grant.categories, "")
        return f"{text} but the gateway's own" if wild and not own else text
    if grant.effect == "deny":
        return "any category"
    if not own:
        return "any category but the gateway's own"
    if f"{RESERVED}.{ANY}" in own:
        return "any category, the gateway's own included"
    return f"any category, of the gateway's own only {_listed(own, 'and')}"


def _patterns(one: str, several: str, patterns: Sequence[str], everything: str) -> str:
    if ANY in patterns and len(patterns) == 1:
        return everything
    return f"{one if len(patterns) == 1 else several} {_listed(patterns, 'or')}"


def _hidden(masks: Masks) -> str:
    parts = []
    if masks.mask:
        parts.append(f"with {_listed(masks.mask, 'and')} masked")
    if masks.drop:
        parts.append(f"without {_listed(masks.drop, 'and')}")
    if masks.pseudonymize:
        parts.append(f"with pseudonyms in place of {_listed(masks.pseudonymize, 'and')}")
    return ", " + _listed(parts, "and")


def _lookback(when: When | None) -> str:
    if when is None or when.max_lookback is None:
        return ""
    return f", none that was recorded more than {when.max_lookback} ago"


def _circumstances(when: When | None, allows: bool) -> str:
    word = "only" if allows else "when it asks"
    text = ""
    if when is not None and when.cidr:
        text += f", {word} from {_listed(when.cidr, 'or')}"
    if when is not None and when.hours is not None:
        first, last = when.hours.split("-")
        text += f", {word} between {first}:00 and {last}:00 ({when.tz})"
    return text


def _listed(items: Iterable[str], joint: str) -> str:
    *before, last = items
    return f"{', '.join(before)} {joint} {last}" if before else last
