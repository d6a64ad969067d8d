"""Address of the client of a request, also behind proxies."""

from __future__ import annotations

from functools import lru_cache

from aiohttp import web

from gateway.network import Address, Network, parse_address

_OF_PROXIES = ("via", "forwarded")
Networks = tuple[Network, ...]

# The setting `server.trusted_proxies`.
TRUSTED_PROXIES: web.AppKey[Networks] = web.AppKey("trusted_proxies", tuple)
# Whether the setting `server.basic` takes Basic credentials over plain HTTP, too.
BASIC_OVER_HTTP: web.AppKey[bool] = web.AppKey("basic_over_http", bool)


def client_address(request: web.Request) -> str | None:
    """Address of the client; None if it is unknown.

    Trusted proxies append to `X-Forwarded-For`, so the rightmost address that is no trusted proxy
    is the client; what a client itself has put there is further left. None if a trusted proxy names
    something that is no address.
    """
    peer = request.remote
    trusted = request.app[TRUSTED_PROXIES]
    if peer is None or not trusted:
        return None if peer is None else _spelled(peer)
    client = parse_address(peer)
    if client is None:
        return None
    # Proxies append to the header or add another of its name: RFC 9110, section 5.3.
    lines = request.headers.getall("X-Forwarded-For", [])
    hops = [hop.strip() for line in lines for hop in line.split(",")]
    for hop in filter(None, reversed(hops)):
        if client is None or not any(client in network for network in trusted):
            break
        client = parse_address(hop)
    return None if client is None else str(client)


@lru_cache(4096)
def _spelled(peer: str) -> str | None:
    """Address of a peer in canonical form."""
    address = parse_address(peer)
    return None if address is None else str(address)


def is_local(request: web.Request) -> bool:
    """Whether the client is on the gateway's own machine.

    A trusted proxy there that names no other client may forward anybody's request.
    """
    address = parse_address(client_address(request) or "")
    return address is not None and address.is_loopback and not _is_trusted(address, request)


def is_behind_proxy(request: web.Request) -> bool:
    """Whether a proxy is between, as far as is known: several clients may share its connections."""
    peer = None if request.remote is None else parse_address(request.remote)
    if peer is not None and _is_trusted(peer, request):
        return True
    return any(
        name in _OF_PROXIES or name.startswith("x-forwarded-")
        for name in map(str.lower, request.headers)
    )


def is_secure(request: web.Request) -> bool:
    """Whether the client uses TLS, also if a trusted proxy terminates it.

    Several values of `X-Forwarded-Proto` may include the client's own, or a hop without TLS: then
    all of them have to be "https".
    """
    if request.secure:
        return True
    peer = None if request.remote is None else parse_address(request.remote)
    if peer is None or not _is_trusted(peer, request):
        return False
    lines = request.headers.getall("X-Forwarded-Proto", [])
    schemes = {scheme.strip().lower() for line in lines for scheme in line.split(",")}
    return schemes - {""} == {"https"}


def takes_basic(request: web.Request) -> bool:
    """Whether Basic credentials are taken from the client: not over connections that others can
    read (RFC 7617, section 4)."""
    return request.app[BASIC_OVER_HTTP] or is_secure(request) or is_local(request)


def _is_trusted(address: Address, request: web.Request) -> bool:
    return any(address in network for network in request.app[TRUSTED_PROXIES])
