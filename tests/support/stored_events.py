"""Events as they stand in a log, made from members without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.event import Draft, Event

MakeDraft = Callable[..., Draft]
RECORDED_AT = "2026-01-31T12:00:00.000000Z"


def stored(
    draft: MakeDraft, offset: int = 1, *, recorded_at: str = RECORDED_AT, **members: Any
) -> Event:
    """The event that a draft becomes at an offset."""
    made = draft(**members)
    cursor = b"k3f9xq7m2p-%020d" % offset
    json = b'{"cursor":"%b",%b' % (cursor, made.stored(recorded_at.encode()))
    return Event(
        offset, made.tenant, made.category, made.action, made.outcome, made.severity, made.actor,
        made.resources, cursor, json,
    )  # fmt: skip


def with_json(event: Event, json: bytes) -> Event:
    """The same event with other bytes."""
    return Event(*(getattr(event, name) for name in Event.__struct_fields__[:-1]), json)
