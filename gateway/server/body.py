"""Reading a request body: bounded in bytes, in expansion and in time."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import (
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from gateway.json_members import refuse_repeated
from gateway.live.work import Slices
from gateway.server.context import CONTEXT
from gateway.server.in_flight import Holding

NDJSON_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_JSON_BYTES = 64 * 1024
_JSON_SECONDS = 10.0
_SLICE = 16 * 1024
_INFLATED = 256 * 1024
_MOST_MEMBERS = 10_000


async def read_body(
    request: web.Request, *, most: int, seconds: float, holding: Holding | None = None
) -> bytes:
    """The whole body, decompressed; at most `most` bytes before and after that.

    Raises `PayloadTooLarge` before reading what is declared too large,
    `RequestTimeout` when it has not arrived after so many seconds, as `recheck` does when
    the key has changed while it arrived, and as `holding` does, which takes it.
    """
    encoding = ", ".join(request.headers.getall("Content-Encoding", ["identity"])).strip().lower()
    if encoding == "x-gzip":
        # RFC 9110, section 8.4.1.3.
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
        # It came with the head of the request: nothing has to be waited for.
        whole = request.content.read_nowait()
        if len(whole) > most:
            raise _too_large(most)
        take(len(whole))
    else:
        whole = await _arriving(request, most, seconds, take)
    if encoding != "gzip":
        return whole
    turns = request.app[CONTEXT].intake.slices("" if holding is None else holding.key_id)
    return await _gunzip(whole, most, take, turns)


async def _arriving(
    request: web.Request, most: int, seconds: float, take: Callable[[int], None]
) -> bytes:
    """The body that is still on its way, as it was sent."""
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
    # Or a request that began before its key was revoked could be ended long after.
    await request.app[CONTEXT].authenticator.recheck(request)
    return bytes(raw)


async def json_body(request: web.Request) -> Any:
    """The decoded JSON of a small request.

    A member that stands twice is refused: one of the two would be passed over in silence.
    """
    media_type(request, ("application/json",))
    body = await read_body(request, most=_JSON_BYTES, seconds=_JSON_SECONDS)
    try:
        decoded = msgspec.json.decode(body)
        json.loads(body.decode(), object_pairs_hook=refuse_repeated)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}", code="malformed_json") from None
    return decoded


def media_type(request: web.Request, allowed: tuple[str, ...]) -> str:
    """The media type of the body if it is one of those; charset, if given, must be UTF-8."""
    declared = request.headers.get("Content-Type")
    kind = request.content_type
    if declared is None or kind not in allowed:
        said = f"Content-Type {kind!r} is not supported here" if declared else "no Content-Type"
        raise UnsupportedMediaType(f"{said}; send a body of {' or '.join(allowed)}")
    charset = request.charset
    if charset is not None and charset.lower().replace("_", "-") not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(f"charset {charset!r} is not supported; use UTF-8")
    return kind


async def _gunzip(raw: bytes, most: int, take: Callable[[int], None], turns: Slices) -> bytes:
    """Gzip members, one after the other (RFC 1952, section 2.2), never beyond the limit."""
    plain = bytearray()
    rest = memoryview(raw)
    turns.start()
    try:
        for _ in range(_MOST_MEMBERS):
            inflate = zlib.decompressobj(wbits=31)
            while rest and not inflate.eof:
                # In slices, because what lies behind the member's end is copied each time.
                part = rest[:_SLICE]
                piece = inflate.decompress(part, min(_INFLATED, most - len(plain) + 1))
                plain += piece
                if len(plain) > most:
                    raise _too_large(most)
                take(len(piece))
                left = len(inflate.unused_data) + len(inflate.unconsumed_tail)
                rest = rest[len(part) - left :]
                if turns.over():
                    await turns.next()
            if not inflate.eof:
                raise InvalidRequest("the gzip body ends too early", code="malformed_gzip")
            if not rest:
                return bytes(plain)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not gzip: {error}", code="malformed_gzip") from None
    raise InvalidRequest(
        f"the gzip body has more than {_MOST_MEMBERS} members; send it as one",
        code="malformed_gzip",
    )


def _nothing(size: int) -> None:
    """Small bodies are not counted."""


def _too_large(most: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body has more than {most} bytes; send it in parts")
