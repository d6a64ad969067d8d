"""What of TLS is refused before anything connects."""

from __future__ import annotations

import pytest
import trustme

from gateway.delivery.connect.tls import TlsOptions, check_tls
from gateway.errors import InvalidRequest
from tests.support.cases import every

NO_NAMES = [
    ".x", "x.", "a..b", "\0", "a\n", "a b", "é", "xn--é", "*", "x" * 64 + ".org", "x" * 254,
    "http://x", "[",
]  # fmt: skip


@every(NO_NAMES)
def test_a_server_name_is_that_of_a_host(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_tls(TlsOptions(server_name=name))
    assert refused.value.members["path"] == "tls.server_name"


@every(["siem.example.org", "localhost", "a_b.xn--p1ai", "203.0.113.7", "2001:db8::1", ""])
def test_names_and_addresses_are_names_of_servers(name: str) -> None:
    check_tls(TlsOptions(server_name=name))


@every(["no PEM", "é", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"])
def test_certificates_that_are_none_are_refused_with_their_path(pem: str) -> None:
    for member in ("ca", "cert"):
        with pytest.raises(InvalidRequest) as refused:
            check_tls(TlsOptions(**{member: pem}))
        assert refused.value.members["path"] == f"tls.{member}"


def test_a_key_among_the_certificates_is_refused_as_members_are_shown() -> None:
    pair = trustme.CA().issue_cert("client.example.org")
    chain = "".join(one.bytes().decode() for one in pair.cert_chain_pems)
    check_tls(TlsOptions(cert=chain))
    key = pair.private_key_pem.bytes().decode()
    with pytest.raises(InvalidRequest) as refused:
        check_tls(TlsOptions(cert=chain + key))
    assert refused.value.members["path"] == "tls.cert"
    assert key.splitlines()[1] not in refused.value.detail
