"""Certificate of the listener, as its files have it. Blocking: call it on a thread.

Each pair is loaded into a context of its own, so that a wrong one harms no other.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.clock import format_time
from gateway.errors import InvalidSetting
from gateway.settings.tls import TlsSettings

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_LATE_SECONDS = 7 * 86400
_LATE_PART = 1 / 4
# Tags of DER (X.690).
_SEQUENCE, _UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x30, 0x17, 0x18, 0xA0


@dataclass(frozen=True)
class ServerCertificate:
    """Context for connections, and when the certificate is valid, in seconds since 1970."""

    context: ssl.SSLContext
    begins: float
    expires: float


class CertificateRefused(InvalidSetting):
    """A certificate, its key or the authorities of clients cannot be used; `setting` is which."""

    title = "Certificate refused"
    code = "certificate_refused"


def load_certificate(tls: TlsSettings) -> ServerCertificate:
    """Load the files that the settings name. Raises `CertificateRefused`."""
    text = _read("server.tls.certificate", tls.certificate)
    _, opening, rest = text.partition(_BEGIN)
    first, closing, _ = rest.partition(_END)
    if not closing:
        raise _refused(
            "server.tls.certificate", f"{tls.certificate} holds no certificate in PEM",
            "certificate_invalid",
        )  # fmt: skip
    _read("server.tls.key", tls.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(["http/1.1"])
    try:
        begins, expires = _validity(ssl.PEM_cert_to_DER_cert(opening + first + closing))
    except (ValueError, IndexError):
        raise _refused(
            "server.tls.certificate", f"the first certificate in {tls.certificate} cannot be read",
            "certificate_invalid",
        ) from None  # fmt: skip
    _load_pair(context, tls)
    if tls.client_ca:
        _read("server.tls.client_ca", tls.client_ca)
        try:
            context.load_verify_locations(tls.client_ca)
        except (ssl.SSLError, OSError):
            raise _refused(
                "server.tls.client_ca", f"{tls.client_ca} holds no certificates in PEM",
                "client_ca_invalid",
            ) from None  # fmt: skip
        context.verify_mode = ssl.CERT_REQUIRED
    return ServerCertificate(context, begins, expires)


def expiry_warning(certificate: ServerCertificate, now: float) -> str:
    """What an operator should know of the end of a certificate; empty if it is far away."""
    left = certificate.expires - now
    if left >= min(_LATE_SECONDS, (certificate.expires - certificate.begins) * _LATE_PART):
        return ""
    verb = "has expired" if left <= 0 else "expires"
    return f"the certificate {verb} at {format_time(certificate.expires)}: replace its files"


def is_open_to_others(path: str) -> bool:
    """Whether every user of the machine may read a file."""
    try:
        return bool(Path(path).stat().st_mode & 0o004)
    except OSError:
        return False


def _load_pair(context: ssl.SSLContext, tls: TlsSettings) -> None:
    asked = []

    def password() -> str:
        """OpenSSL asks for it on the terminal otherwise."""
        asked.append(True)
        return "none"

    try:
        context.load_cert_chain(tls.certificate, tls.key, password)
    except (ssl.SSLError, OSError) as error:
        if asked:
            raise _refused(
                "server.tls.key", f"{tls.key} is encrypted; remove its passphrase with "
                f"`openssl pkey -in {tls.key} -out FILE`, and let the gateway's user alone read it",
                "key_encrypted",
            ) from None  # fmt: skip
        reason = getattr(error, "reason", "") or ""
        if "MISMATCH" in reason:
            raise _refused(
                "server.tls.key", f"{tls.key} is not the key of the certificate in "
                f"{tls.certificate}; the server's own certificate has to stand first there",
                "key_mismatch",
            ) from None  # fmt: skip
        if "TOO_SMALL" in reason or "TOO_WEAK" in reason:
            raise _refused(
                "server.tls.certificate", f"{tls.certificate} is too weak for OpenSSL ({reason}); "
                "take ECDSA P-256, or RSA of 2048 bits and SHA-256", "certificate_weak",
            ) from None  # fmt: skip
        raise _refused(
            "server.tls.key", f"{tls.key} and {tls.certificate} do not hold a private key and a "
            "chain of certificates in PEM", "key_invalid",
        ) from None  # fmt: skip


def _read(setting: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except OSError as error:
        raise _refused(
            setting, f"{path} cannot be read: {error.strerror}; it has to be there and readable "
            "for the gateway's user", "file_unreadable",
        ) from None  # fmt: skip


def _refused(setting: str, why: str, reason: str) -> CertificateRefused:
    return CertificateRefused(f"{setting}: {why}", setting=setting, reason=reason)


def _validity(der: bytes) -> tuple[float, float]:
    """Begin and end of the validity of a certificate (RFC 5280, section 4.1). Raises ValueError."""
    fields = _inside(_inside(der, _SEQUENCE), _SEQUENCE)
    tag, _, rest = _element(fields)
    if tag == _VERSION:
        _, _, rest = _element(rest)
    # Behind the serial number: algorithm, issuer, validity.
    for _ in range(2):
        _, _, rest = _element(rest)
    tag, begin, rest = _element(_inside(rest, _SEQUENCE))
    begins = _time(tag, begin)
    tag, end, _ = _element(rest)
    return begins, _time(tag, end)


def _time(tag: int, time: bytes) -> float:
    if tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("no time")
    text = time.decode("ascii")
    if tag == _UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(data: bytes, wanted: int) -> bytes:
    tag, content, _ = _element(data)
    if tag != wanted:
        raise ValueError("no such element")
    return content


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what is behind it."""
    size, length = data[1], 2
    if size & 0x80:
        length += size & 0x7F
        size = int.from_bytes(data[2:length], "big")
    if length + size > len(data):
        raise ValueError("too short")
    return data[0], data[length : length + size], data[length + size :]
