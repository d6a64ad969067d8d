"""Port of HTTP requests to outside systems: what is sent, what comes back, and why nothing did."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Awaitable, Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol
from urllib.parse import quote, quote_plus

import msgspec

from gateway.sanitize import clean

MAX_ANSWER_BYTES = 1 << 20
MOST_MESSAGE = 200
LONGEST_RETRY_AFTER = 900.0
_HIDDEN = b"***"
_CODINGS = ("gzip", "x-gzip", "deflate")


class HttpRequest(NamedTuple):
    """Request to an outside system. `secrets` are texts that nothing that comes back may hold."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    secrets: tuple[str, ...] = ()
    compress: bool = True
    method: str = "POST"
    # The compressed body, where `HttpTransport.pack` was told of it.
    packed: Awaitable[bytes] | None = None


class RemoteAnswer(NamedTuple):
    """Answer to a request, without its secrets. Names of headers are in lower case.

    `received_at` is in seconds since 1970. `whole`: the body is no longer than what is read.
    """

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    received_at: float = 0.0
    whole: bool = True

    def retry_after(self) -> float:
        """Seconds for which the receiver wants to be left alone, at most 15 minutes."""
        text = self.headers.get("retry-after", "").strip()
        if text.isascii() and text.isdecimal():
            seconds = float(text[:9])
        else:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - self.received_at
            except (ValueError, OverflowError):
                return 0.0
        return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)

    def message(self) -> str:
        """The receiver's own words, printable and short."""
        return clean(" ".join(self.body[:4000].decode(errors="replace").split()), MOST_MESSAGE)


class NoAnswer(Exception):
    """No whole answer came. `config`: nor would it at another time.

    `kind` is one of `address`, `certificate`, `proxy`, `url` (these are of the configuration),
    `dns`, `connect`, `tls`, `timeout`, `disconnected` and `protocol`.
    """

    def __init__(self, kind: str, message: str, *, config: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = clean(message, MOST_MESSAGE)
        self.config = config


class HttpTransport(Protocol):
    """Connections of one destination. Requests are made one at a time, over a connection that is
    kept. Redirects are answers, and are not followed. At most 1 MiB of an answer is read."""

    def pack(self, body: bytes) -> Awaitable[bytes] | None:
        """Begin to compress the body of the next request beside the one that is under way; None
        where that is too little to be worth it."""

    async def request(self, request: HttpRequest) -> RemoteAnswer:
        """Send the request and return the answer. Raises `NoAnswer`, and nothing else."""

    async def close(self) -> None:
        """Close all connections."""


def basic_credentials(user: str, password: str) -> str:
    """Value of `Authorization` with user and password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def hide(data: bytes, secrets: Iterable[str]) -> bytes:
    """The data without secrets, also as they stand in JSON, URLs and credentials."""
    for secret in sorted(secrets, key=len, reverse=True):
        for form in _forms(secret):
            data = data.replace(form, _HIDDEN)
    return data


def _forms(secret: str) -> set[bytes]:
    plain = secret.encode()
    json = msgspec.json.encode(secret)[1:-1]
    forms = {plain, json, json.replace(b"/", b"\\/"), quote(secret).encode()}
    forms |= {quote(secret, safe="").encode(), quote_plus(secret).encode()}
    forms.add(base64.b64encode(plain))
    return {form for form in forms if form}


def unpack(body: bytes, coding: str, most: int = MAX_ANSWER_BYTES) -> tuple[bytes, bool]:
    """Decompressed body up to that length, and whether that is all of it.

    A body that is not what its coding says is returned as it is.
    """
    if coding.strip().lower() not in _CODINGS:
        return body, True
    try:
        unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
        data = unpacking.decompress(body, most)
    except zlib.error:
        return body, True
    return data, unpacking.eof and not unpacking.unconsumed_tail
