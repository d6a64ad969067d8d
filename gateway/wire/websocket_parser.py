"""Parser of the frames of WebSocket clients (RFC 6455), without I/O.

    bytes in -> feed() -> [(opcode, payload)] for TEXT, BINARY, PING, PONG, CLOSE

Each violation raises `ProtocolFailure` with its close code. A quiet connection holds no buffer.
"""

from __future__ import annotations

from gateway.wire.websocket_writer import BINARY, CLOSE, PING, PONG, TEXT

CONTINUATION = 0x0
MAX_MESSAGE = 64 * 1024
PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009
# Codes valid in a close frame (RFC 6455, section 7.4).
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class ProtocolFailure(Exception):
    """Violation of RFC 6455 by the client; `code` is the close code to answer with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class ClientFrames:
    """Reassembles a client's messages. Control frames may come between fragments."""

    __slots__ = ("_buffer", "_closed", "_fragments", "_opcode")

    def __init__(self) -> None:
        self._buffer = b""
        self._closed = False
        self._fragments: bytearray | None = None
        self._opcode = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take received bytes; return the messages that they complete. CLOSE is the last one."""
        data = self._buffer + data if self._buffer else data
        messages: list[tuple[int, bytes]] = []
        at = 0
        while not self._closed:
            parsed = _parse(data, at)
            if parsed is None:
                break
            final, opcode, payload, at = parsed
            message = self._take(final, opcode, payload)
            if message is not None:
                messages.append(message)
        self._buffer = b"" if self._closed else data[at:]
        return messages

    def _take(self, final: bool, opcode: int, payload: bytes) -> tuple[int, bytes] | None:
        if opcode >= CLOSE:
            if opcode == CLOSE:
                _check_close(payload)
                # RFC 6455, section 1.4: data after a close frame is discarded.
                self._closed = True
            return opcode, payload
        if opcode == CONTINUATION:
            if self._fragments is None:
                raise ProtocolFailure(PROTOCOL_ERROR, "a continuation of nothing")
        elif self._fragments is not None:
            raise ProtocolFailure(PROTOCOL_ERROR, "a new message before the last one ended")
        else:
            self._fragments = bytearray()
            self._opcode = opcode
        self._fragments += payload
        if len(self._fragments) > MAX_MESSAGE:
            raise ProtocolFailure(TOO_BIG, f"messages have at most {MAX_MESSAGE} bytes")
        if not final:
            return None
        whole, self._fragments = bytes(self._fragments), None
        if self._opcode == TEXT:
            _check_utf8(whole)
        return self._opcode, whole


def _parse(data: bytes, at: int) -> tuple[bool, int, bytes, int] | None:
    """One frame of section 5.2 beginning at `at`: `(final, opcode, payload, next)`."""
    if len(data) < at + 2:
        return None
    first, second = data[at], data[at + 1]
    opcode = first & 0x0F
    final = bool(first & 0x80)
    if first & 0x70:
        raise ProtocolFailure(PROTOCOL_ERROR, "reserved bits without an extension")
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise ProtocolFailure(PROTOCOL_ERROR, f"unknown opcode {opcode}")
    if not second & 0x80:
        raise ProtocolFailure(PROTOCOL_ERROR, "clients mask their frames")
    size = second & 0x7F
    if opcode >= CLOSE and (size > 125 or not final):
        raise ProtocolFailure(PROTOCOL_ERROR, "control frames are short and whole")
    head = at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) < head + width:
            return None
        size = int.from_bytes(data[head : head + width], "big")
        head += width
    if size > MAX_MESSAGE:
        raise ProtocolFailure(TOO_BIG, f"messages have at most {MAX_MESSAGE} bytes")
    end = head + 4 + size
    if len(data) < end:
        return None
    return final, opcode, _unmask(data[head : head + 4], data[head + 4 : end]), end


def _unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    if not size:
        return b""
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 0
    if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
        raise ProtocolFailure(PROTOCOL_ERROR, "not a close code that may be sent")
    _check_utf8(payload[2:])


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise ProtocolFailure(INVALID_TEXT, "text that is not UTF-8") from None
