"""Destinations of the type `syslog`: messages of RFC 5424 over TLS (RFC 5425) or TCP (RFC 6587).

The protocol has no acknowledgement. Events count as sent once the peer's system has acknowledged
their bytes and some seconds have passed in which its program could read them; when the connection
breaks before that, they are sent again. A receiver that dies with more than that unread loses them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from gateway.clock import parse_duration
from gateway.delivery.connect.byte_stream import ByteStream
from gateway.delivery.connect.transport import NoAnswer
from gateway.delivery.outlets.http_status import verdict_of_failure
from gateway.delivery.outlets.outlet import (
    SUCCESS,
    Confirmation,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutletLimits,
)
from gateway.delivery.outlets.outlet_plan import (
    EventFormat,
    OutletKind,
    OutletPlan,
    invalid_setting,
)
from gateway.errors import InvalidRequest

# Of RFC 5425; also taken for TCP.
PORT = 6514
# What receivers must take, and more than any takes.
_LEAST, _MOST = 2048, 1 << 20
_LONGEST_DELAY = 60
# Of each batch nothing is kept but counts, so there may be a million events in `confirm_delay`.
_UNCONFIRMED = 1000
# Seconds between two looks at what is acknowledged, and then at whether the connection holds.
_LOOK_SECONDS = 0.1
_WATCH_SECONDS = 0.5


class SyslogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where messages are sent to, by `tls://` or `tcp://`, and how they are told apart: by their
    length, or by line breaks for old receivers. A longer message than `max_message_bytes` is
    reduced. `confirm_delay` is how long the receiver's program may take to read what its system
    has acknowledged."""

    url: str
    framing: Literal["octets", "newline"] = "octets"
    max_message_bytes: int = 8192
    confirm_delay: str = "5s"


def check(settings: SyslogSettings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that do not go together."""
    if format.name != "rfc5424":
        raise invalid_setting("url", f'this type sends "format":"rfc5424", not {format.name}')
    if not _LEAST <= settings.max_message_bytes <= _MOST:
        raise invalid_setting("max_message_bytes", f"{_LEAST} to {_MOST}")
    try:
        seconds = parse_duration(settings.confirm_delay)
    except InvalidRequest as error:
        raise invalid_setting("confirm_delay", error.detail) from None
    if seconds > _LONGEST_DELAY:
        raise invalid_setting("confirm_delay", f"at most {_LONGEST_DELAY}s")


def framed_by_length(message: bytes) -> bytes:
    """Message behind its length (RFC 6587, 3.4.1)."""
    return b"%d %b" % (len(message), message)


def framed_by_newline(message: bytes) -> bytes:
    """Message on one line (RFC 6587, 3.4.2)."""
    return message.replace(b"\n", b" ") + b"\n"


_FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "octets": framed_by_length,
    "newline": framed_by_newline,
}


class _Receipt(NamedTuple):
    """Batch that was sent: over which connection, up to which of its bytes, and when."""

    stream: ByteStream
    end: int
    sent_at: float


class SyslogOutlet:
    """Outlet of the type `syslog`."""

    confirmation: Confirmation = "sent"
    verbatim = False

    def __init__(self, plan: OutletPlan) -> None:
        self._plan, self._dialer = plan, plan.stream_dialer()
        settings: SyslogSettings = plan.settings
        self._url, self._frame = settings.url, _FRAMINGS[settings.framing]
        self._delay = float(parse_duration(settings.confirm_delay))
        self.limits = OutletLimits(
            1000, 1 << 20, settings.max_message_bytes, unconfirmed=_UNCONFIRMED
        )
        # None before the first batch, and after a failure.
        self.stream: ByteStream | None = None
        # Bytes of the connection up to which all is confirmed.
        self._confirmed = 0

    async def open(self) -> DeliveryVerdict:
        return SUCCESS

    def encode(self, outbound: OutboundEvent) -> bytes:
        return self._plan.formatted(outbound)

    def stage(self, batch: Sequence[EncodedEvent]) -> None:
        """Nothing takes long before it is sent."""

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        stream = self.stream
        if stream is not None and stream.lost:
            unconfirmed = stream.sent > self._confirmed
            self._drop()
            if unconfirmed:
                # What is not confirmed goes first.
                return _disconnected()
            stream = None
        try:
            if stream is None:
                stream = self.stream = await self._dialer.open(self._url, PORT)
                self._confirmed = 0
            await stream.send(b"".join([self._frame(encoded.body) for encoded in batch]))
        except NoAnswer as failure:
            self._drop()
            return verdict_of_failure(failure)
        receipt = _Receipt(stream, stream.sent, self._plan.clock.monotonic())
        return DeliveryVerdict(DeliveryResult.SUCCESS, receipt=receipt)

    async def confirm(self, receipt: object) -> DeliveryVerdict:
        assert isinstance(receipt, _Receipt)
        return await self._confirm(receipt, self._delay)

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        verdict = await self.send([encoded])
        if isinstance(verdict.receipt, _Receipt):
            return await self._confirm(verdict.receipt, 0.0)
        return verdict

    async def close(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            await stream.close()

    async def _confirm(self, receipt: _Receipt, delay: float) -> DeliveryVerdict:
        stream, clock = receipt.stream, self._plan.clock
        due = receipt.sent_at + delay
        known, moved_at = -1, clock.monotonic()
        while stream is self.stream and not stream.lost:
            now = clock.monotonic()
            acknowledged = stream.acknowledged()
            if acknowledged >= receipt.end and now >= due:
                self._confirmed = receipt.end
                return SUCCESS
            if acknowledged > known:
                known, moved_at = acknowledged, now
            if acknowledged < receipt.end and now - moved_at >= stream.patience:
                self._drop()
                return DeliveryVerdict(
                    DeliveryResult.TRANSIENT, kind="timeout", message="the receiver takes nothing"
                )
            left = _LOOK_SECONDS if acknowledged < receipt.end else due - now
            await clock.sleep(min(left, _WATCH_SECONDS))
        if stream is self.stream:
            self._drop()
        return _disconnected()

    def _drop(self) -> None:
        if self.stream is not None:
            self.stream.abort()
            self.stream = None


def _disconnected() -> DeliveryVerdict:
    return DeliveryVerdict(
        DeliveryResult.TRANSIENT,
        kind="disconnected",
        message="the connection ended before what was sent over it was confirmed",
    )


SYSLOG = OutletKind(
    SyslogSettings,
    SyslogOutlet,
    check,
    schemes=("tls", "tcp"),
    format=lambda settings: "rfc5424",
)
