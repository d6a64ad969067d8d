"""A token that was right is right without another look only while nothing about its key changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.credentials.token import digest, new_token
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.verified_tokens import VerifiedTokens
from gateway.adapters.sqlite.keys import SqliteKeys
from tests.unit.access.test_keyring import (
    COMING,
    NEXT,
    SWITCHED,
    Rotated,
    grant,
    keyring,
    made,
    rotated,
    store,
    with_secret_of,
)

__all__ = ["keyring", "rotated", "store"]

NOW = 1_700_000_000.0
Change = Callable[[Key], Key]
FORGOTTEN = Peppers((Pepper(NEXT),))


async def test_a_token_is_known_again_once_it_was_right(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    _, token = await made(store, clock)
    assert keyring.recall(token) is None
    key = await keyring.authenticate(token)
    assert key is not None
    assert keyring.recall(token) is key is keyring.cached(key.id)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: lifecycle.revoke(key, NOW, "left"),
        lambda key: lifecycle.suspend(key, NOW, ""),
        lambda key: lifecycle.throttle(key, NOW, NOW + 60),
        lambda key: msgspec.structs.replace(key, drains_until=NOW + 1, successor="another"),
        lambda key: msgspec.structs.replace(key, grants=(grant("auth.*"),)),
        lambda key: msgspec.structs.replace(key, digest=digest(b"p" * 32, "another")),
    ],
    ids=["revoked", "suspended", "throttled", "rotated", "regranted", "another digest"],
)  # fmt: skip
async def test_a_token_is_checked_again_when_its_key_has_changed(
    keyring: Keyring, store: SqliteKeys, clock: Any, change: Change
) -> None:
    made_key, token = await made(store, clock)
    await keyring.authenticate(token)
    changed = await store.change(made_key.id, change)
    await keyring.refresh()
    assert keyring.recall(token) is None
    found = await keyring.authenticate(token)
    if changed.digest == made_key.digest:
        assert found == changed
        assert keyring.recall(token) == changed
    else:
        assert found is None
        assert keyring.recall(token) is None


async def test_a_token_of_a_key_that_is_forgotten_is_checked_again(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    """As when the store has lost changes: the key may have been among them."""
    _, token = await made(store, clock)
    await keyring.authenticate(token)
    keyring._lose()
    await keyring.refresh()
    assert keyring.recall(token) is None
    assert await keyring.authenticate(token) is not None
    assert keyring.recall(token) is not None


@pytest.mark.parametrize("steps", [[COMING], [SWITCHED], [SWITCHED, FORGOTTEN]])
async def test_a_token_is_checked_again_when_the_peppers_have_changed(
    rotated: Rotated, store: SqliteKeys, clock: Any, steps: list[Peppers]
) -> None:
    _, token = await made(store, clock)
    await rotated.keyring.authenticate(token)
    assert rotated.keyring.recall(token) is not None
    for peppers in steps:
        await rotated.take(peppers)
    assert rotated.keyring.recall(token) is None


async def test_a_token_of_a_pepper_that_is_over_is_checked_each_time_until_its_key_has_moved(
    rotated: Rotated, store: SqliteKeys, clock: Any
) -> None:
    key, token = await made(store, clock)
    await rotated.take(SWITCHED)
    assert await rotated.keyring.authenticate(token) is not None
    assert rotated.keyring.recall(token) is None
    await rotated.keyring.refresh()
    moved = await rotated.keyring.authenticate(token)
    assert moved == await store.get(key.id)
    assert rotated.keyring.recall(token) is moved


async def test_a_token_of_a_forgotten_pepper_is_never_known_again(
    rotated: Rotated, store: SqliteKeys, clock: Any
) -> None:
    _, token = await made(store, clock)
    await rotated.keyring.authenticate(token)
    await rotated.take(SWITCHED)
    await rotated.take(FORGOTTEN)
    assert await rotated.keyring.authenticate(token) is None
    assert rotated.keyring.recall(token) is None


async def test_a_wrong_secret_is_never_known_however_often_it_is_tried(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    _, token = await made(store, clock)
    wrong = with_secret_of(token, new_token()[1])
    near = [token[:-1], token + "0", token.lower(), f" {token}", f"{token} ", "", "\udc80"]
    for _ in range(3):
        assert await keyring.authenticate(token) is not None
        for other in (wrong, *near):
            assert await keyring.authenticate(other) is None
            assert keyring.recall(other) is None
    assert keyring.recall(token) is not None


def key_of(number: int) -> Key:
    return Key(
        id=f"k{number}", digest=b"", name="", purpose="", created_at=0.0, expires_at=0.0
    )  # fmt: skip


def test_so_many_are_held_and_the_first_is_forgotten_first() -> None:
    tokens = VerifiedTokens(most=3)
    for number in range(5):
        tokens.add(f"t{number}", key_of(number))
    held = [tokens.key_of(f"t{number}") for number in range(5)]
    assert held == [None, None, key_of(2), key_of(3), key_of(4)]
    # One that is checked again takes no second place.
    tokens.add("t4", key_of(5))
    held = [tokens.key_of(f"t{number}") for number in range(5)]
    assert held == [None, None, key_of(2), key_of(3), key_of(5)]


def test_no_token_stays_in_memory_and_no_other_process_has_the_same_values() -> None:
    one, other = VerifiedTokens(), VerifiedTokens()
    _, token = new_token()
    for tokens in (one, other):
        tokens.add(token, key_of(1))
    [value], [same] = one._keys, other._keys
    assert token.encode() not in value
    assert value != same
    assert len(value) == 32
