"""Keys in memory: the same work for every wrong key, and no decision that outlives a change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.keys import lifecycle
from gateway.keys.grant import Grant, parse_grant
from gateway.keys.key import Key
from gateway.keys.policy import Allowed, Denied
from gateway.keys.provisioning import new_key
from gateway.keys.role import Role
from gateway.keys.token import _checksum, new_token
from gateway.live import keyring as keyring_module
from gateway.live.keyring import Keyring
from gateway.store.sqlite_keys import SqliteKeys

PEPPER = b"p" * 32


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteKeys]:
    store = SqliteKeys(tmp_path / "keys.db")
    yield store
    await store.close()


@pytest.fixture
async def keyring(store: SqliteKeys, clock: Any) -> Keyring:
    keyring = Keyring(store, PEPPER, clock)
    await keyring.refresh()
    return keyring


async def made(store: SqliteKeys, clock: Any, *grants: Grant, **members: Any) -> tuple[Key, str]:
    key, token = new_key(
        name="n", purpose="p", owner="", grants=grants, now=clock.now(), life=3600.0,
        pepper=PEPPER, **members,
    )  # fmt: skip
    await store.create(key)
    return key, token


class Work:
    """Counts what an authentication costs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: SqliteKeys) -> None:
        self.done: list[str] = []
        for module, name in ((keyring_module, "digest"), (keyring_module, "same"), (store, "get")):
            self._count(monkeypatch, module, name)

    def _count(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            self.done.append(name)
            return original(*arguments)

        monkeypatch.setattr(owner, name, counted)

    def take(self) -> list[str]:
        done, self.done = self.done, []
        return done


def with_secret_of(token: str, other: str) -> str:
    """A key with the id of one and a secret that is not its own, with a right checksum."""
    body = token[:18] + other[18:61]
    return body + _checksum(body)


async def test_an_unknown_key_costs_exactly_what_a_wrong_secret_costs(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await made(store, clock)
    _, other = new_token()
    work = Work(monkeypatch, store)
    # Each first: neither is in memory yet.
    assert await keyring.authenticate(other) is None
    unknown = work.take()
    assert await keyring.authenticate(with_secret_of(token, other)) is None
    wrong = work.take()
    assert unknown == wrong == ["get", "digest", "same"]


async def test_a_known_key_costs_one_digest_and_one_comparison_right_or_wrong(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, token = await made(store, clock)
    assert await keyring.authenticate(token) == await store.get(key.id)
    _, other = new_token()
    work = Work(monkeypatch, store)
    for presented in (token, with_secret_of(token, other), token):
        await keyring.authenticate(presented)
        assert work.take() == ["digest", "same"]


async def test_junk_is_dropped_before_any_work(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the id in it is that of a key."""
    _, unknown = new_token()
    _, known = await made(store, clock)
    await keyring.authenticate(known)
    work = Work(monkeypatch, store)
    token = unknown
    for junk in ("", "x", "alpk_", token[:-1], token + "0", token[:-1] + "!", "é" * 67):
        assert await keyring.authenticate(junk) is None
    for token in (unknown, known):
        wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
        assert await keyring.authenticate(wrong) is None
    assert work.take() == []


async def test_a_revoked_key_is_still_recognised_so_that_it_can_be_told_so(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    key, token = await made(store, clock, grant("**"))
    await store.change(key.id, lambda key: lifecycle.revoke(key, clock.now(), "left"))
    found = await keyring.authenticate(token)
    assert found is not None
    assert keyring.decide(found, "stream", None) == Denied("key_revoked")


async def test_changes_are_known_after_a_refresh_without_reading_everything(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [await made(store, clock, grant("**")) for _ in range(5)]
    for key, _ in keys:
        await keyring.get(key.id)
    await keyring.refresh()
    changed = keys[2][0]
    await store.change(changed.id, lambda key: lifecycle.suspend(key, clock.now(), ""))
    work = Work(monkeypatch, store)
    changes = await keyring.refresh()
    assert [key.id for key in changes.keys] == [changed.id]
    assert work.take() == []
    states = {key.id: (await keyring.get(key.id)) for key, _ in keys}
    suspended = [key_id for key_id, key in states.items() if key and key.suspended_at is not None]
    assert suspended == [changed.id]


async def test_a_change_to_a_role_changes_the_decisions_of_its_keys(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    key, _ = await made(store, clock, roles=("team",))
    found = await keyring.get(key.id)
    assert found is not None
    assert keyring.decide(found, "stream", None) == Denied("action_not_granted")
    await store.put_role(Role(name="team", grants=(grant("auth.*"),)))
    assert (await keyring.refresh()).roles
    decision = keyring.decide(found, "stream", None)
    assert isinstance(decision, Allowed)
    assert decision.view.allowed[0].category == ("auth.*",)
    assert not (await keyring.refresh()).roles
    await store.delete_role("team")
    await keyring.refresh()
    assert keyring.decide(found, "stream", None) == Denied("action_not_granted")


async def test_a_key_that_was_found_before_it_changed_leaves_no_decision_behind(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    """A request may hold an older copy of the key for a moment."""
    key, _ = await made(store, clock, grant("**"))
    older = await keyring.get(key.id)
    assert older is not None
    narrowed = (grant("auth"),)
    await store.change(key.id, lambda key: msgspec.structs.replace(key, grants=narrowed))
    await keyring.refresh()
    assert isinstance(keyring.decide(older, "stream", None), Allowed)
    newer = await keyring.get(key.id)
    assert newer is not None
    decision = keyring.decide(newer, "stream", None)
    assert isinstance(decision, Allowed)
    assert decision.view.allowed[0].category == ("auth",)


async def test_hours_and_networks_are_looked_at_each_time(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    key, _ = await made(store, clock, grant("**", when={"cidr": ["10.0.0.0/8"]}))
    found = await keyring.get(key.id)
    assert found is not None
    for address, allowed in (("10.1.1.1", True), ("192.0.2.1", False), ("10.1.1.1", True)):
        assert isinstance(keyring.decide(found, "stream", address), Allowed) is allowed
