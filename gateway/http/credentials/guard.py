"""What a request by cookie has to prove, since browsers send cookies whoever has made the page.

attack                                   refused by
page of another site sends a form        SameSite=Strict; own `Origin`; `X-Audit-CSRF`
page of another site opens a WebSocket   own `Origin`
page of a neighbouring host, same site   own `Origin`, `Sec-Fetch-Site`; `__Host-` cookies
name that now leads here (rebinding)     `Host` is loopback or in `server.names`
session chosen by the attacker           sign-in makes a new id, and ends that of the cookie
reader of the network                    `Secure`; plain HTTP only on the machine itself
"""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.session import is_csrf_token
from gateway.errors import Forbidden
from gateway.http.connection.address import is_local, is_secure
from gateway.http.connection.web_origin import is_own_origin
from gateway.network import parse_address

CSRF_HEADER = "X-Audit-CSRF"
# The setting `server.names`.
SERVER_NAMES: web.AppKey[tuple[str, ...]] = web.AppKey("server_names", tuple)
_UNCHANGING = ("GET", "HEAD")
_OWN_SITES = ("same-origin", "none")


def check_host(request: web.Request) -> None:
    """Refuse sessions at names that the gateway does not know to be its own."""
    name = host_name(request.host)
    if _is_loopback(name) and is_local(request):
        return
    if name not in request.app[SERVER_NAMES]:
        raise Forbidden(
            f"sign-in is possible at the names of the gateway only, and {name[:64]!r} is none: add "
            "it to server.names",
            code="host_not_named",
        )
    if not is_secure(request):
        raise Forbidden(
            "sign-in needs TLS: use https (set server.tls, or name the proxy that ends TLS in "
            "server.trusted_proxies, and have it send one X-Forwarded-Proto)",
            code="sign_in_needs_tls",
        )


def check_own_page(request: web.Request, *, needs_origin: bool) -> None:
    """Refuse what a page of another origin has caused. `needs_origin`: it may not be left out."""
    sent = request.headers.getall("Origin", [])
    site = request.headers.get("Sec-Fetch-Site", _OWN_SITES[0]).lower()
    foreign = any(not is_own_origin(request, one) for one in sent) or len(sent) > 1
    if foreign or site not in _OWN_SITES or (needs_origin and not sent):
        raise Forbidden(
            "requests by cookie are for the gateway's own pages; others send a key",
            code="origin_not_allowed",
        )


def check_signed_in(request: web.Request, secret: str) -> None:
    """Refuse a request by cookie that does not come from the gateway's own page."""
    check_host(request)
    changes = request.method not in _UNCHANGING
    check_own_page(request, needs_origin=changes or "Upgrade" in request.headers)
    if changes and not is_csrf_token(request.headers.get(CSRF_HEADER, ""), secret):
        raise Forbidden(
            f"send {CSRF_HEADER} with changes: `csrf` of /v1/session has it", code="csrf_refused"
        )


def host_name(host: str) -> str:
    """Name in a `Host` header, in lower case, without the port and a final dot."""
    name, _, port = host.lower().rpartition(":")
    if not name or not port.isdigit():
        name = host.lower()
    return name.removesuffix(".")


def _is_loopback(name: str) -> bool:
    address = parse_address(name.strip("[]"))
    return name == "localhost" or (address is not None and address.is_loopback)
