"""Content codings of answers (RFC 9110, section 8.4): which one is chosen, and how it is made.

zstd, where its library is installed (the extra `zstd`), then gzip. Nothing that shows a key, a
ticket or a session is compressed, as its length would tell of what stands beside it.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from gateway.http.response.accept import quality

# Bytes from which compression gains something, and from which it is work for a thread.
WORTH_COMPRESSING = 1024
FOR_A_THREAD = 64 * 1024
ON_ACCEPT_AND_CODING = "Accept, Accept-Encoding"
_LEVEL = 1
# zlib's largest window, in the framing of gzip.
_GZIP = 31

InThread = Callable[[Callable[[], bytes]], Awaitable[bytes]]


def _zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


_ZSTD = _zstd()
CODINGS = ("zstd", "gzip") if _ZSTD is not None else ("gzip",)


class Compressor(Protocol):
    """One body that is compressed in parts, in bounded memory."""

    def feed(self, data: bytes) -> bytes:
        """What a peer needs to have read the body so far."""

    def finish(self) -> bytes:
        """The end of the body."""


class _Gzip:
    def __init__(self) -> None:
        self._made = zlib.compressobj(_LEVEL, wbits=_GZIP)

    def feed(self, data: bytes) -> bytes:
        return self._made.compress(data) + self._made.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._made.flush()


class _Zstd:
    def __init__(self) -> None:
        self._made = _ZSTD.ZstdCompressor(level=_LEVEL)

    def feed(self, data: bytes) -> bytes:
        fed: bytes = self._made.compress(data, self._made.FLUSH_BLOCK)
        return fed

    def finish(self) -> bytes:
        last: bytes = self._made.flush()
        return last


_COMPRESSORS: dict[str, Callable[[], Compressor]] = {"zstd": _Zstd, "gzip": _Gzip}


def compressor(coding: str) -> Compressor:
    """A compressor of one of `CODINGS`."""
    return _COMPRESSORS[coding]()


def compressed(body: bytes, coding: str) -> bytes:
    """A whole body in one of `CODINGS`."""
    made = compressor(coding)
    return made.feed(body) + made.finish()


def chosen_coding(request: web.Request, offered: tuple[str, ...] = CODINGS) -> str | None:
    """The coding that `Accept-Encoding` prefers of those offered; None for the body as it is.

    On equal quality zstd precedes gzip. As it is, a body is sent only where that is named as better
    than a coding, or where there is no coding left.
    """
    wanted: dict[str, float] = {}
    for part in ",".join(request.headers.getall("Accept-Encoding", [])).lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        wanted[name.removeprefix("x-")] = quality(parameters)
    others = wanted.get("*", 0.0)
    best, chosen = wanted.get("identity", 0.0), None
    for coding in offered:
        here = wanted.get(coding, others)
        # The body as it is gives way on equal quality, as it is larger.
        if here > best or (here == best and chosen is None and here > 0):
            best, chosen = here, coding
    return chosen


async def in_coding(
    request: web.Request, body: bytes, in_thread: InThread
) -> tuple[bytes, dict[str, str]]:
    """A body as a client takes it, and the headers that say so; large ones are compressed by
    `in_thread`."""
    coding = chosen_coding(request) if len(body) >= WORTH_COMPRESSING else None
    if coding is None:
        return body, {}
    if len(body) > FOR_A_THREAD:
        return await in_thread(lambda: compressed(body, coding)), {"Content-Encoding": coding}
    return compressed(body, coding), {"Content-Encoding": coding}
