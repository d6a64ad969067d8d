"""Origins of web pages (RFC 6454)."""

from __future__ import annotations

import re

from aiohttp import web

from gateway.http.connection.address import is_secure

# Scheme, host and port (RFC 6454, section 4).
Origin = tuple[str, str, str]
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^:/?#\[\]@]+)(?::([0-9]*))?", re.ASCII)
_PORTS = {"http": "80", "https": "443"}


def parse_origin(text: str) -> Origin | None:
    """Parts of a web origin; None if it is none, such as `null`.

    A final dot of the host is dropped; a missing port is the scheme's.
    """
    # Some letters beyond ASCII have a lower case within ASCII.
    match = _ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    if match is None:
        return None
    scheme, host, port = match.groups()
    return scheme, host.removesuffix("."), port or _PORTS[scheme]


def is_own_origin(request: web.Request, sent: str) -> bool:
    """Whether an origin is that of the gateway, as the client of this request knows it."""
    scheme = "https" if is_secure(request) else "http"
    own = parse_origin(f"{scheme}://{request.host}")
    return own is not None and parse_origin(sent) == own
