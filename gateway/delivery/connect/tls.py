"""TLS of connections to outside systems: 1.2 or newer, and always verified."""

from __future__ import annotations

import os
import re
import ssl
import tempfile
from functools import lru_cache
from pathlib import Path

import msgspec

from gateway.delivery.connect.addresses import literal_address
from gateway.errors import InvalidRequest

# As certificates name hosts; names in other letters are written in Punycode.
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*", re.ASCII)


class TlsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, repr_omit_defaults=True):
    """Own certification authority, client certificate and expected name, as PEM and text.

    `key` is the secret key of the certificate. Verification cannot be switched off.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    server_name: str = ""

    def __repr__(self) -> str:
        return f"TlsOptions(server_name={self.server_name!r})"


def check_tls(options: TlsOptions) -> None:
    """Raise `InvalidRequest` with the path of what cannot be used, whatever the key is."""
    name = options.server_name
    if name and not _HOST.fullmatch(name) and literal_address(name) is None:
        raise InvalidRequest(
            "tls.server_name: give the name in the certificate of the receiver, such as "
            "siem.example.org",
            code="invalid_destination",
            path="tls.server_name",
        )
    if "PRIVATE KEY" in options.cert:
        raise InvalidRequest(
            "tls.cert: leave out the key, as members are shown; send it as the secret tls_key",
            code="invalid_certificate",
            path="tls.cert",
        )
    for member in ("ca", "cert"):
        if pem := getattr(options, member):
            _authorities(pem, f"tls.{member}")


def _authorities(pem: str, path: str) -> ssl.SSLContext:
    """Context that trusts these certificates alone."""
    try:
        return ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError, TypeError):
        raise InvalidRequest(
            f"{path}: give one or more certificates in PEM, from -----BEGIN CERTIFICATE----- on",
            code="invalid_certificate",
            path=path,
        ) from None


def tls_context(options: TlsOptions) -> ssl.SSLContext:
    """Context for clients. Raises `InvalidRequest` where a certificate or key is none."""
    if not options.ca and not options.cert:
        return _plain_context()
    context = _authorities(options.ca, "tls.ca") if options.ca else ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.cert:
        _load_pair(context, options)
    return context


@lru_cache(1)
def _plain_context() -> ssl.SSLContext:
    # Shared, as the authorities of the machine take half a megabyte.
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load_pair(context: ssl.SSLContext, options: TlsOptions) -> None:
    """Load certificate and key, which OpenSSL only takes from files."""
    pem = f"{options.cert.strip()}\n{options.key.strip()}\n".encode()
    try:
        # Where there is such a thing, a file that is on no disk.
        if hasattr(os, "memfd_create"):
            with os.fdopen(os.memfd_create("certificate"), "wb") as file:
                file.write(pem)
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", password=_no_password)
        else:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "pair.pem")
                path.write_bytes(pem)
                context.load_cert_chain(path, password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        raise InvalidRequest(
            "tls.cert, tls.key: give a certificate with its chain and the key that belongs to it, "
            "both in PEM, the key without a password",
            code="invalid_certificate",
        ) from None


def _no_password() -> str:
    raise ValueError("keys with passwords are not taken")
