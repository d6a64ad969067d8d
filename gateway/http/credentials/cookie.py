"""Cookies of console sessions (RFC 6265bis)."""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.session import HOST_COOKIE, LIFE_SECONDS, PLAIN_COOKIE
from gateway.errors import InvalidRequest
from gateway.http.connection.address import is_secure

# The blanks of RFC 9110 alone: pages of neighbouring hosts may set a cookie whose name begins with
# another one, as browsers do not take that for `__Host-`.
_BLANKS = " \t"


def session_secret(request: web.Request) -> str | None:
    """Secret in the session cookie of a request; None if it has none. Over TLS only the cookie
    counts that other hosts and plain HTTP cannot set."""
    return cookie_value(request, HOST_COOKIE if is_secure(request) else PLAIN_COOKIE)


def cookie_value(request: web.Request, name: str) -> str | None:
    """Value of a cookie; None if the request has none of that name."""
    found = {
        value.strip(_BLANKS).strip('"')
        for line in request.headers.getall("Cookie", ())
        for sent, _, value in (part.partition("=") for part in line.split(";"))
        if sent.strip(_BLANKS) == name
    }
    if len(found) > 1:
        raise InvalidRequest("send one session cookie", code="ambiguous_key")
    return found.pop() or None if found else None


def set_session_cookie(request: web.Request, secret: str) -> str:
    """`Set-Cookie` of a session that was just opened."""
    return _session_cookie(request, secret, LIFE_SECONDS)


def forget_session_cookie(request: web.Request) -> str:
    """`Set-Cookie` that removes the session from the browser."""
    return _session_cookie(request, "", 0)


def _session_cookie(request: web.Request, value: str, seconds: int) -> str:
    name = HOST_COOKIE if is_secure(request) else PLAIN_COOKIE
    return set_cookie(request, name, value, seconds, site="Strict")


def set_cookie(request: web.Request, name: str, value: str, seconds: int, *, site: str) -> str:
    """`Set-Cookie` of a cookie that no script reads; `site` is its `SameSite`."""
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite={site}"
    return f"{name}={value}; {attributes}{'; Secure' if is_secure(request) else ''}"
