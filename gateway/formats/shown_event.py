"""Members of a masked event, as formats look at them.

A masked value is no value: it fills no slot of another format, as `"***"` is neither an address nor
a name. Which members are masked stays declared under `masked`. A pseudonym fills slots for text,
but not those of another type.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.clock import parse_formatted

MASKED = "***"
# Longest address that slots for addresses take.
_LONGEST_IP = 40


class ShownActor(msgspec.Struct, gc=False):
    type: str = ""
    id: str = ""
    name: str = ""
    key_id: str = ""


class ShownSource(msgspec.Struct, gc=False):
    service: str = ""
    ip: str = ""
    port: int | str = ""
    user_agent: str = ""

    def address(self) -> str:
        """The IP address; "" if it is none."""
        return valid_ip(self.ip)

    def port_number(self) -> int | None:
        return self.port if isinstance(self.port, int) else None

    def typed(self) -> bool:
        """Whether address and port, if there are any, are of their types."""
        return self.ip == self.address() and (self.port == "" or isinstance(self.port, int))


class ShownTarget(msgspec.Struct, gc=False, omit_defaults=True):
    urn: str = ""
    type: str = ""
    id: str = ""
    name: str = ""

    def is_a(self, kind: str) -> bool:
        """Whether it is of a type, by its own word or else by its urn."""
        return self.type == kind if self.type else self.urn.startswith(f"{kind}:")


class ShownRequest(msgspec.Struct, gc=False):
    id: str = ""
    trace_id: str = ""


class ShownEvent(msgspec.Struct):
    """Decoded event. A text is "" where the member is absent, empty or masked."""

    cursor: str
    recorded_at: str
    id: str
    time: str
    tenant: str
    category: str
    action: str
    outcome: str
    severity: int
    actor: ShownActor | None = None
    source: ShownSource = msgspec.field(default_factory=ShownSource)
    targets: list[ShownTarget] = []
    request: ShownRequest = msgspec.field(default_factory=ShownRequest)
    reason: str = ""
    data: msgspec.Raw | UnsetType = UNSET
    masked: list[str] = []
    pseudonymized: list[str] = []
    # Members that a delivery has left out for their size.
    reduced: list[str] = []

    def target(self, kind: str) -> ShownTarget | None:
        """The first target of a type."""
        return next((target for target in self.targets if target.is_a(kind)), None)

    def first_urn(self) -> str:
        """Urn of the first target."""
        return self.targets[0].urn if self.targets else ""


_DECODE = msgspec.json.Decoder(ShownEvent).decode


def shown_event(native: bytes) -> ShownEvent:
    """The event of native JSON."""
    event = _DECODE(native)
    if event.masked:
        if event.reason == MASKED:
            event.reason = ""
        for part in (event.actor, event.source, event.request, *event.targets):
            if part is not None:
                _clear_masked(part)
    return event


def _clear_masked(part: msgspec.Struct) -> None:
    for name in part.__struct_fields__:
        if getattr(part, name) == MASKED:
            setattr(part, name, "")


def milliseconds(time: str) -> int:
    """Milliseconds since 1970 of a time in native JSON."""
    return parse_formatted(time.encode()) // 1000


@lru_cache(4096)
def valid_ip(text: str) -> str:
    """The address as every slot for addresses takes it; "" if the text is none."""
    if "%" in text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    return text if len(text) <= _LONGEST_IP else address.compressed


def filled(**members: Any) -> dict[str, Any]:
    """The members that have a value."""
    return {name: value for name, value in members.items() if value or value == 0}
