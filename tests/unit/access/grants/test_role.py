"""Roles: those that are there from the beginning, and the shape of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import to_builtins

from gateway.access.grants.grant import ACTIONS
from gateway.access.grants.role import (
    BUILTIN,
    MAX_ROLES_OF_KEY,
    Role,
    parse_role,
    parse_role_names,
)
from gateway.access.policy.decision import Allowed, decide_grants
from gateway.errors import InvalidRequest
from gateway.event import Event

MakeEvent = Callable[..., Event]
GRANT: dict[str, Any] = {"actions": ["stream"], "categories": ["auth.*"]}
ORDINARY, KEYS, ACCESS = "auth.login", "gateway.keys", "gateway.access"


def seen(event: MakeEvent, role: str, action: str) -> set[str]:
    """The categories of events that the role shows."""
    decision = decide_grants(BUILTIN[role].grants, action)
    if not isinstance(decision, Allowed):
        return set()
    sees = decision.view.compile()
    return {name for name in (ORDINARY, KEYS, ACCESS) if sees(event(category=name))}


@pytest.mark.parametrize(
    ("role", "actions", "streamed", "pulled"),
    [
        ("siem-forwarder", {"stream", "pull"}, {ORDINARY}, {ORDINARY}),
        ("dashboard", {"stream", "pull"}, {ORDINARY}, {ORDINARY}),
        ("log-shipper", {"stream"}, {ORDINARY}, set()),
        ("producer", {"ingest"}, set(), set()),
        ("auditor", {"stream", "pull", "keys.read", "usage.read", "ops.read"},
         {ORDINARY, KEYS, ACCESS}, {ORDINARY, KEYS, ACCESS}),
        ("on-call", {"ops.read", "ops.act", "usage.read"}, set(), set()),
        ("key-admin", {"keys.admin", "keys.read", "usage.read", "ops.read", "stream", "pull"},
         {KEYS}, {KEYS}),
    ],
)  # fmt: skip
def test_a_predefined_role_allows_what_it_is_for_and_nothing_else(
    event: MakeEvent, role: str, actions: set[str], streamed: set[str], pulled: set[str]
) -> None:
    grants = BUILTIN[role].grants
    allowed = {action for action in ACTIONS if isinstance(decide_grants(grants, action), Allowed)}
    assert allowed == actions
    assert (seen(event, role, "stream"), seen(event, role, "pull")) == (streamed, pulled)


def test_there_are_seven_predefined_roles_and_no_other() -> None:
    assert set(BUILTIN) == {
        "siem-forwarder", "dashboard", "log-shipper", "producer", "auditor", "on-call", "key-admin",
    }  # fmt: skip
    assert all(role.builtin and role.description for role in BUILTIN.values())


def test_a_dashboard_sees_a_day_and_no_payload() -> None:
    decision = decide_grants(BUILTIN["dashboard"].grants, "stream")
    assert isinstance(decision, Allowed)
    [limits] = decision.view.rules
    assert limits.masks.drop == ("data",)
    assert limits.lookback == 86400


def test_a_role_is_a_description_and_grants() -> None:
    role = parse_role("pay-team", {"description": "d", "grants": [GRANT]})
    assert to_builtins(role.public()) == {
        "name": "pay-team", "description": "d", "builtin": False,
        "grants": ({"actions": ("stream",), "categories": ("auth.*",)},),
    }  # fmt: skip
    assert parse_role("x", {"grants": []}) == Role(name="x")


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"grants": GRANT}, {"grants": [{}]}, {"grants": [GRANT], "name": "x"},
     {"grants": [GRANT], "description": 7}, {"grants": [GRANT], "description": "x" * 1025},
     {"grants": [GRANT] * 65}, {"grants": [GRANT], "builtin": True}],
)  # fmt: skip
def test_a_malformed_role_is_refused(body: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_role("x", body)


@pytest.mark.parametrize("name", ["", "X", "a b", "9x", "-x", "a/b", "ä", "a" * 65, "a\n"])
def test_a_role_has_a_plain_name(name: str) -> None:
    with pytest.raises(InvalidRequest, match="not a role name"):
        parse_role(name, {"grants": []})
    with pytest.raises(InvalidRequest, match="not a role name"):
        parse_role_names([name])


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_predefined_role_is_not_replaced(name: str) -> None:
    with pytest.raises(InvalidRequest, match="predefined"):
        parse_role(name, {"grants": []})


def test_the_roles_of_a_key_are_names_each_once_and_not_many() -> None:
    assert parse_role_names(["b", "a", "b"]) == ("b", "a")
    assert parse_role_names([]) == ()
    for raw in ("auditor", None, [7], [["a"]], ["a"] * (MAX_ROLES_OF_KEY + 1)):
        with pytest.raises(InvalidRequest):
            parse_role_names(raw)
