"""Selection of a consumer: what it reads, stored with its position. Pure.

A reader that came back with another filter would skip, in silence, what the former one left out
behind the position, so another selection has to be asked for.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from gateway.errors import Conflict
from gateway.filters.expression import Filter
from gateway.filters.scope import Scope

_SELECTORS = ("tenant", "category", "action", "outcome", "actor", "resource", "min_severity")
_NOTHING = Scope()
# That of a consumer which was made without one: its first reader chooses.
UNCHOSEN = ""


def selection_text(wanted: Scope, chosen: Filter | None) -> str:
    """Selection of a query as it is stored: equal ones have equal texts."""
    members: dict[str, Any] = {
        name: value
        for name in _SELECTORS
        if (value := getattr(wanted, name)) != getattr(_NOTHING, name)
    }
    if chosen is not None:
        members["filter"] = chosen.canonical
    return orjson.dumps(members).decode()


def selection_members(text: str) -> dict[str, Any] | None:
    """Members of a stored selection; None if nobody has chosen it."""
    if text == UNCHOSEN:
        return None
    members: dict[str, Any] = msgspec.json.decode(text)
    return members


def refuse_difference(stored: str, wanted: str) -> None:
    """Raise `Conflict`, naming the difference, if the selections are not the same."""
    if stored in (UNCHOSEN, wanted):
        return
    before, now = selection_members(stored) or {}, selection_members(wanted) or {}
    differing = {
        name: {"stored": before.get(name), "sent": now.get(name)}
        for name in (*_SELECTORS, "filter")
        if before.get(name) != now.get(name)
    }
    raise Conflict(
        f"this consumer was made with another selection ({', '.join(differing)} differ): with "
        "this one, events behind its position would be missing that the other left out; send what "
        "it was made with, or selection=update",
        code="consumer_selection_changed",
        difference=differing,
    )
