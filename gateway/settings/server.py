"""Settings of the server: listening, deadlines, shutdown, limits on connections, secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.settings.kinds import (
    DURATION,
    INTEGER,
    LIST,
    SIZE,
    TEXT,
    check_host,
    check_names,
    check_networks,
    check_origins,
    check_peppers,
    check_secret,
    setting,
)
from gateway.settings.tls import TlsSettings

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

_SLOW_PEER = "slow peers would hold connections for nothing"
_MEMORY = "it is held in memory"
PLAIN_TEXT_WARNING = (
    "others can reach the address, and keys and events go over it in plain text: set "
    "server.tls.certificate, or name the proxy that ends TLS in server.trusted_proxies"
)


@dataclass(frozen=True)
class ServerSettings:
    """Listening, deadlines, shutdown; secrets that gateways share."""

    host: str = setting(
        "127.0.0.1", TEXT, "Address to listen on; 0.0.0.0 is every interface.", check=check_host
    )
    port: int = setting(
        8080,
        INTEGER,
        "Port to listen on; 0 takes any free one.",
        least=(0, "ports are not negative"),
        most=(65535, "it is the highest port"),
    )
    workers: int = setting(
        1,
        INTEGER,
        "Processes that share the port, and the log with it; about as many as there are cores.",
        unit="processes",
        least=(1, "nobody would listen"),
        most=(64, "each takes memory, and their appends go through one"),
    )
    allowed_origins: tuple[str, ...] = setting(
        [],
        LIST,
        "Further browser origins that may open streams, such as https://siem.example; the "
        "gateway's own is always allowed.",
        check=check_origins,
        adds=True,
    )
    names: tuple[str, ...] = setting(
        [],
        LIST,
        "Host names under which the gateway is reached, such as audit.example: sign-in to the "
        "console works at these, over TLS, and at loopback addresses on the machine itself.",
        check=check_names,
        adds=True,
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        [],
        LIST,
        "Addresses or networks (CIDR) of the proxies in front, whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed; from anybody else they are ignored.",
        check=check_networks,
        adds=True,
    )
    basic: str = setting(
        "tls",
        TEXT,
        "Where HTTP Basic credentials, with the key as password, are taken: `tls` over TLS and "
        "from the machine itself, `always` over plain HTTP too.",
        choices=("tls", "always"),
    )
    keepalive: int = setting(
        "75s",
        DURATION,
        "How long an idle HTTP/1.1 connection stays open, and how long its headers may take.",
        least=("1s", "clients need some time to send their headers"),
        most=("1h", _SLOW_PEER),
    )
    body_timeout: int = setting(
        "30s",
        DURATION,
        "How long the body of a request may take to arrive; how long one that is answered while it "
        "arrives may pause.",
        least=("1s", "clients need some time to send a body"),
        most=("1h", _SLOW_PEER),
    )
    max_connections: int = setting(
        0,
        INTEGER,
        "Connections that may be open in each process; 0 is as many as the limit of descriptors "
        "allows, less a reserve.",
        unit="connections",
        least=(0, "0 is as many as descriptors allow"),
        most=(1_000_000, _MEMORY),
    )
    max_connections_per_address: int = setting(
        0,
        INTEGER,
        "Connections of one address, behind trusted proxies the client's; 0 is three quarters of "
        "all.",
        unit="connections",
        least=(0, "0 is three quarters of all"),
        most=(1_000_000, _MEMORY),
    )
    max_head_bytes: int = setting(
        "64KiB",
        SIZE,
        "URL and headers of one request, together.",
        least=("20KiB", "a long filter would not fit"),
        most=("1MiB", _MEMORY),
    )
    max_unfinished_heads: int = setting(
        "16MiB",
        SIZE,
        "URLs and headers that have not arrived whole, of all connections together; beyond it the "
        "largest is refused with 503.",
        least=("1MiB", "requests in several packets would be refused"),
        most=("1GiB", _MEMORY),
    )
    drain_timeout: int = setting(
        "10s",
        DURATION,
        "How long a shutdown may take; streams are ended with their cursors within it.",
        least=("1s", "streams could not be told their last cursor"),
        most=("10m", "service managers kill what stops slower"),
    )
    pepper_file: str = setting(
        "",
        TEXT,
        "File of the secret of the key digests, the same for all gateways on one database; empty "
        "is pepper in the folder `data`.",
    )
    pepper: str = setting(
        "",
        TEXT,
        "That secret itself instead of its file, 64 hexadecimal digits: for the environment, where "
        "an orchestrator puts it.",
        check=check_peppers,
        secret=True,
    )
    log_secret_file: str = setting(
        "",
        TEXT,
        "File of the secret of the log (32 bytes or 64 hexadecimal digits), the same for all "
        "gateways on one database, and never changed; empty is log-secret in the folder `data`.",
    )
    log_secret: str = setting(
        "",
        TEXT,
        "That secret itself instead of its file, 64 hexadecimal digits.",
        check=check_secret,
        secret=True,
    )
    tls: TlsSettings = field(default_factory=TlsSettings)

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach the address, so that what is sent may be read on the
        way: keys, events."""
        from ipaddress import ip_address

        try:
            loopback = ip_address(self.host).is_loopback
        except ValueError:
            loopback = self.host == "localhost"
        return not loopback

    @property
    def is_readable_on_the_way(self) -> bool:
        """Whether the address is public with neither TLS nor a known proxy in front."""
        return self.is_public and not self.tls.certificate and not self.trusted_proxies
