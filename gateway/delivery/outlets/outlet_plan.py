"""What an outlet is made from, and what a type of destination declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from gateway.clock import Clock
from gateway.delivery.connect.byte_stream import Dialer
from gateway.delivery.connect.transport import HttpTransport
from gateway.delivery.outlets.outlet import OutboundEvent, Outlet, Secrets
from gateway.errors import InvalidRequest


class EventFormat(Protocol):
    """Format in which events go out. `json`: whether each is a JSON object."""

    @property
    def name(self) -> str: ...

    @property
    def json(self) -> bool: ...

    @property
    def encode(self) -> Callable[[bytes], bytes]:
        """From the native JSON of an event to one line without its end."""


class NativeFormat(NamedTuple):
    """Events as the gateway has them."""

    name: str = "native"
    json: bool = True
    encode: Callable[[bytes], bytes] = bytes


NATIVE: EventFormat = NativeFormat()


class OutletPlan(NamedTuple):
    """What an outlet is made from. `settings` are those that its type declares, checked.

    `transport` has the connections of types that speak HTTP, `dialer` opens those of types that
    only send bytes, and `folder` is below which files may be written. `replay`: it sends again,
    beside the one that delivers, what the receiver may have already; so it neither asks it what it
    has nor skips anything.
    """

    name: str
    settings: Any
    secrets: Secrets
    clock: Clock
    format: EventFormat = NATIVE
    compress: bool = True
    transport: HttpTransport | None = None
    folder: Path | None = None
    replay: bool = False
    dialer: Dialer | None = None

    def stream_dialer(self) -> Dialer:
        assert self.dialer is not None, "a type that only sends bytes gets a dialer"
        return self.dialer

    def http(self) -> HttpTransport:
        assert self.transport is not None, "a type that speaks HTTP gets a transport"
        return self.transport

    @property
    def verbatim(self) -> bool:
        """Whether `formatted` returns native JSON as it is."""
        return self.format.name == NATIVE.name

    def formatted(self, outbound: OutboundEvent) -> bytes:
        """The event in the format of the destination, on one line without its end."""
        return self.format.encode(outbound.json)


class OutletKind(NamedTuple):
    """Declaration of a type of destination.

    `settings` is the type of its settings, whose member `url`, if it has one, is where it connects
    to, by one of the `schemes`. `check` raises `InvalidRequest` for settings and a format that do
    not go together; `format` is the name of that which is taken where none is given.
    """

    settings: type[msgspec.Struct]
    make: Callable[[OutletPlan], Outlet]
    check: Callable[[Any, EventFormat], None]
    secrets: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ("https", "http")
    format: Callable[[Any], str] = lambda settings: "native"
    # Whether cookies of the receiver are sent back to it.
    cookies: bool = False


def invalid_setting(name: str, reason: str) -> InvalidRequest:
    """Error for a member of `settings`."""
    path = f"settings.{name}"
    return InvalidRequest(f"{path}: {reason}", code="invalid_destination", path=path)
