"""Keys in memory: the same work for every wrong key, and no decision that outlives a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from gateway.access import keyring as keyring_module
from gateway.access.credentials.pepper import Pepper, Peppers, pepper_id
from gateway.access.credentials.token import _checksum, digest, new_token
from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.grants.role import Role
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import new_key
from gateway.access.keys.key import Key
from gateway.access.policy.decision import Allowed, Denied
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import TooManyRequests, Unavailable

PEPPER = b"p" * 32
PEPPERS = Peppers((Pepper(PEPPER),))


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteKeys]:
    store = SqliteKeys(tmp_path / "keys.db")
    yield store
    await store.close()


@pytest.fixture
async def keyring(store: SqliteKeys, clock: Any) -> Keyring:
    keyring = Keyring(store, lambda: PEPPERS, clock)
    await keyring.refresh()
    return keyring


async def made(store: SqliteKeys, clock: Any, *grants: Grant, **members: Any) -> tuple[Key, str]:
    key, token = new_key(
        name="n", purpose="p", owner="o", grants=grants, now=clock.now(), life=3600.0,
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
    # Again: by now the key is in memory, which must not make it faster to be wrong about it.
    assert await keyring.authenticate(other) is None
    unknown = work.take()
    assert await keyring.authenticate(with_secret_of(token, other)) is None
    wrong = work.take()
    assert sorted(unknown) == sorted(wrong) == ["digest", "get", "same"]


@pytest.mark.parametrize("state", ["active", "revoked", "suspended", "expired"])
async def test_a_wrong_secret_costs_the_same_whatever_the_state_of_the_key(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    key, token = await made(store, clock)
    now = clock.now()
    if state == "revoked":
        await store.change(key.id, lambda key: lifecycle.revoke(key, now, ""))
    elif state == "suspended":
        await store.change(key.id, lambda key: lifecycle.suspend(key, now, ""))
    elif state == "expired":
        clock.tick(400 * 86400)
    _, other = new_token()
    work = Work(monkeypatch, store)
    await keyring.authenticate(other)
    unknown = work.take()
    for _ in range(3):
        assert await keyring.authenticate(with_secret_of(token, other)) is None
        assert sorted(work.take()) == sorted(unknown)


async def test_a_known_key_costs_one_digest_and_one_comparison_and_no_look_up(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, token = await made(store, clock)
    assert await keyring.authenticate(token) == await store.get(key.id)
    work = Work(monkeypatch, store)
    for _ in range(3):
        await keyring.authenticate(token)
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


class Failures:
    """Counts what failed, and from some number on raises instead."""

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most

    async def __call__(self) -> None:
        if self.count >= self._most:
            raise TooManyRequests("too many")
        self.count += 1


async def test_wrong_keys_beyond_what_may_fail_cost_no_look_up_and_right_ones_still_pass(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, known = await made(store, clock)
    _, unused = await made(store, clock)
    await keyring.refresh()
    await keyring.authenticate(known)
    _, other = new_token()
    failures = Failures(3)
    work = Work(monkeypatch, store)
    wrong = (other, with_secret_of(known, other), "junk")
    for token in wrong:
        assert await keyring.authenticate(token, failures) is None
    assert failures.count == 3
    assert work.take().count("get") == 2
    for token in wrong[:2]:
        with pytest.raises(TooManyRequests):
            await keyring.authenticate(token, failures)
        assert work.take() == ["digest", "same"]
    assert await keyring.authenticate(known, failures) is not None
    assert await keyring.authenticate(unused, failures) is not None
    # One that was made elsewhere has its turn as soon as that is known.
    _, new = await made(store, clock)
    with pytest.raises(TooManyRequests):
        await keyring.authenticate(new, failures)
    await keyring.refresh()
    assert await keyring.authenticate(new, failures) is not None


async def test_many_wrong_keys_at_once_cost_no_more_look_ups_than_may_fail(
    keyring: Keyring, store: SqliteKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(monkeypatch, store)
    failures = Failures(5)
    tokens = [new_token()[1] for _ in range(100)]
    answers = await asyncio.gather(
        *(keyring.authenticate(token, failures) for token in tokens), return_exceptions=True
    )
    assert sum(isinstance(answer, TooManyRequests) for answer in answers) == 95
    assert work.take().count("get") == 5


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
    await store.put_role(Role(name="team"))
    key, _ = await made(store, clock, roles=("team",))
    found = await keyring.get(key.id)
    assert found is not None
    assert keyring.decide(found, "stream", None) == Denied("action_not_granted")
    await store.put_role(Role(name="team", grants=(grant("auth.*"),)))
    assert (await keyring.refresh()).roles
    decision = keyring.decide(found, "stream", None)
    assert isinstance(decision, Allowed)
    assert decision.view.scopes[0].category == ("auth.*",)
    assert not (await keyring.refresh()).roles
    await store.delete_role("team")
    await keyring.refresh()
    found = await keyring.get(key.id)
    assert found is not None
    assert keyring.decide(found, "stream", None) == Denied("action_not_granted")


async def test_a_change_to_a_role_looks_at_no_other_keys(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a hundred thousand of them, and streams wait meanwhile."""

    class Unwalked(dict[str, Key]):
        def values(self) -> Any:
            raise AssertionError("all keys are looked at")

        __iter__ = items = keys = values

    await store.put_role(Role(name="other", grants=(grant("auth"),)))
    await store.put_role(Role(name="team"))
    kept, _ = await made(store, clock, roles=("other",))
    changed, _ = await made(store, clock, roles=("other", "team"))
    await keyring.refresh()
    keys = {key.id: await keyring.get(key.id) for key in (kept, changed)}
    before = {name: keyring.decide(key, "stream", None) for name, key in keys.items() if key}
    monkeypatch.setattr(keyring, "_keys", Unwalked(keyring._keys))
    await store.put_role(Role(name="team", grants=(grant("billing"),)))
    await keyring.refresh()
    after = {name: keyring.decide(key, "stream", None) for name, key in keys.items() if key}
    assert after[kept.id] is before[kept.id]
    assert categories(after[changed.id]) == [("auth",), ("billing",)]


def categories(decision: Allowed | Denied) -> list[tuple[str, ...]]:
    return [one.category for one in decision.view.scopes] if isinstance(decision, Allowed) else []


async def test_roles_that_a_key_is_given_or_loses_count_from_then_on(
    keyring: Keyring, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However a key came into memory: read, changed, or read again after it had to make place."""
    monkeypatch.setattr(keyring_module, "_MOST_CACHED", 2)
    for name in "abc":
        await store.put_role(Role(name=name))
    key, _ = await made(store, clock, roles=("a", "b"))

    async def decided() -> list[tuple[str, ...]]:
        await keyring.refresh()
        found = await keyring.get(key.id)
        assert found is not None
        return categories(keyring.decide(found, "stream", None))

    async def put(name: str, category: str) -> None:
        await store.put_role(Role(name=name, grants=(grant(category),)))

    await put("a", "a1")
    assert await decided() == [("a1",)]
    await put("b", "b1")
    assert await decided() == [("a1",), ("b1",)]
    await store.change(key.id, lambda key: msgspec.structs.replace(key, roles=("b", "c", "c")))
    assert await decided() == [("b1",)]
    await put("c", "c1")
    assert await decided() == [("b1",), ("c1",)]
    await put("a", "a2")
    await put("b", "b2")
    assert await decided() == [("b2",), ("c1",)]
    for _ in range(2):
        other, _ = await made(store, clock, roles=("c",))
        await keyring.get(other.id)
    assert keyring.cached(key.id) is None
    assert await decided() == [("b2",), ("c1",)]
    await put("c", "c2")
    assert await decided() == [("b2",), ("c2",)]
    for name in "abc":
        await store.delete_role(name)
    assert await decided() == []


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
    assert decision.view.scopes[0].category == ("auth",)


async def test_hours_and_networks_are_looked_at_each_time(
    keyring: Keyring, store: SqliteKeys, clock: Any
) -> None:
    key, _ = await made(store, clock, grant("**", when={"cidr": ["10.0.0.0/8"]}))
    found = await keyring.get(key.id)
    assert found is not None
    for address, allowed in (("10.1.1.1", True), ("192.0.2.1", False), ("10.1.1.1", True)):
        assert isinstance(keyring.decide(found, "stream", address), Allowed) is allowed


# Peppers

NEXT = b"n" * 32


class Rotated:
    """A keyring whose peppers a test changes as the file of them would."""

    def __init__(self, store: SqliteKeys, clock: Any) -> None:
        self.peppers = PEPPERS
        self.keyring = Keyring(store, lambda: self.peppers, clock)

    async def take(self, peppers: Peppers) -> None:
        self.peppers = peppers
        await self.keyring.refresh()


@pytest.fixture
def rotated(store: SqliteKeys, clock: Any) -> Rotated:
    return Rotated(store, clock)


COMING = PEPPERS.with_coming(NEXT)
SWITCHED = COMING.switched(leaked=False)


@pytest.mark.parametrize("leaked", [True, False])
async def test_a_key_in_use_moves_to_the_current_pepper_and_needs_the_former_no_more(
    rotated: Rotated, store: SqliteKeys, clock: Any, leaked: bool
) -> None:
    key, token = await made(store, clock, grant("**"))
    await rotated.take(COMING.switched(leaked=leaked))
    assert await rotated.keyring.authenticate(token) is not None
    moved = await store.get(key.id)
    assert moved is not None
    assert (moved.pepper, moved.digest) == (pepper_id(NEXT), digest(NEXT, token))
    assert (moved.change, moved.changed_by) == ("rehashed", "gateway")
    assert msgspec.structs.replace(
        moved, pepper=key.pepper, digest=key.digest, change=key.change, changed_at=key.changed_at,
        revision=key.revision,
    ) == key  # fmt: skip
    await rotated.take(Peppers((Pepper(NEXT),)))
    assert await rotated.keyring.authenticate(token) == moved


async def test_a_key_moves_once_however_often_it_is_used(
    rotated: Rotated, store: SqliteKeys, clock: Any
) -> None:
    key, token = await made(store, clock)
    await rotated.take(SWITCHED)
    for _ in range(3):
        await asyncio.gather(*(rotated.keyring.authenticate(token) for _ in range(5)))
    changes = [change.action for change in (await store.unrecorded(100)).values()]
    assert changes == ["key.created", "key.rehashed"]
    await rotated.keyring.refresh()
    before = await store.newest_revision()
    assert await rotated.keyring.authenticate(token) == await store.get(key.id)
    assert await store.newest_revision() == before


async def test_a_key_from_before_peppers_had_ids_moves_too(
    rotated: Rotated, store: SqliteKeys, clock: Any
) -> None:
    key, token = await made(store, clock)
    await store.change(key.id, lambda key: msgspec.structs.replace(key, pepper=""))
    await rotated.take(SWITCHED)
    assert await rotated.keyring.authenticate(token) is not None
    moved = await store.get(key.id)
    assert moved is not None
    assert moved.pepper == pepper_id(NEXT)


async def test_a_coming_pepper_is_known_before_anything_is_made_with_it(
    rotated: Rotated, store: SqliteKeys, clock: Any
) -> None:
    """Another process has switched already; this one must not move its keys back."""
    _, old = await made(store, clock)
    new, token = new_key(
        name="n", purpose="p", owner="o", grants=(), now=clock.now(), life=3600.0, pepper=NEXT
    )
    await store.create(new)
    await rotated.take(PEPPERS)
    assert await rotated.keyring.authenticate(token) is None
    await rotated.take(COMING)
    assert await rotated.keyring.authenticate(token) == await store.get(new.id)
    assert await rotated.keyring.authenticate(old) is not None
    assert [change.action for change in (await store.unrecorded(9)).values()] == ["key.created"] * 2


async def test_under_every_pepper_a_wrong_secret_costs_what_an_unknown_key_costs(
    rotated: Rotated, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, token = await made(store, clock)
    _, other = new_token()
    await rotated.take(SWITCHED)
    work = Work(monkeypatch, store)
    assert await rotated.keyring.authenticate(other) is None
    unknown = work.take()
    assert await rotated.keyring.authenticate(with_secret_of(token, other)) is None
    assert work.take() == unknown == ["get", "digest", "same"]
    # A wrong secret moves nothing.
    assert [change.action for change in (await store.unrecorded(9)).values()] == ["key.created"]


async def test_a_key_whose_pepper_is_forgotten_is_unknown(
    rotated: Rotated, store: SqliteKeys, clock: Any
) -> None:
    _, token = await made(store, clock)
    await rotated.take(Peppers((Pepper(NEXT),)))
    assert await rotated.keyring.authenticate(token) is None


async def test_what_ends_soon_or_is_held_back_stays_where_it_is(
    rotated: Rotated, store: SqliteKeys, clock: Any
) -> None:
    now = clock.now()
    changes = (
        lambda key: lifecycle.suspend(key, now, ""),
        lambda key: lifecycle.revoke(key, now, ""),
        lambda key: lifecycle.throttle(key, now, now + 60),
        lambda key: msgspec.structs.replace(key, drains_until=now + 60),
    )
    await rotated.take(SWITCHED)
    for change in changes:
        key, token = await made(store, clock)
        before = await store.change(key.id, change)
        assert await rotated.keyring.authenticate(token) == before
        assert await store.get(key.id) == before


async def test_a_key_works_while_it_cannot_be_moved(
    rotated: Rotated, store: SqliteKeys, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, token = await made(store, clock)
    await rotated.take(SWITCHED)

    async def unmoved() -> Key:
        found = await store.get(key.id)
        assert found is not None
        return found

    async def fail(*_: Any, **__: Any) -> None:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as outage:
        outage.setattr(store, "change", fail)
        assert await rotated.keyring.authenticate(token) == await store.get(key.id)
    # Requests do not wait for an ailing store one after the other.
    await rotated.keyring.authenticate(token)
    assert (await unmoved()).pepper == pepper_id(PEPPER)
    clock.tick(10)
    assert await rotated.keyring.authenticate(token) is not None
    moved = await store.get(key.id)
    assert moved is not None
    assert moved.pepper == pepper_id(NEXT)


@pytest.mark.parametrize("store_is_away", [False, True])
async def test_nothing_is_known_any_more_when_the_store_has_lost_changes(
    keyring: Keyring, store: SqliteKeys, clock: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, store_is_away: bool,
) -> None:  # fmt: skip
    await store.put_role(Role(name="team", grants=(grant("auth.*"),)))
    key, _ = await made(store, clock, roles=("team", "auditor"))
    await keyring.refresh()
    before = (tmp_path / "before.db").as_posix()
    connection = apsw.Connection(str(tmp_path / "keys.db"))
    connection.execute("VACUUM INTO ?", (before,))
    connection.close()
    await store.change(key.id, lambda found: lifecycle.revoke(found, clock.now(), "lost"))
    await store.put_role(Role(name="lost", grants=(grant("x"),)))
    await store.delete_role("team")
    await keyring.refresh()
    found = await keyring.get(key.id)
    assert found is not None
    assert found.revoked_at is not None

    # As after a failover to a server that had not heard of the last changes.
    lagging = SqliteKeys(tmp_path / "before.db")
    keyring._store = lagging
    _, new = await made(lagging, clock)
    if store_is_away:

        async def away() -> int:
            raise Unavailable("away")

        with monkeypatch.context() as patch:
            patch.setattr(lagging, "newest_revision", away)
            with pytest.raises(Unavailable):
                await keyring.refresh()
        assert await keyring.get(key.id) is found, "as long as nothing else can be known"
    changes = await keyring.refresh()
    assert changes.roles >= {"team", "lost"}
    again = await keyring.get(key.id)
    assert again is not None
    assert again.revoked_at is None
    assert isinstance(keyring.decide(again, "stream", None), Allowed)
    assert await keyring.authenticate(new, Failures(0)) is not None
    # What comes next is seen.
    await lagging.change(key.id, lambda found: lifecycle.revoke(found, clock.now(), "anew"))
    assert [changed.id for changed in (await keyring.refresh()).keys] == [key.id]
    assert not (await keyring.refresh()).roles
    await lagging.close()
