"""Classes of OCSF 1.8.0 that events of the log fall into, and their activities."""

from __future__ import annotations

import msgspec

from gateway.formats.action_words import (
    CREATE,
    DELETE,
    LOGOFF,
    LOGON,
    READ,
    UPDATE,
    about_authentication,
    about_identities,
    by_action,
)
from gateway.formats.shown_event import ShownEvent

OTHER = 99
FINDINGS = "gateway.anomaly"


class OcsfClass(msgspec.Struct, frozen=True):
    """Class of events. `actor`: whether it has the members `actor`, `src_endpoint` and
    `http_request`; `resources`: whether it has those. `otherwise` is the activity of actions that
    are not among its `activities`."""

    uid: int
    category: int
    activities: dict[str, int]
    actor: bool = True
    resources: bool = False
    otherwise: int = OTHER

    def activity(self, action: str) -> int:
        found = by_action(action, self.activities)
        return self.otherwise if found is None else found


def _activities(**words: tuple[str, ...]) -> dict[str, int]:
    """Activities by words of actions; a name ends with the number."""
    return {word: int(name[1:]) for name, these in words.items() for word in these}


BASE_EVENT = OcsfClass(0, 0, {}, actor=False)
# The record of a finding is its beginning.
DETECTION_FINDING = OcsfClass(2004, 2, {}, actor=False, resources=True, otherwise=1)
ACCOUNT_CHANGE = OcsfClass(
    3001, 3,
    _activities(
        _1=("create",), _2=("enable",), _3=("password.change",), _4=("password.reset",),
        _5=("disable",), _6=("delete",), _7=("attach", "grant"), _8=("detach", "revoke"),
        _9=("lock",), _10=("mfa.enable",), _11=("mfa.disable",), _12=("unlock",),
    ),
)  # fmt: skip
AUTHENTICATION = OcsfClass(3002, 3, _activities(_1=LOGON, _2=LOGOFF))
GROUP_MANAGEMENT = OcsfClass(
    3006, 3,
    _activities(
        _1=("attach", "grant"), _2=("detach", "revoke"), _3=("add",), _4=("remove",),
        _5=("delete",), _6=("create",),
    ),
)  # fmt: skip
API_ACTIVITY = OcsfClass(
    6003, 6, _activities(_1=CREATE, _2=READ, _3=UPDATE, _4=DELETE), resources=True
)
CLASSES = (
    BASE_EVENT, DETECTION_FINDING, ACCOUNT_CHANGE, AUTHENTICATION, GROUP_MANAGEMENT, API_ACTIVITY,
)  # fmt: skip


def ocsf_class(event: ShownEvent) -> OcsfClass:
    """The class of an event."""
    category = event.category
    if about_authentication(category):
        return AUTHENTICATION
    if about_identities(category):
        if event.target("user"):
            return ACCOUNT_CHANGE
        if event.target("group"):
            return GROUP_MANAGEMENT
    if category == FINDINGS:
        return DETECTION_FINDING
    return BASE_EVENT if event.actor is None else API_ACTIVITY
