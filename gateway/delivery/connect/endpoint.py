"""URLs that destinations are given, checked before anything is connected to."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.delivery.connect.addresses import AddressRule, is_loopback, literal_address
from gateway.errors import InvalidRequest

HTTP_SCHEMES = ("https", "http")
STREAM_SCHEMES = ("tls", "tcp")
# Schemes that hide nothing from the network.
PLAIN = ("http", "tcp")
_URL = re.compile(r"[!-~]{1,2048}", re.ASCII)
_ITSELF = re.compile(r"(?:^|\.)localhost\.?$", re.ASCII | re.IGNORECASE)
# What the C library takes for addresses although no standard does: 127.1, 0x7f.1, 2130706433.
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)(?:\.(?:0x[0-9a-f]*|[0-9]+))*\.?", re.ASCII)


class Endpoint(NamedTuple):
    """Where a URL leads. `host` is a name or an address without brackets."""

    scheme: str
    host: str
    port: int | None

    @property
    def plain(self) -> bool:
        """Whether what is sent there can be read on the way."""
        return self.scheme in PLAIN


def parse_endpoint(
    url: str, schemes: tuple[str, ...] = HTTP_SCHEMES, member: str = "settings.url"
) -> Endpoint:
    """Endpoint of an absolute URL. Raises `InvalidRequest` that names the member."""
    try:
        parts = urlsplit(url) if _URL.fullmatch(url) and "\\" not in url else None
        port = parts.port if parts is not None else None
    except ValueError:
        parts = port = None
    if parts is None or parts.scheme not in schemes or not parts.hostname or port == 0:
        raise InvalidRequest(
            f"{member}: give a URL such as {schemes[0]}://siem.example.org; it has only printable "
            "ASCII characters, other names are written in Punycode",
            code="invalid_url",
        )
    if "@" in parts.netloc:
        raise InvalidRequest(
            f"{member}: leave out what stands before the @; credentials are given as secrets, "
            "which are never shown",
            code="invalid_url",
        )
    if parts.fragment:
        raise InvalidRequest(f"{member}: leave out the # and what follows", code="invalid_url")
    return Endpoint(parts.scheme, parts.hostname.partition("%")[0], port)


def check_endpoint(
    endpoint: Endpoint,
    rule: AddressRule,
    *,
    plaintext: bool,
    proxied: bool = False,
    member: str = "settings.url",
) -> None:
    """Raise `InvalidRequest` for what is refused without looking the name up. Every address is
    checked again when it is connected to, but where a proxy does that (`proxied`)."""
    address = literal_address(endpoint.host)
    if address is None and _NUMERIC.fullmatch(endpoint.host):
        raise InvalidRequest(
            f"{member}: write the address in full, such as 203.0.113.7", code="invalid_url"
        )
    if address is not None and (kind := rule.refusal(address)):
        raise InvalidRequest(refusal_text(member, str(address), kind), code="address_refused")
    itself = address is None and _ITSELF.search(endpoint.host) is not None
    if itself and proxied and not rule.configured:
        raise InvalidRequest(
            f"{member}: {endpoint.host} is the machine of the proxy itself, which destinations do "
            "not reach",
            code="address_refused",
        )
    local = not proxied and (itself if address is None else is_loopback(address))
    if endpoint.plain and not plaintext and not local:
        raise InvalidRequest(
            f'{member}: everybody on the way can read {endpoint.scheme}; use TLS, or say "plaintext'
            '":true',
            code="plaintext_refused",
        )


def refusal_text(who: str, address: str, kind: str) -> str:
    """Why an address is not connected to, and what to do."""
    return (
        f"{who}: {address} is a {kind} address, which destinations do not reach unless the setting "
        "destinations.allow_networks lists its network"
    )
