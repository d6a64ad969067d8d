"""Heads of requests that were admitted before, so that each of them is understood once.

A head means what its bytes say, and a producer repeats them but for `Content-Length`. What aiohttp
and the handler have made of a head, once its request was answered with 201, is kept under a keyed
digest of these bytes and of the peer's address: no token stays in memory. There is no second
grammar of HTTP: bytes that are not known are for aiohttp.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from gateway.access.keys.key import Key
from gateway.event import Draft

MayWrite = Callable[[Draft], bool]
REQUEST_LINE = b"POST /v1/events HTTP/1.1\r\n"
END_OF_HEAD = b"\r\n\r\n"
# Longer heads go to aiohttp each time.
MOST_HEAD = 4 * 1024
# What is larger is decoded in slices, for which a request of its own is needed.
MOST_BODY = 16 * 1024
_MOST_HEADS = 10_000
_LENGTH = re.compile(rb"\r\ncontent-length: ?([1-9][0-9]{0,4})(?=\r\n)", re.IGNORECASE)


@dataclass(eq=False, slots=True)
class KnownHead:
    """What a head said: whose events come, from where, and how they are written.

    `decision` is what the key may write, and `may_write` its test, as they were last asked for.
    `key` is the key as it was then, `secrets` the peppers that its token was checked with: either
    being another one now, the head has to be understood anew. `subject` is the client that a
    trusted proxy named, as connections are counted; "" without one.
    """

    key: Key
    secrets: object
    address: str
    client: str
    subject: str
    lines: bool
    decision: object = None
    may_write: MayWrite | None = None


class KnownHeads:
    """The heads that this process knows, at most `most`: the one learned first is forgotten."""

    def __init__(self, most: int = _MOST_HEADS) -> None:
        self._most = most
        self._keyed = hashlib.blake2b(digest_size=32, key=secrets.token_bytes(32))
        self._heads: dict[bytes, KnownHead] = {}

    def find(self, peer: bytes, head: bytes) -> tuple[KnownHead | None, int]:
        """What is known of a head, and the length that it declares; 0 where it may not be known."""
        length = _LENGTH.search(head)
        if length is None:
            return None, 0
        return self._heads.get(self._digest(peer, head, length)), int(length[1])

    def learn(self, peer: bytes, head: bytes, known: KnownHead) -> None:
        """Keep what is known of a head; its length must stand there once."""
        lengths = list(_LENGTH.finditer(head))
        if len(lengths) != 1 or not head.startswith(REQUEST_LINE):
            return
        if len(self._heads) >= self._most:
            del self._heads[next(iter(self._heads))]
        self._heads[self._digest(peer, head, lengths[0])] = known

    def _digest(self, peer: bytes, head: bytes, length: re.Match[bytes]) -> bytes:
        begin, end = length.span(1)
        keyed = self._keyed.copy()
        # No address holds a line break.
        keyed.update(b"%b\n%b\n%b" % (peer, head[:begin], head[end:]))
        return keyed.digest()
