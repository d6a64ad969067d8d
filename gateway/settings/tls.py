"""Settings of TLS on the gateway's own listener."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.kinds import BOOLEAN, TEXT, setting


@dataclass(frozen=True)
class TlsSettings:
    """HTTPS on `server.port`, without a proxy in front."""

    certificate: str = setting(
        "",
        TEXT,
        "File of the certificate with its chain in PEM, the server's own first: the port then "
        "speaks HTTPS alone. It is read again when it changes, and on SIGHUP. Empty is plain HTTP.",
    )
    key: str = setting(
        "",
        TEXT,
        "File of the private key of that certificate in PEM, not encrypted; the same file as the "
        "certificate where it holds both.",
    )
    client_ca: str = setting(
        "",
        TEXT,
        "File of the authorities (PEM) of client certificates: then every connection needs one, in "
        "front of keys, not instead of them.",
    )
    minimum: str = setting("1.2", TEXT, "Oldest version of TLS.", choices=("1.2", "1.3"))
    required: bool = setting(
        False,
        BOOLEAN,
        "Refuse to start on an address that others can reach with neither a certificate nor "
        "server.trusted_proxies; without it that is a warning.",
    )
