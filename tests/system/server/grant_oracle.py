"""What a key may see, worked out from the specification alone and not by the gateway's code."""

from __future__ import annotations

from typing import Any

from gateway_client import Event

Grant = dict[str, Any]
SELECTORS = ("tenant", "category", "action", "outcome", "actor", "resource")
_SEPARATORS = {"resource": "/", "actor": "/"}


def matches(pattern: str, name: str, separator: str) -> bool:
    """`*` is one segment, `**` any number and only last; `a.**` is `a` and all below it."""
    wanted, found = pattern.split(separator), name.split(separator)
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        if len(found) < len(wanted):
            return False
        found = found[: len(wanted)]
    if len(wanted) != len(found):
        return False
    return all(w == f or (w == "*" and f != "") for w, f in zip(wanted, found, strict=True))


def may_see(grants: list[Grant], event: Event) -> bool:
    """Default deny; deny wins."""
    reached = [grant.get("effect", "allow") for grant in grants if _reaches(grant, event)]
    return "allow" in reached and "deny" not in reached


def selected(params: list[tuple[str, str]], event: Event) -> bool:
    """OR within a name, AND across names."""
    for name in SELECTORS:
        patterns = [value for key, value in params if key == name]
        if patterns and not any(_has(event, name, pattern) for pattern in patterns):
            return False
    least = [int(value) for key, value in params if key == "min_severity"]
    return not least or bool(event["severity"] >= least[0])


def _reaches(grant: Grant, event: Event) -> bool:
    reserved = event["category"].split(".")[0] == "gateway"
    categories = [
        pattern
        for pattern in grant["categories"]
        if not (reserved and pattern.startswith("*") and grant.get("effect") != "deny")
    ]
    return (
        any(_has(event, "category", pattern) for pattern in categories)
        and _any_of(grant.get("tenants"), event, "tenant")
        and _any_of(grant.get("resources"), event, "resource")
        and bool(event["severity"] >= grant.get("min_severity", 1))
    )


def _any_of(patterns: list[str] | None, event: Event, name: str) -> bool:
    return not patterns or any(_has(event, name, pattern) for pattern in patterns)


def _has(event: Event, name: str, pattern: str) -> bool:
    if name == "outcome":
        return bool(event["outcome"] == pattern)
    if name == "resource":
        urns = [target["urn"] for target in event.get("targets", []) if "urn" in target]
        return pattern == "**" or any(matches(pattern, urn, "/") for urn in urns)
    value = event.get("actor", {}).get("id", "") if name == "actor" else event[name]
    return matches(pattern, value, _SEPARATORS.get(name, "."))
