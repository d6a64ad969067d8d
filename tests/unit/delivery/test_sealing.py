"""Secrets of destinations are sealed under the pepper, and for one place."""

from __future__ import annotations

from msgspec.structs import replace

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.delivery.definition import Definition
from gateway.delivery.destination import (
    Destination,
    valid_secrets,
    with_secret,
    without_ended_secrets,
)
from gateway.delivery.sealing import resealed, seal, unseal

FIRST, SECOND = Pepper(bytes(32)), Pepper(b"\x01" * 32)
ONE = Peppers((FIRST,))
ROTATED = Peppers((SECOND, Pepper(FIRST.secret, "previous")))


def destination(**members: object) -> Destination:
    definition = Definition(name="siem", type="http", key="k" * 12)
    return Destination(definition=definition, since=1.0, created_at=1.0, **members)  # type: ignore[arg-type]


def test_a_sealed_value_opens_at_its_place_alone_and_shows_nothing() -> None:
    sealed = seal("s3cret", "siem", "token", FIRST, 5.0)
    assert unseal(sealed, "siem", "token", ONE) == "s3cret"
    assert unseal(sealed, "other", "token", ONE) is None
    assert unseal(sealed, "siem", "password", ONE) is None
    assert unseal(sealed, "siem", "token", Peppers((SECOND,))) is None
    damaged = replace(sealed, sealed=sealed.sealed[:-1] + b"x")
    assert unseal(damaged, "siem", "token", ONE) is None
    assert b"s3cret" not in sealed.sealed
    again = seal("s3cret", "siem", "token", FIRST, 5.0)
    assert again.sealed != sealed.sealed
    assert again.fingerprint == sealed.fingerprint
    assert seal("other", "siem", "token", FIRST, 5.0).fingerprint != sealed.fingerprint


def test_after_a_rotation_of_the_pepper_all_are_sealed_under_the_new_one() -> None:
    made = destination()
    for value in ("old", "new"):
        secret = seal(value, "siem", "token", FIRST, 5.0)
        made = with_secret(made, "token", secret, 60.0, 10.0)
    after = resealed(made, ROTATED)
    only = Peppers((SECOND,))
    opened = [unseal(one, "siem", "token", only) for one in after.secrets["token"]]
    assert opened == ["new", "old"]
    assert [one.until for one in after.secrets["token"]] == [0.0, 70.0]
    assert resealed(after, ROTATED) is after
    # What cannot be opened stays as it is.
    assert resealed(made, only) is made


def test_a_value_that_counts_no_more_is_left_out() -> None:
    made = destination()
    for value in ("a", "b"):
        made = with_secret(made, "token", seal(value, "siem", "token", FIRST, 0), 30.0, 100.0)
    assert without_ended_secrets(made, 129.0) is made
    [only] = without_ended_secrets(made, 130.0).secrets["token"]
    assert unseal(only, "siem", "token", ONE) == "b"


def test_a_replaced_value_counts_for_its_overlap() -> None:
    made = destination()
    for value, overlap in (("a", 0.0), ("b", 30.0), ("c", 30.0)):
        made = with_secret(made, "token", seal(value, "siem", "token", FIRST, 0), overlap, 100.0)
    assert len(made.secrets["token"]) == 2
    assert len(valid_secrets(made, "token", 129.9)) == 2
    [newest] = valid_secrets(made, "token", 130.0)
    assert unseal(newest, "siem", "token", ONE) == "c"
    made = with_secret(made, "token", seal("d", "siem", "token", FIRST, 0), 0.0, 131.0)
    assert len(made.secrets["token"]) == 1
