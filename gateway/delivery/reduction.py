"""Reduction of events that are too large for a receiver: members leave one after the other, whole.

No value is ever cut. What has left is named in the event: `"reduced":["data"]`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.delivery.outlets.outlet import EncodedEvent, OutboundEvent, Outlet

# What leaves, in this order. Of `targets` the first stays.
REDUCIBLE = ("data", "targets", "reason", "source.user_agent")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def encode_within_limits(outlet: Outlet, outbound: OutboundEvent) -> EncodedEvent | None:
    """The event, encoded, and reduced as far as it has to be; None if it never fits."""
    most = outlet.limits.max_event_bytes
    body = outlet.encode(outbound)
    steps = 0
    while len(body) > most:
        if steps == len(REDUCIBLE):
            return None
        steps += 1
        smaller = reduce(outbound, REDUCIBLE[:steps])
        if smaller is not outbound:
            outbound, body = smaller, outlet.encode(smaller)
    return EncodedEvent(outbound.json, body, outbound.reduced)


def reduce(outbound: OutboundEvent, leaving: tuple[str, ...] = REDUCIBLE) -> OutboundEvent:
    """The event without these members; itself if it has none of them."""
    members: dict[str, Any] = _members(outbound.json)
    left = [name for name in leaving if _leave(members, name)]
    if not left:
        return outbound
    reduced = tuple(name for name in REDUCIBLE if name in left or name in outbound.reduced)
    members["reduced"] = reduced
    return OutboundEvent(_encode(members), reduced)


def _leave(members: dict[str, Any], name: str) -> bool:
    """Remove what leaves by that name; whether there was any."""
    root, _, inner = name.partition(".")
    value = members.get(root)
    if value is None:
        return False
    if inner:
        content = _members(value)
        if content.pop(inner, None) is None:
            return False
        members[root] = content
    elif root == "targets":
        targets = _items(value)
        if len(targets) < 2:
            return False
        members[root] = targets[:1]
    else:
        del members[root]
    return True
