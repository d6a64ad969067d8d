"""Certificates of the listener: what is refused, when, and what is served meanwhile."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from gateway.http.tls.certificate import CertificateRefused, load_certificate
from gateway.http.tls.certificates import GRACE_SECONDS, Certificates
from gateway.settings.tls import TlsSettings
from tests.support.certificates import PairFiles, issue

if TYPE_CHECKING:
    from tests.conftest import FakeClock


@pytest.fixture
def pair(tmp_path: Path) -> PairFiles:
    return PairFiles(tmp_path)


def refused(pair: PairFiles, **settings: str) -> CertificateRefused:
    with pytest.raises(CertificateRefused) as caught:
        load_certificate(TlsSettings(**{**pair.settings, **settings}))
    assert "\n" not in caught.value.detail
    return caught.value


def reason(pair: PairFiles, **settings: str) -> tuple[str, str]:
    error = refused(pair, **settings)
    assert error.detail.startswith(f"{error.members['setting']}: ")
    return error.members["setting"], error.members["reason"]


def test_the_end_of_a_certificate_is_that_in_the_file(pair: PairFiles) -> None:
    for expires in (1_900_000_000.0, 2_600_000_000.0):
        pair.write(*issue(expires=expires))
        assert load_certificate(TlsSettings(**pair.settings)).expires == expires


def test_what_cannot_be_used_names_its_setting(pair: PairFiles, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert reason(pair, certificate=missing) == ("server.tls.certificate", "file_unreadable")
    assert reason(pair, key=missing) == ("server.tls.key", "file_unreadable")
    assert reason(pair, client_ca=missing) == ("server.tls.client_ca", "file_unreadable")
    assert reason(pair, key=str(tmp_path)) == ("server.tls.key", "file_unreadable")
    assert reason(pair, client_ca=str(pair.key)) == ("server.tls.client_ca", "client_ca_invalid")
    assert reason(pair, key=str(pair.certificate)) == ("server.tls.key", "key_invalid")
    assert reason(pair, certificate=str(pair.key)) == (
        "server.tls.certificate", "certificate_invalid",
    )  # fmt: skip
    pair.key.write_text(issue()[1])
    assert reason(pair) == ("server.tls.key", "key_mismatch")


def test_an_encrypted_key_is_refused_and_nothing_asks_for_its_passphrase(pair: PairFiles) -> None:
    encrypted = pair.key.with_name("encrypted.key")
    subprocess.run(
        ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:a", "-out", encrypted],
        check=True,
    )
    assert reason(pair, key=str(encrypted)) == ("server.tls.key", "key_encrypted")
    assert "openssl pkey" in refused(pair, key=str(encrypted)).detail


def test_a_key_that_cannot_be_read_is_refused(pair: PairFiles) -> None:
    # Not by its mode: root reads every file.
    pair.key.unlink()
    pair.key.mkdir()
    assert "Is a directory" in refused(pair).detail


def test_every_part_of_a_pair_that_is_being_written_is_refused_or_whole(pair: PairFiles) -> None:
    certificate = pair.certificate.read_text()
    whole = load_certificate(TlsSettings(**pair.settings)).expires
    for size in range(0, len(certificate), 41):
        pair.certificate.write_text(certificate[:size])
        try:
            found = load_certificate(TlsSettings(**pair.settings))
        except CertificateRefused:
            continue
        # The chain behind the first certificate is not whole.
        assert found.expires == whole


async def test_a_half_written_pair_is_told_of_only_if_it_stays(
    pair: PairFiles, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    async def tell(error: CertificateRefused) -> None:
        told.append(error.members["reason"])

    certificates = Certificates(TlsSettings(**pair.settings), clock, tell)
    first = certificates.context
    second, third = issue(), issue()
    pair.certificate.write_text(second[0])
    await certificates.poll()
    assert (certificates.context, told) == (first, [])
    pair.key.write_text(second[1])
    await certificates.poll()
    assert certificates.context is not first
    now = certificates.context
    pair.certificate.write_text(third[0])
    await certificates.poll()
    clock.tick(GRACE_SECONDS)
    for _ in range(3):
        await certificates.poll()
    assert told == ["key_mismatch"]
    assert certificates.context is now
    refused_lines = [one for one in caplog.records if "refused" in one.message]
    assert len(refused_lines) == 1
    assert "refused (key_mismatch)" in next(certificates.warnings())[1]
    assert str(pair.key) not in next(certificates.warnings())[1]


async def test_a_signal_tells_of_a_wrong_pair_at_once_and_takes_an_equal_one_again(
    pair: PairFiles, clock: FakeClock
) -> None:
    told: list[str] = []

    async def tell(error: CertificateRefused) -> None:
        told.append(error.members["reason"])

    certificates = Certificates(TlsSettings(**pair.settings), clock, tell)
    first = certificates.context
    await certificates.poll()
    assert certificates.context is first
    certificates.reload()
    await certificates.poll()
    assert certificates.context is not first
    key = pair.key.read_text()
    pair.key.write_text("")
    certificates.reload()
    await certificates.poll()
    assert told == ["key_invalid"]
    pair.key.write_text(key)
    await certificates.poll()
    assert [*certificates.warnings()] == []


async def test_a_certificate_near_its_end_is_warned_of(pair: PairFiles, clock: FakeClock) -> None:
    async def tell(error: CertificateRefused) -> None: ...

    pair.write(*issue(expires=clock.now() + 30 * 86400))
    certificates = Certificates(TlsSettings(**pair.settings), clock, tell)
    assert [*certificates.warnings()] == []
    clock.tick(24 * 86400)
    assert "the certificate expires at" in next(certificates.warnings())[1]
    clock.tick(6 * 86400)
    assert "the certificate has expired at" in next(certificates.warnings())[1]


def test_a_certificate_may_stand_in_one_file_with_its_key(pair: PairFiles) -> None:
    both = trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.bytes().decode()
    pair.certificate.write_text(both)
    load_certificate(TlsSettings(**{**pair.settings, "key": str(pair.certificate)}))
