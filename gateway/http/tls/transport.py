"""TLS of one connection: a transport for protocols, and the protocol of the TCP connection below.

asyncio's own TLS keeps 256 KiB for each connection, counts what waits for the socket only in part,
and ends a connection whose peer has closed its sending side. This one keeps nothing but what is
not decrypted yet, and its limits, pauses and ends are those of the TCP connection: a stream or a
request behaves as it does without TLS.

A record may be as small as 27 bytes and have new keys derived for both sides (RFC 8446, section
4.6.3), which any peer may send without a key of the gateway. So records are taken a few at a time,
and a peer that has much to be answered and reads nothing of it is cut off.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

from gateway.http.tls.handshakes import Handshakes

# Largest piece of plain text in one record (RFC 8446, section 5.1), so that the buffer of OpenSSL,
# which never shrinks, stays small.
_RECORD_BYTES = 16 << 10
# What records add to the plain text that is read from the socket at once.
_FRAMING_BYTES = 1 << 10
# Records that are taken at a time: about a millisecond of work at most.
_RECORDS_AT_ONCE = 16
# Type, version and length of a record.
_HEADER_BYTES = 5
# Answers of the protocol itself that may wait for a peer that reads nothing.
_MOST_ANSWERS = 4 << 10
# Answer to a client that speaks plain HTTP.
_NOT_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
    b"Connection: close\r\n\r\n"
    b'{"type":"about:blank","title":"Invalid request","status":400,"code":"tls_required",'
    b'"detail":"this port speaks HTTPS: send the request to https://"}\n'
)
_LOGGER = logging.getLogger(__name__)


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """Encrypted transport of a protocol, which is told of the connection after the handshake."""

    __slots__ = (
        "_answers", "_closing", "_context", "_ended", "_established", "_handshakes", "_held",
        "_incoming", "_left", "_max_size", "_outgoing", "_paused", "_protocol", "_tcp", "_tls",
        "_turn",
    )  # fmt: skip

    _tcp: asyncio.Transport

    def __init__(
        self, protocol: asyncio.Protocol, context: ssl.SSLContext, handshakes: Handshakes
    ) -> None:
        super().__init__()
        self._protocol = protocol
        self._context = context
        self._handshakes = handshakes
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._established = False
        # What OpenSSL has not got yet, and how much is left of the record that it has a part of.
        self._held = b""
        self._left = 0
        # Whether the next records wait for a turn.
        self._turn = False
        # Bytes of answers since the peer last read all that it was sent.
        self._answers = 0
        self._max_size = 64 << 10
        self._paused = False
        # The peer sends nothing more; nothing more is written.
        self._ended = self._closing = False

    # asyncio.Protocol: the TCP connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._tcp = transport
        peer = transport.get_extra_info("peername")
        self._handshakes.begin(self, str(peer[0]) if isinstance(peer, tuple) and peer else "")

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        self._held = self._held + data if self._held else data
        if self._established:
            more = self._feed()
            self._read()
            if more:
                self._take_turn()
        else:
            self._tcp.pause_reading()
            self._handshakes.schedule(self._shake)

    def eof_received(self) -> bool:
        return self._established and self._end()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._handshakes.end(self)
        self._closing = self._ended = True
        if self._established:
            self._protocol.connection_lost(exc)  # type: ignore[arg-type]

    def pause_writing(self) -> None:
        if self._established:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._established:
            self._protocol.resume_writing()

    def _shake(self) -> None:
        """Take the next step of the handshake, in a turn of this connection."""
        if self._tcp.is_closing():
            return
        more = self._feed()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            if more:
                self._handshakes.schedule(self._shake)
            else:
                self._tcp.resume_reading()
            return
        except (ssl.SSLError, OSError) as error:
            if getattr(error, "reason", None) == "HTTP_REQUEST":
                self._tcp.write(_NOT_TLS)
                self._outgoing.read()
            self._fail(error)
            return
        self._handshakes.end(self)
        self._established = True
        self._flush()
        self._protocol.connection_made(self)
        self._go_on()

    def _feed(self) -> bool:
        """Give OpenSSL the next records; whether more of them are here."""
        held, at, records = self._held, self._left, 0
        size = len(held)
        while at + _HEADER_BYTES <= size and records < _RECORDS_AT_ONCE:
            at += _HEADER_BYTES + (held[at + 3] << 8) + held[at + 4]
            records += 1
        # The part of a header says nothing yet.
        cut = min(at, size)
        self._left = at - cut
        self._held = held[cut:] if cut < size else b""
        self._incoming.write(held if cut == size else held[:cut])
        return len(self._held) >= _HEADER_BYTES

    def _take_turn(self) -> None:
        """Take the next records when others had their turn, and receive no more before."""
        self._tcp.pause_reading()
        if not self._turn:
            self._turn = True
            self._handshakes.schedule(self._in_turn)

    def _in_turn(self) -> None:
        self._turn = False
        self._go_on()

    def _read(self) -> None:
        """Give the protocol what can be decrypted, as long as it takes it."""
        more = True
        while more and not self._paused and not self._ended:
            parts, size, failure = [], 0, None
            try:
                while size < self._max_size and (part := self._tls.read(self._max_size - size)):
                    parts.append(part)
                    size += len(part)
                ended = size < self._max_size
            except ssl.SSLWantReadError:
                more = ended = False
            except ssl.SSLZeroReturnError:
                ended = True
            except (ssl.SSLError, OSError) as error:
                failure, ended = error, False
            if parts:
                self._protocol.data_received(b"".join(parts))
            if failure is not None:
                self._fail(failure)
                return
            # As of TCP, the end is not told while reading is paused.
            if ended and not self._paused:
                self._end()
                return
        self._answer()

    def _answer(self) -> None:
        """Send answers of the protocol itself, such as an update of keys."""
        pending = self._outgoing.pending
        if pending:
            waiting = self._tcp.get_write_buffer_size() > 0
            self._answers = self._answers + pending if waiting else 0
            if self._answers > _MOST_ANSWERS:
                _LOGGER.debug("a TLS peer has much to be answered and reads nothing: it is cut off")
                self._tcp.abort()
            else:
                self._flush()

    def _end(self) -> bool:
        """Tell the protocol that the peer sends nothing more; whether the connection stays open."""
        if not self._ended:
            self._ended = True
            if not self._protocol.eof_received():
                self.close()
        return not self._closing

    def _fail(self, error: Exception) -> None:
        """Send the alert of a failure, and close."""
        _LOGGER.debug("a TLS connection has failed: %s", type(error).__name__)
        self._closing = self._ended = True
        self._flush()
        self._tcp.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._tcp.is_closing():
            self._tcp.write(self._outgoing.read())

    def _go_on(self) -> None:
        """Read on, first what was received before."""
        more = False
        if not self._paused and not self._tcp.is_closing():
            try:
                more = self._feed()
                self._read()
            except BaseException:
                # As where the socket calls a protocol that fails.
                self._tcp.abort()
                raise
        if not self._paused and not self._tcp.is_closing():
            if more:
                self._take_turn()
            else:
                self._tcp.resume_reading()

    # asyncio.Transport: what protocols use

    @property
    def max_size(self) -> int:
        """Most bytes that the protocol gets at once."""
        return self._max_size

    @max_size.setter
    def max_size(self, size: int) -> None:
        self._max_size = size
        if hasattr(self._tcp, "max_size"):
            self._tcp.max_size = size + _FRAMING_BYTES

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._tcp.is_closing():
            return
        view = memoryview(data)
        try:
            if len(view) <= _RECORD_BYTES:
                self._tls.write(view)
                self._flush()
                return
            records = []
            while len(view):
                view = view[self._tls.write(view[:_RECORD_BYTES]) :]
                records.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._tcp.write(b"".join(records))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Close the sending side alone."""
        if not self._closing:
            self._closing = True
            self._notify_close()
            self._tcp.write_eof()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._notify_close()
        self._tcp.close()

    def _notify_close(self) -> None:
        """Send close_notify; that of the peer is not waited for (RFC 8446, section 6.1)."""
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass
        self._flush()

    def abort(self) -> None:
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self._closing or self._tcp.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            asyncio.get_running_loop().call_soon(self._go_on)

    def is_reading(self) -> bool:
        return not self._paused and self._tcp.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._tcp.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        own: dict[str, Callable[[], Any]] = {
            "sslcontext": lambda: self._context,
            "ssl_object": lambda: self._tls,
            "peercert": self._tls.getpeercert,
            "cipher": self._tls.cipher,
        }
        return own[name]() if name in own else self._tcp.get_extra_info(name, default)
