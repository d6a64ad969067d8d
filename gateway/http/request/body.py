"""Reading of request bodies: bounded in bytes, expansion and time."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import InvalidRequest, PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from gateway.http.request.admission import Admission, recheck
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.in_flight import Holding
from gateway.json_members import AnyBody, parse_body, refuse_repeated
from gateway.scheduling.loop_work import Slices

NDJSON_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_JSON_BYTES = 64 * 1024
_JSON_SECONDS = 10.0
_SLICE = 16 * 1024
_INFLATED = 64 * 1024
# Bytes inflated on the event loop, and by a thread in one turn.
_INFLATED_AT_ONCE = 64 * 1024
_INFLATED_BY_THREAD = 1024 * 1024
_MOST_MEMBERS = 10_000


async def read_sent(
    request: web.Request, context: Context, admission: Admission, *, most: int | None = None
) -> bytes:
    """Whole body of a request that sends events, within the limits of ingest or `most` bytes."""
    settings = context.settings
    return await read_body(
        request,
        most=settings.ingest.max_request_bytes if most is None else most,
        seconds=settings.server.body_timeout,
        holding=admission.holding(request),
    )


async def read_body(
    request: web.Request, *, most: int, seconds: float, holding: Holding | None = None
) -> bytes:
    """Whole body, decompressed; at most `most` bytes before and after that.

    Raises `PayloadTooLarge`, if possible before reading, `RequestTimeout` if it takes longer than
    `seconds`, and what `recheck` and `holding` raise.
    """
    encoding = ", ".join(request.headers.getall("Content-Encoding", ["identity"])).strip().lower()
    if encoding == "x-gzip":
        # Equivalent (RFC 9110, section 8.4.1.3).
        encoding = "gzip"
    if encoding not in ("identity", "gzip"):
        raise UnsupportedMediaType(
            f"Content-Encoding {encoding!r} is not supported; use gzip or none",
            code="unsupported_encoding",
        )
    if request.content_length is not None and request.content_length > most:
        raise _too_large(most)
    take = _nothing if holding is None else holding.take
    if request.content.is_eof():
        # It arrived with the head.
        whole = request.content.read_nowait()
        if len(whole) > most:
            raise _too_large(most)
        take(len(whole))
    else:
        whole = await _arriving(request, most, seconds, take)
    if encoding != "gzip":
        return whole
    slices = request.app[CONTEXT].intake.slices("" if holding is None else holding.key_id)
    return await _gunzip(whole, most, take, slices)


async def _arriving(
    request: web.Request, most: int, seconds: float, take: Callable[[int], None]
) -> bytes:
    """Body that is still arriving, as it was sent."""
    raw = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.content.iter_any():
                raw += piece
                if len(raw) > most:
                    raise _too_large(most)
                take(len(piece))
    except TimeoutError:
        raise RequestTimeout(
            f"the body did not arrive within {seconds:g} seconds; send it faster or in parts"
        ) from None
    # A request begun before its key was revoked must not finish long after.
    await recheck(request)
    return bytes(raw)


async def json_body(request: web.Request, types: tuple[str, ...] = ("application/json",)) -> Any:
    """Decoded JSON of a small request of one of these media types.

    A duplicate member is refused: one of the two would be silently ignored.
    """
    media_type(request, types)
    body = await read_body(request, most=_JSON_BYTES, seconds=_JSON_SECONDS)
    try:
        decoded = msgspec.json.decode(body)
        json.loads(body.decode(), object_pairs_hook=refuse_repeated)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="malformed_json") from None
    return decoded


async def optional_body(request: web.Request, kind: type[AnyBody]) -> AnyBody:
    """Optional body of a request, as declared by `kind`."""
    return parse_body(await json_body(request) if request.can_read_body else {}, kind)


def media_type(request: web.Request, allowed: tuple[str, ...]) -> str:
    """Media type of the body, if it is one of `allowed`; a charset must be UTF-8."""
    declared = request.headers.get("Content-Type")
    kind = request.content_type
    if declared is None or kind not in allowed:
        said = f"Content-Type {kind!r} is not supported here" if declared else "no Content-Type"
        raise UnsupportedMediaType(f"{said}; send a body of {' or '.join(allowed)}")
    charset = request.charset
    if charset is not None and charset.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"charset {charset!r} is not supported; use UTF-8")
    return kind


async def _gunzip(raw: bytes, most: int, take: Callable[[int], None], slices: Slices) -> bytes:
    """Inflate a body: a small one at once, the rest in parts on a thread, since inflating releases
    the interpreter and the event loop would wait to get it back."""
    inflating = _Inflating(raw, most)
    size = inflating.more(_INFLATED_AT_ONCE)
    take(size)
    while not inflating.whole:
        more = await slices.in_thread(partial(inflating.more, _INFLATED_BY_THREAD))
        take(more)
        size += more
    return inflating.plain


class _Inflating:
    """Inflater of consecutive gzip members (RFC 1952, section 2.2), up to a limit."""

    def __init__(self, raw: bytes, most: int) -> None:
        self.whole = False
        self.plain = b""
        self._pieces: list[bytes] = []
        self._rest = memoryview(raw)
        self._left = most
        self._most = most
        self._members = 0
        self._inflate = zlib.decompressobj(wbits=31)

    def more(self, wanted: int) -> int:
        """Inflate about `wanted` more bytes; return the size. Raises `PayloadTooLarge`."""
        size = 0
        try:
            while size < wanted and not self.whole:
                size += self._piece()
        except zlib.error as error:
            raise InvalidRequest(f"the body is not gzip: {error}", code="malformed_gzip") from None
        return size

    def _piece(self) -> int:
        if not self._rest:
            raise InvalidRequest("the gzip body ends too early", code="malformed_gzip")
        # In slices, because the bytes after the member's end are copied each time.
        part = self._rest[:_SLICE]
        piece = self._inflate.decompress(part, min(_INFLATED, self._left + 1))
        self._left -= len(piece)
        if self._left < 0:
            raise _too_large(self._most)
        left = len(self._inflate.unused_data) + len(self._inflate.unconsumed_tail)
        self._rest = self._rest[len(part) - left :]
        if piece:
            self._pieces.append(piece)
        if self._inflate.eof:
            self._next_member()
        return len(piece)

    def _next_member(self) -> None:
        self._members += 1
        if not self._rest:
            self.whole, self.plain = True, b"".join(self._pieces)
        elif self._members == _MOST_MEMBERS:
            raise InvalidRequest(
                f"the gzip body has more than {_MOST_MEMBERS} members; send it as one",
                code="malformed_gzip",
            )
        self._inflate = zlib.decompressobj(wbits=31)


def _nothing(size: int) -> None:
    """Small bodies are not counted."""


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body has more than {most} bytes; send it in parts")
