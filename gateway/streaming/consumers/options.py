"""Options of a consumer, and how each transport can acknowledge. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.errors import InvalidRequest

EXPLICIT, PONG, NEXT = "explicit", "pong", "next"
AckMode = Literal["explicit", "pong", "next"]
ACK_MODES = (EXPLICIT, PONG, NEXT)
PAGE = "page"
# By transport, the usual one first.
_MODES: dict[str, tuple[str, ...]] = {
    "websocket": (PONG, EXPLICIT),
    PAGE: (EXPLICIT, NEXT),
}
_ENCODE = msgspec.json.Encoder().encode


class ConsumerOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Options of a consumer. Times are seconds."""

    # Time that a peer may take to store what its library has read, in the mode `pong`.
    ack_delay: float = 5.0
    # Time without an acknowledgement, while something is out, after which a stream ends.
    ack_timeout: float = 60.0
    # Number of events that may be out unacknowledged.
    max_unacked: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000


def read_options(text: str) -> ConsumerOptions:
    return msgspec.json.decode(text or "{}", type=ConsumerOptions)


def options_text(options: ConsumerOptions) -> str:
    return _ENCODE(options).decode()


def ack_mode(transport: str, asked: str | None, stored: str, *, direct: bool = True) -> str:
    """How a reader of a transport acknowledges: as it asked, else as the consumer was told, else as
    is usual. Raises `InvalidRequest` if the transport cannot. `direct`: no proxy is known between.
    """
    modes = _MODES.get(transport, (EXPLICIT,))
    if not direct:
        modes = tuple(mode for mode in modes if mode != NEXT)
    mode = asked or stored or modes[0]
    if mode not in modes:
        reason = (
            "behind a proxy a next page may be another client's first"
            if mode == NEXT and transport == PAGE
            else f"a {transport} stream has no such acknowledgement"
        )
        raise InvalidRequest(
            f"ack={mode}: {reason}; use {' or '.join(modes)}",
            code="ack_mode_unavailable",
            parameter="ack",
            modes=list(modes),
        )
    return mode
