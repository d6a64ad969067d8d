"""`keys.read`, which `keys.admin` implies where nothing denies it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.policy.decision import Allowed, Denied, decide_grants
from gateway.access.policy.subsumption import run_steps, uncovered_grant

READ, ADMIN = "keys.read", "keys.admin"
INSIDE, OUTSIDE = "10.1.2.3", "192.0.2.1"
NET = {"cidr": ["10.0.0.0/8"]}


def grant(*actions: str, effect: str = "allow", **members: Any) -> Grant:
    return parse_grant(
        {"actions": list(actions), "effect": effect, "categories": ["**"], **members}
    )


@pytest.mark.parametrize(
    ("grants", "inside", "outside"),
    [
        ([grant(READ)], None, None),
        ([grant(ADMIN)], None, None),
        ([grant(READ, when=NET)], None, "address_not_allowed"),
        ([grant(ADMIN, when=NET)], None, "address_not_allowed"),
        ([grant("usage.read")], "action_not_granted", "action_not_granted"),
        ([grant(ADMIN), grant(READ, effect="deny")], "denied_by_grant", "denied_by_grant"),
        ([grant(ADMIN), grant(READ, effect="deny", when=NET)], "denied_by_grant", None),
        # What does not hold itself implies nothing ..
        ([grant(ADMIN), grant(ADMIN, effect="deny", when=NET)], "action_not_granted", None),
        # .. and its denial denies nothing else.
        ([grant(READ), grant(ADMIN, effect="deny")], None, None),
    ],
)
def test_keys_read_is_granted_by_name_or_implied(
    grants: list[Grant], inside: str | None, outside: str | None
) -> None:
    for address, reason in ((INSIDE, inside), (OUTSIDE, outside)):
        decision = decide_grants(tuple(grants), READ, address=address)
        if reason is None:
            assert isinstance(decision, Allowed)
        else:
            assert decision == Denied(reason)


def test_keys_read_implies_nothing() -> None:
    for action in (ADMIN, "usage.read", "pull", "ops.read"):
        assert isinstance(decide_grants((grant(READ),), action), Denied)


@pytest.mark.parametrize(
    ("holder", "wanted", "covered"),
    [
        ([grant(ADMIN)], [grant(READ)], True),
        ([grant(READ)], [grant(ADMIN)], False),
        ([grant(READ)], [grant(READ)], True),
        ([grant(ADMIN, when=NET)], [grant(READ)], False),
        ([grant(ADMIN, when=NET)], [grant(READ, when=NET)], True),
        ([grant(ADMIN), grant(READ, effect="deny")], [grant(READ)], False),
        ([grant(ADMIN), grant(ADMIN, effect="deny")], [grant(READ)], False),
        ([grant(ADMIN), grant(READ, effect="deny", when=NET)], [grant(READ, when=NET)], False),
        (
            [grant(ADMIN), grant(READ, effect="deny")],
            [grant(READ), grant(READ, effect="deny")],
            True,
        ),
    ],
)
def test_a_key_passes_on_what_it_has_and_what_that_implies(
    holder: list[Grant], wanted: list[Grant], covered: bool
) -> None:
    assert (run_steps(uncovered_grant(tuple(holder), tuple(wanted))) is None) == covered
