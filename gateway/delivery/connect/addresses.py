"""Rule of which addresses destinations may be connected to.

A name or an address that somebody gives must not make the gateway a way into the network that it
stands in. What is refused is in the table below, also where an IPv6 address only wraps it, unless a
network of `destinations.allow_networks` contains it.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from gateway.network import Address, Network

_REFUSED = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    # Credentials of machines at Oracle, Azure and Amazon, outside of the link-local networks.
    "metadata": ("192.0.0.0/24", "168.63.129.16/32", "fd00:ec2::/32"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": ("240.0.0.0/4", "198.18.0.0/15"),
    "shared": ("100.64.0.0/10",),
    "private": (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10", "64:ff9b:1::/48",
    ),
}  # fmt: skip
_NETWORKS = [(kind, ip_network(text)) for kind, texts in _REFUSED.items() for text in texts]
# What destinations of the configuration reach as well: who writes it administers the machine.
_OWN = ("loopback", "private")
# IPv6 networks that carry an IPv4 address, and how many bits stand behind it.
_CARRIERS = [
    (IPv6Network(text), shift)
    for text, shift in (
        ("::ffff:0:0/96", 0),  # IPv4-mapped
        ("::ffff:0:0:0/96", 0),  # IPv4-translated
        ("::/96", 0),  # IPv4-compatible
        ("64:ff9b::/96", 0),  # NAT64
        ("2002::/16", 80),  # 6to4
    )
]
_PLAIN = IPv6Network("::/127")
_TEREDO = IPv6Network("2001::/32")
_ISATAP = (0x5EFE, 0x0200_5EFE)


class AddressRule(NamedTuple):
    """Which addresses one destination may reach. `configured`: it comes from the configuration."""

    allowed: tuple[Network, ...] = ()
    configured: bool = False

    def refusal(self, address: Address) -> str | None:
        """Kind of address that is refused; None if it may be connected to."""
        if self._allows(address):
            return None
        kinds = map(self._kind, (address, *carried(address)))
        return next(filter(None, kinds), None)

    def _kind(self, address: Address) -> str | None:
        if self._allows(address):
            return None
        for kind, network in _NETWORKS:
            if address in network and not (self.configured and kind in _OWN):
                return kind
        return None

    def _allows(self, address: Address) -> bool:
        return any(address in network for network in self.allowed)


def carried(address: Address) -> list[Address]:
    """IPv4 addresses to which packets to an IPv6 address may be led."""
    if isinstance(address, IPv4Address) or address in _PLAIN:
        return []
    number = int(address)
    found = [number >> shift for network, shift in _CARRIERS if address in network]
    if address in _TEREDO:
        # The server, and the client behind it, whose bits are inverted.
        found += [number >> 64, ~number]
    if number >> 32 & 0xFFFF_FFFF in _ISATAP:
        found.append(number)
    return [IPv4Address(one & 0xFFFF_FFFF) for one in found]


def literal_address(host: str) -> Address | None:
    """Address that a host of a URL or a result of a look-up is; None for a name."""
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def is_loopback(address: Address) -> bool:
    """Whether nothing that is sent there leaves the machine."""
    return address.is_loopback or (
        bool(found := carried(address)) and all(form.is_loopback for form in found)
    )
