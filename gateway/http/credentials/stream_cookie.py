"""Cookies with which browsers reconnect to the stream of a ticket (RFC 6265bis)."""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.ticket import COOKIE_NAME, stream_cookies
from gateway.http.connection.address import is_secure

# Browsers accept such a cookie over TLS only (RFC 6265bis, section 4.1.3.1).
_SECURE = "__Secure-"


def sent_stream_cookies(request: web.Request) -> dict[str, str]:
    """Stream cookies of a request, by name."""
    return stream_cookies(request.headers.getall("Cookie", ()))


def cookie_names(ticket_id: str) -> tuple[str, str]:
    """Names of a ticket's cookie, over TLS and without."""
    return f"{_SECURE}{COOKIE_NAME}{ticket_id}", f"{COOKIE_NAME}{ticket_id}"


def forget_cookie(request: web.Request, name: str) -> str:
    """`Set-Cookie` value that removes a cookie."""
    return set_cookie(name, "", 0, is_secure(request))


def set_cookie(name: str, value: str, seconds: int, secure: bool) -> str:
    """`Set-Cookie` value of a cookie for streams alone."""
    attributes = f"Path=/v1/stream; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return f"{name}={value}; {attributes}{'; Secure' if secure else ''}"
