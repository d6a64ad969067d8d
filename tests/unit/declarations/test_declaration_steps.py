"""Declared sets are read, compared and checked in small steps, however much they hold."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.access.grants.grant import Grant, parse_grants
from gateway.access.policy.subsumption import run_steps
from gateway.declarations.plan import PlannedChange, digest_of_plan
from gateway.declarations.wanted import MOST_OBJECTS, structure_in_steps
from gateway.declarations.wording import differences
from gateway.errors import InvalidRequest


def grants(of: str, count: int, tenants: int) -> tuple[Grant, ...]:
    return parse_grants(
        [
            {
                "actions": ["stream"],
                "categories": [f"{of}.{number}"],
                "tenants": [f"{of}-{number}-{one}" for one in range(tenants)],
            }
            for number in range(count)
        ]
    )


def test_more_objects_than_a_set_has_are_refused_before_one_is_read() -> None:
    raw: dict[str, Any] = {"set": "prod", "roles": {f"r{n}": 0 for n in range(MOST_OBJECTS + 1)}}
    with pytest.raises(InvalidRequest, match=f"{MOST_OBJECTS + 1} objects are declared"):
        next(structure_in_steps(raw))


def test_each_object_of_a_set_is_read_in_a_step_of_its_own() -> None:
    roles: dict[str, Any] = {f"r{number}": {} for number in range(50)}
    assert sum(1 for _ in structure_in_steps({"set": "prod", "roles": roles})) >= len(roles)


def test_grants_with_many_patterns_are_told_apart_in_many_steps() -> None:
    """One comparison of each pattern with each grant would hold everything else up otherwise."""
    before, after = grants("a", 8, 10), grants("b", 8, 10)
    assert sum(1 for _ in differences(before, after)) >= 2 * 8 * 10 * 8
    new, lost = run_steps(differences(before, after))
    assert (len(new), len(lost)) == (8, 8)


def test_a_plan_is_digested_in_steps_and_each_of_its_changes_counts() -> None:
    changes = [PlannedChange(mark="+", kind="key", name=f"k{n}") for n in range(1000)]
    assert sum(1 for _ in digest_of_plan("prod", False, changes, {})) >= 10

    def digest(changes: list[PlannedChange], prune: bool = False, **seen: str) -> str:
        return run_steps(digest_of_plan("prod", prune, changes, seen))

    digests = {
        digest(changes), digest(changes[:-1]), digest(changes, prune=True), digest(changes, k="1"),
        digest(changes, k="2"), digest([*changes[:-1], replace(changes[-1], mark="~")]),
    }  # fmt: skip
    assert len(digests) == 6
    assert digest(list(changes), k="1") == digest(changes, k="1")
