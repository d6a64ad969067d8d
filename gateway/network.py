"""Addresses and networks as they are written: one reading for grants, settings and headers.

An IPv4 address or network that is mapped into IPv6 (`::ffff:10.0.0.0/104`) is the IPv4 one.
Addresses of NAT64 (`64:ff9b::/96`) are IPv6 addresses: what they stand for is for its gateway
to say. Those that are compatible with IPv4 (`::10.0.0.1`, RFC 4291, section 2.5.5.1) are nobody's
any more, so that one which is shown says nothing.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAPPED = IPv6Network("::ffff:0:0/96")
COMPATIBLE = IPv6Network("::/96")
# In the same range, and in use: the unspecified address and loopback.
_IN_USE = IPv6Network("::/127")
# A port behind an address, or an obfuscated one (RFC 7239, section 6.2).
_PORT = re.compile(r"[0-9]{1,5}|_[A-Za-z0-9._-]+", re.ASCII)
_MOST_KEPT = 128
_HOW = "write it like 10.1.0.0/16, 10.1.2.3 or 2001:db8::/64"


def parse_address(text: str) -> Address | None:
    """An address, also with a port or a zone behind it; None for anything else, such as `unknown`.

    Numbers with leading zeros are octal to some programs and decimal to others: no address.
    """
    # Asked several times for each request; what is longer is none, and would only take memory.
    return _parsed_address(text) if len(text) <= _MOST_KEPT else _parse_address(text)


def _parse_address(text: str) -> Address | None:
    text = text.strip(" \t")
    if text.startswith("["):
        text, closed, port = text[1:].partition("]")
        if not closed or (port and not (port[0] == ":" and _PORT.fullmatch(port[1:]))):
            return None
        if ":" not in text:
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _PORT.fullmatch(port):
            return None
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address in COMPATIBLE and address not in _IN_USE:
        return None
    return getattr(address, "ipv4_mapped", None) or address


_parsed_address = lru_cache(4096)(_parse_address)


def parse_network(text: str) -> Network:
    """A network in CIDR notation, or a single address. ValueError says why it is none."""
    if "%" in text:
        raise ValueError(f"{text!r} is not a network: leave out the zone, `%` and what follows")
    try:
        network = ip_network(text)
    except ValueError:
        try:
            whole = _unmapped(ip_network(text, strict=False))
        except ValueError:
            raise ValueError(f"{text!r} is not a network; {_HOW}") from None
        raise ValueError(
            f"{text!r} is not a network: it has bits behind its prefix; write {whole}, or the "
            "address without a prefix"
        ) from None
    if (
        isinstance(network, IPv6Network)
        and network.subnet_of(COMPATIBLE)
        and not network.subnet_of(_IN_USE)
    ):
        prefix = network.prefixlen - COMPATIBLE.prefixlen
        plain = IPv4Network((int(network.network_address), prefix))
        raise ValueError(f"{text!r} is not a network of anybody; did you mean {plain}?")
    return _unmapped(network)


def _unmapped(network: Network) -> Network:
    if isinstance(network, IPv4Network) or not network.subnet_of(MAPPED):
        return network
    mapped = network.network_address.ipv4_mapped
    assert mapped is not None
    return IPv4Network((mapped, network.prefixlen - MAPPED.prefixlen))


# Asked anew for every request of such a key, from the same few addresses.
@lru_cache(4096)
def is_within(address: str | None, networks: tuple[str, ...]) -> bool | None:
    """Whether the address is in one of the (checked) networks; None if it is not known."""
    found = None if address is None else parse_address(address)
    if found is None:
        return None
    return any(found in network for network in _parsed(networks))


@lru_cache(1024)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(parse_network, networks))
