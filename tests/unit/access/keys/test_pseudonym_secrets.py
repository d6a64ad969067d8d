"""Secrets of pseudonyms as they are stored: sealed, in versions, and gone once forgotten."""

from __future__ import annotations

import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.pseudonym import PseudonymSecrets
from gateway.access.keys import pseudonym_secrets as stored
from gateway.access.keys.key_store import Noting
from gateway.errors import Conflict, NotFound

OLD, NEW = Pepper(b"p" * 32), Pepper(b"q" * 32)
PEPPERS = Peppers((OLD,))
NOW = 1_700_000_000_000_000
LATER = NOW + stored.LEARN_MICROS


def after(*changes: Noting) -> bytes:
    document: bytes | None = None
    for change in changes:
        document = change(document)
    assert document is not None
    return document


def opened(document: bytes, peppers: Peppers = PEPPERS) -> PseudonymSecrets:
    found = stored.opened(document, peppers)
    assert found is not None
    return found


def test_the_first_secret_holds_from_the_beginning_and_is_made_once() -> None:
    first = after(stored.begun(OLD.secret))
    assert stored.begun(OLD.secret)(first) == first
    [version] = opened(first).versions
    assert (version.version, version.begins) == (1, 0)
    assert version.secret is not None
    assert len(version.secret) == 32
    assert version.secret not in first
    assert stored.opened(None, PEPPERS) is None


def test_a_rotation_begins_when_every_process_knows_it_and_never_before_the_last() -> None:
    first = after(stored.begun(OLD.secret))
    second = stored.rotated(OLD.secret, NOW)(first)
    third = stored.rotated(OLD.secret, NOW - 10**9)(second)
    assert second is not None
    assert third is not None
    versions = opened(third).versions
    assert [(one.version, one.begins) for one in versions] == [(1, 0), (2, LATER), (3, LATER + 1)]
    assert len({one.secret for one in versions}) == 3
    assert versions[:1] == opened(first).versions
    # There is nothing to wait for where there was none.
    only = stored.rotated(OLD.secret, NOW)(None)
    assert only is not None
    assert [one.begins for one in opened(only).versions] == [0]


def test_a_forgotten_secret_is_nowhere_and_one_in_use_is_kept() -> None:
    both = after(stored.begun(OLD.secret), stored.rotated(OLD.secret, NOW))
    for version, now in ((2, LATER), (1, LATER - 1)):
        with pytest.raises(Conflict, match="in use"):
            stored.forgotten(version, now)(both)
    for version in (0, 3, -1):
        with pytest.raises(NotFound):
            stored.forgotten(version, LATER)(both)
    with pytest.raises(NotFound):
        stored.forgotten(1, LATER)(None)
    left = stored.forgotten(1, LATER)(both)
    assert left is not None
    assert len(left) < len(both)
    assert opened(left) == opened(both).without(1)
    assert [one.forgotten for one in stored.standings(left)] == [True, False]
    assert stored.standings(None) == []


def test_secrets_move_to_the_current_pepper_and_are_missed_without_theirs() -> None:
    both = after(stored.begun(OLD.secret), stored.rotated(OLD.secret, NOW))
    rotated = Peppers((NEW, Pepper(OLD.secret, "previous")))
    moved = stored.resealed(rotated)(both)
    assert moved is not None
    assert {one.pepper for one in stored.standings(moved)} == {NEW.id}
    assert opened(moved, Peppers((NEW,))) == opened(both)
    assert stored.resealed(rotated)(moved) == moved
    assert stored.resealed(rotated)(None) is None
    # What cannot be opened here is kept for whoever has the pepper.
    missing = Peppers((NEW,))
    assert [one.secret for one in opened(both, missing).versions] == [None, None]
    assert stored.resealed(missing)(both) == both


def test_a_secret_sealed_for_one_version_opens_as_no_other() -> None:
    both = after(stored.begun(OLD.secret), stored.rotated(OLD.secret, NOW))
    first, second = stored._DECODE(both)
    swapped = stored._ENCODE([
        stored._SealedVersion(1, 0, OLD.id, second.sealed),
        stored._SealedVersion(2, LATER, OLD.id, first.sealed),
    ])  # fmt: skip
    assert [one.secret for one in opened(swapped).versions] == [None, None]
