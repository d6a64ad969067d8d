"""Certificates made for tests: an authority, and pairs of certificate and key in files."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import trustme


@cache
def authority() -> trustme.CA:
    """The authority of this process."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


def issue(
    *names: str, expires: float | None = None, ca: trustme.CA | None = None
) -> tuple[str, str]:
    """Certificate with its chain, and its key, in PEM."""
    until = None if expires is None else datetime.fromtimestamp(expires, UTC)
    pair = (ca or authority()).issue_cert(
        *(names or ("127.0.0.1", "localhost")), not_after=until, key_type=trustme.KeyType.ECDSA
    )
    chain = "".join(one.bytes().decode() for one in pair.cert_chain_pems)
    return chain, pair.private_key_pem.bytes().decode()


class PairFiles:
    """The files of a certificate and its key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"
        self.key.touch(mode=0o600)
        if not self.certificate.exists():
            self.write(*issue())

    def write(self, certificate: str, key: str) -> None:
        self.certificate.write_text(certificate)
        self.key.write_text(key)

    @property
    def settings(self) -> dict[str, str]:
        return {"certificate": str(self.certificate), "key": str(self.key)}


def client_context(ca: trustme.CA | None = None) -> ssl.SSLContext:
    """Context of a client that trusts the authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (ca or authority()).configure_trust(context)
    return context
