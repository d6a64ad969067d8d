"""Settings of destinations, to which the gateway connects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.settings.kinds import LIST, TEXT, setting

if TYPE_CHECKING:
    from gateway.network import Network


def check_reach(networks: tuple[str, ...]) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses."""
    from gateway.network import parse_network

    return tuple(map(parse_network, networks))


@dataclass(frozen=True)
class DestinationSettings:
    """Outside systems that the gateway connects to."""

    folder: str = setting(
        "",
        TEXT,
        "Folder below which destinations of the type file write; empty is destinations in the "
        "folder `data`. Replicas need one that they share.",
    )
    allow_networks: tuple[Network, ...] = setting(
        [],
        LIST,
        "Networks that destinations may reach beside public addresses, such as 10.1.0.0/16; those "
        "of the machine, of private networks and of clouds are refused otherwise.",
        check=check_reach,
        adds=True,
    )
    proxy: str = setting(
        "",
        TEXT,
        "HTTP proxy through which destinations connect, such as http://proxy:3128; empty is none. "
        "Environment variables count for nothing.",
        secret=True,
    )
