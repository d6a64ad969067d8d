"""Small answers with heads from prepared parts.

aiohttp builds each head from a dictionary, in a dozen steps that take as long as the rest of a
small answer. Most answers have the same headers but for length and date. aiohttp itself sends the
others: those with changed headers (CORS, limits), closing connections, or no body (HEAD).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from types import MappingProxyType

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from gateway.http.framework.aiohttp_internals import is_left_to_aiohttp, set_sent

# Else aiohttp tells its version and Python's.
SERVER = "audit-gateway"
# Headers of every answer: no guessing of types, no referrer, since a URL may hold a ticket.
ALWAYS = {
    "Server": SERVER,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_NONE: Mapping[str, str] = MappingProxyType({})


class Answer(web.Response):
    """Response with a small body, never cached, since it depends on the key.

    `headers` are added to `ALWAYS`; a multidict may have one name several times.
    """

    def __init__(
        self, body: bytes, content_type: str, *, status: int = 200,
        headers: Mapping[str, str] = _NONE,
    ) -> None:  # fmt: skip
        super().__init__(body=body, status=status)
        self._added = tuple(headers.items())
        self._type = content_type
        # Whether the headers are in aiohttp's dictionary, where they may change.
        self._listed = False

    @property
    def headers(self) -> CIMultiDict[str]:
        listed = super().headers
        if not self._listed:
            self._listed = True
            listed.update(_headers(self._type, self._added))
        return listed

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if not self._is_usual(request):
            # This lists them.
            assert self.headers
            return await super().prepare(request)
        set_sent(self)
        await request.writer.write_eof(self.encoded())
        return None

    def encoded(self) -> bytes:
        """The answer, for a connection that stays open."""
        body = self.body
        assert isinstance(body, bytes)
        return encoded(body, self._type, self.status, self.reason, self._added)

    def _is_usual(self, request: web.BaseRequest) -> bool:
        """Whether aiohttp would send exactly these bytes."""
        return (
            not self._listed
            and is_left_to_aiohttp(self)
            and not self.compression
            and request.keep_alive
            and request.version == HttpVersion11
            and request.method != "HEAD"
            and isinstance(request, web.Request)
            and not request.app.on_response_prepare
        )


def encoded(
    body: bytes,
    content_type: str,
    status: int,
    reason: str,
    added: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """An answer, for a connection that stays open."""
    head = _head(status, reason, content_type, added)
    return b"%b%d\r\nDate: %b\r\n\r\n%b" % (head, len(body), _date(int(time.time())), body)


def _headers(content_type: str, added: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Headers of an answer, in order, without those that aiohttp adds."""
    first, kind = ("Cache-Control", "no-store"), ("Content-Type", content_type)
    return [first, *added, kind, *ALWAYS.items()]


@lru_cache(256)
def _head(status: int, reason: str, content_type: str, added: tuple[tuple[str, str], ...]) -> bytes:
    """Status line and headers of an answer, up to its length."""
    lines = [f"{name}: {value}" for name, value in _headers(content_type, added)]
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *lines, "Content-Length: "]).encode()


@lru_cache(1)
def _date(now: int) -> bytes:
    return formatdate(now, usegmt=True).encode()
