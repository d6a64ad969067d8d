"""Parser of addresses and networks, the same for grants, settings and headers.

An IPv4 address or network mapped into IPv6 (`::ffff:10.0.0.0/104`) is read as the IPv4 one. NAT64
addresses (`64:ff9b::/96`) stay IPv6 addresses: only the NAT64 gateway knows their meaning.
IPv4-compatible addresses (`::10.0.0.1`, RFC 4291, section 2.5.5.1) are deprecated, so none.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAPPED = IPv6Network("::ffff:0:0/96")
COMPATIBLE = IPv6Network("::/96")
# In the range of those but in use: the unspecified address and loopback.
_IN_USE = IPv6Network("::/127")
# A port after an address, or an obfuscated one (RFC 7239, section 6.2).
_PORT = re.compile(r"[0-9]{1,5}|_[A-Za-z0-9._-]+", re.ASCII)
_MOST_KEPT = 128
_HOW = "write it like 10.1.0.0/16, 10.1.2.3 or 2001:db8::/64"


def parse_address(text: str) -> Address | None:
    """Address, without its port or zone; None for anything else, such as `unknown`.

    Numbers with leading zeros are refused: some programs read them as octal.
    """
    # Cached, but for longer texts, which are no addresses and would only take memory.
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
    """Network in CIDR notation, or single address. Raises ValueError with the reason."""
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


# Cached: every request of such a key asks, from a few addresses.
@lru_cache(4096)
def is_within(address: str | None, networks: tuple[str, ...]) -> bool | None:
    """Whether the address is in one of the (checked) networks; None if it is unknown."""
    found = None if address is None else parse_address(address)
    if found is None:
        return None
    return any(found in network for network in _parsed(networks))


@lru_cache(1024)
def _parsed(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(parse_network, networks))
