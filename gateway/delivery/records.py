"""Records of the gateway's own about destinations: category `gateway.delivery`. Pure."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from typing import Any

from gateway.access.keys.change import key_urn
from gateway.clock import format_time
from gateway.cursor import JSON_PREFIX, format_cursor
from gateway.delivery.destination import Destination
from gateway.delivery.health import DestinationError
from gateway.delivery.outlets.outlet import EncodedEvent, OutboundEvent, Outlet
from gateway.event import Draft
from gateway.ingest.gateway_event import DELIVERY, new_gateway_event
from gateway.log.ports import LogExtent

_TEST_MESSAGE = "a test of the gateway: this event is not in the log"


def destination_urn(name: str) -> str:
    """URN of a destination in the targets of records."""
    return f"destination:{name}"


def test_event(outlet: Outlet, log: LogExtent, now: float) -> EncodedEvent:
    """Event `destination.test`, which is not in the log, for an outlet."""
    draft = delivery_record("destination.test", None, {"message": _TEST_MESSAGE}, now)
    cursor = format_cursor(log.epoch, log.head).encode()
    stored = draft.stored(format_time(now).encode())
    json = b'%b%b",%b' % (JSON_PREFIX, cursor, stored)
    return EncodedEvent(json, outlet.encode(OutboundEvent(json)))


def delivery_record(
    action: str,
    destination: Destination | None,
    data: Mapping[str, Any],
    at: float,
    severity: int = 1,
) -> Draft:
    """Draft of a record about a destination; about none, of the event that tests one."""
    if destination is None:
        return new_gateway_event(
            id=f"test-{uuid.uuid4()}", category=DELIVERY, action=action, at=at, by="gateway",
            data=data,
        )  # fmt: skip
    return new_gateway_event(
        id=f"{action}-{secrets.token_hex(8)}", category=DELIVERY, action=action, at=at,
        severity=severity, by="gateway",
        about=[destination_urn(destination.name), key_urn(destination.definition.key)],
        data={"destination": destination.name, **data},
    )  # fmt: skip


def down_record(destination: Destination, since: float, error: DestinationError | None) -> Draft:
    """Record that nothing was delivered to a destination since a time (seconds since 1970)."""
    why = {} if error is None else {"kind": error.kind, "status": error.status}
    return _outage("down", destination, since, since, why)


def resolved_record(destination: Destination, since: float, now: float) -> Draft:
    """Record that a destination, which was down since a time, is delivered to again."""
    return _outage("resolved", destination, since, now, {})


def _outage(
    what: str, destination: Destination, since: float, at: float, data: Mapping[str, Any]
) -> Draft:
    # The id follows from the outage, whichever process writes it; both ends of it have one
    # severity, so that whoever selects the one gets the other.
    name = destination.name
    return new_gateway_event(
        id=f"destination-{what}-{name}-{int(since * 1000)}", category=DELIVERY,
        action=f"destination.{what}", at=at,
        outcome="failure" if what == "down" else "success", severity=3, by="gateway",
        about=[destination_urn(name), key_urn(destination.definition.key)],
        data={"destination": name, "since": format_time(since), **data},
    )  # fmt: skip
