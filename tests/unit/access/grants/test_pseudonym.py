"""Pseudonyms: the same for the same, unrelated elsewhere, and gone with their secret."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants import pseudonym
from gateway.access.grants.pseudonym import (
    PseudonymDomain,
    Pseudonyms,
    PseudonymSecrets,
    SecretVersion,
    space_of,
    version_of,
)

SECRET = bytes(range(32))
_texts = st.text(max_size=20)


def test_a_pseudonym_has_its_version_and_128_bits() -> None:
    found = Pseudonyms(12, SECRET, "a").of("id", "acme", "u-1")
    assert version_of(found) == 12
    assert len(found) == len("ps12_") + 26
    for wrong in ("", "ps_" + "a" * 26, "ps0_" + "a" * 26, "ps1_" + "a" * 25, found + "a", "Ps1"):
        assert version_of(wrong) is None


def test_the_key_is_derived_as_rfc_5869_says() -> None:
    # Case 3 of its appendix has neither salt nor info.
    assert pseudonym._derived(b"\x0b" * 22, b"").hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    )


@given(_texts, _texts, _texts)
def test_the_same_value_has_the_same_pseudonym_everywhere_in_a_domain(
    space: str, tenant: str, value: str
) -> None:
    one, other = Pseudonyms(1, SECRET, "a"), Pseudonyms(1, SECRET, "a")
    assert one.of(space, tenant, value) == one.of(space, tenant, value)
    assert one.of(space, tenant, value) == other.of(space, tenant, value)


def test_pseudonyms_of_another_domain_tenant_space_version_or_secret_are_unrelated() -> None:
    found = {
        Pseudonyms(version, secret, domain).of(space, tenant, "u-1").partition("_")[2]
        for version in (1, 2)
        for secret in (SECRET, SECRET[::-1])
        for domain in ("a", "b")
        for space in ("id", "name")
        for tenant in ("acme", "globex")
    }
    assert len(found) == 32


def test_parts_of_what_is_digested_cannot_be_shifted() -> None:
    pseudonyms = Pseudonyms(1, SECRET, "a")
    assert pseudonyms.of("id", "acme", "x") != pseudonyms.of("id", "acm", "ex")
    assert pseudonyms.of("id", "acme", "") != pseudonyms.of("id", "", "acme")


def test_kept_pseudonyms_are_bounded_and_long_values_are_not_kept() -> None:
    pseudonym._kept.cache_clear()
    assert pseudonym._kept.cache_info().maxsize == pseudonym.MOST_KEPT
    pseudonyms = Pseudonyms(1, SECRET, "a")
    for length in (pseudonym.LONGEST_KEPT, pseudonym.LONGEST_KEPT + 1):
        assert pseudonyms.of("id", "acme", "x" * length) == pseudonyms.of(
            "id", "acme", "x" * length
        )
    assert pseudonym._kept.cache_info().currsize == 1


def test_a_domain_shows_no_secret_and_equals_those_that_make_the_same() -> None:
    secrets = PseudonymSecrets.of([SecretVersion(1, 0, SECRET)])
    domain = PseudonymDomain("siem", secrets)
    again = pickle.loads(pickle.dumps(domain))
    assert domain == again
    assert hash(domain) == hash(again)
    assert domain != PseudonymDomain("other", secrets)
    assert domain != PseudonymDomain("siem", secrets.rotated(SECRET[::-1], 5))
    for shown in (repr(domain), repr(secrets), str(secrets.versions[0])):
        assert repr(SECRET)[2:20] not in shown


def test_a_domain_has_the_pseudonyms_of_the_time_and_none_of_a_forgotten_version() -> None:
    secrets = PseudonymSecrets.of([SecretVersion(1, 0, SECRET)]).rotated(SECRET[::-1], 200)
    domain = PseudonymDomain("siem", secrets)
    first, second = domain.at(199), domain.at(200)
    assert first is not None
    assert second is not None
    assert (first.version, second.version) == (1, 2)
    assert PseudonymDomain("siem", secrets.without(1)).at(199) is None


@pytest.mark.parametrize(
    ("path", "space"),
    [
        ("actor.id", "id"), ("targets.id", "id"), ("actor.key_id", "id"), ("targets.name", "name"),
        ("source.ip", "ip"), ("targets.urn", "urn"), ("data.user.id", "id"), ("reason", "reason"),
        ("source.user_agent", "source.user_agent"), ("data.card", "data.card"),
    ],
)  # fmt: skip
def test_values_join_where_members_mean_the_same(path: str, space: str) -> None:
    assert space_of(path) == space


def test_an_event_has_the_version_that_held_when_it_was_recorded() -> None:
    secrets = PseudonymSecrets.of([SecretVersion(1, 100, SECRET)])
    rotated = secrets.rotated(SECRET[::-1], 200)
    assert [rotated.at(when).version for when in (0, 99, 100, 199, 200, 10**18)] == [
        1, 1, 1, 1, 2, 2,
    ]  # fmt: skip
    # Over a clock that went back, too, versions begin one after the other.
    assert rotated.rotated(SECRET, 150).versions[-1].begins == 201


def test_a_forgotten_version_has_no_secret_and_others_keep_theirs() -> None:
    secrets = PseudonymSecrets.of([SecretVersion(1, 100, SECRET)]).rotated(SECRET[::-1], 200)
    left = secrets.without(1)
    assert left.at(150) == SecretVersion(1, 100, None)
    assert left.at(250).secret == SECRET[::-1]


@pytest.mark.parametrize(
    "versions", [[], [(2, 1)], [(1, 1), (1, 2)], [(1, 5), (2, 5)], [(1, 9), (2, 5)]]
)
def test_versions_out_of_order_are_refused(versions: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="numbered"):
        PseudonymSecrets.of(SecretVersion(number, begins, b"") for number, begins in versions)
