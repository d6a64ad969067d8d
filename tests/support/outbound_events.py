"""Events on their way out to destinations, made from members."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.delivery.outlets.outlet import OutboundEvent
from gateway.ingest.decode import decode_event
from tests.support.stored_events import RECORDED_AT, stored


def outbound_event(
    offset: int = 1, *, recorded_at: str = RECORDED_AT, **members: Any
) -> OutboundEvent:
    """Event at an offset with these members beside a category and an action."""
    whole = {"id": f"e-{offset}", "category": "auth", "action": "user.login", **members}

    def draft(**_: Any) -> Any:
        return decode_event(orjson.dumps(whole), iter(()))

    return OutboundEvent(stored(draft, offset, recorded_at=recorded_at).json)
