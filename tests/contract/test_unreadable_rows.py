"""Rows of a newer version that cannot be read concern themselves alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.grants.role import Role
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle, unreadable
from gateway.access.keys.change import Change
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import KeyStore
from gateway.access.policy.attributed_grant import grants_of_key
from gateway.access.policy.decision import Allowed, Denied
from gateway.errors import Conflict
from gateway.ingest.gateway_event import KEYS, new_gateway_event
from gateway.oversight.review.explain import AccessQuery, explain

NOW = 1_700_000_000.0
# As a newer version may write what is text now.
NEWER: Any = {"en": "name"}


def grant(**members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": ["auth"], **members})


def key(key_id: str, **members: Any) -> Key:
    made = Key(
        id=key_id, digest=b"d" * 32, name="n", purpose="p", owner="o", grants=(grant(),),
        created_at=NOW - 60, expires_at=NOW + 86400,
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)


def decided(keyring: Keyring, found: Key | None) -> Allowed | Denied:
    assert found is not None
    return keyring.decide(found, "stream", None)


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """Each version of a row is warned of once in a process."""
    unreadable._warn_of_version.cache_clear()


@pytest.fixture
def keyring(keys: KeyStore, clock: Any) -> Keyring:
    return Keyring(keys, lambda: Peppers((Pepper(b"p" * 32),)), clock)


async def test_a_key_that_cannot_be_read_is_denied_and_named_and_the_others_go_on(
    keys: KeyStore, keyring: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    await keyring.refresh()
    await keys.create(key("aaaaaaaaaaaa", purpose=NEWER))
    await keys.create(key("bbbbbbbbbbbb"))
    changes = await keyring.refresh()
    assert [one.id for one in changes.keys] == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    first, second = await keyring.get("aaaaaaaaaaaa"), await keyring.get("bbbbbbbbbbbb")
    assert decided(keyring, first) == Denied("key_unreadable")
    assert isinstance(decided(keyring, second), Allowed)
    assert "aaaaaaaaaaaa" in caplog.text
    [shown, other] = [one.public(NOW) for one in await keys.all()]
    assert (shown.state, shown.name) == ("unreadable", "n")
    assert "purpose" in shown.unreadable
    assert (other.state, other.unreadable) == ("active", "")


async def test_a_known_key_that_is_changed_by_a_newer_version_is_denied(
    keys: KeyStore, keyring: Keyring
) -> None:
    await keys.create(key("aaaaaaaaaaaa"))
    await keyring.refresh()
    assert isinstance(decided(keyring, await keyring.get("aaaaaaaaaaaa")), Allowed)
    await keys.change("aaaaaaaaaaaa", lambda one: msgspec.structs.replace(one, owner=NEWER))
    await keyring.refresh()
    assert decided(keyring, await keyring.get("aaaaaaaaaaaa")) == Denied("key_unreadable")


async def test_what_cannot_be_read_is_not_written_over(keys: KeyStore) -> None:
    await keys.create(key("aaaaaaaaaaaa", purpose=NEWER))
    await keys.put_role(Role(name="team", description=NEWER))
    with pytest.raises(Conflict) as refused:
        await keys.change("aaaaaaaaaaaa", lambda one: lifecycle.revoke(one, NOW, ""))
    assert refused.value.code == "key_unreadable"
    with pytest.raises(Conflict) as refused:
        await keys.put_role(Role(name="team"))
    assert refused.value.code == "role_unreadable"
    with pytest.raises(Conflict):
        await keys.delete_role("team")
    assert (await keys.roles())["team"].unreadable


async def test_keys_that_name_a_role_that_cannot_be_read_are_denied(
    keys: KeyStore, keyring: Keyring
) -> None:
    await keys.put_role(Role(name="team", grants=(grant(),)))
    await keys.put_role(Role(name="other", grants=(grant(),)))
    # Its own grants do not help: what the role denies is not known.
    await keys.create(key("aaaaaaaaaaaa", roles=("team",)))
    await keys.create(key("bbbbbbbbbbbb", grants=(), roles=("other",)))
    await keyring.refresh()
    first, second = await keyring.get("aaaaaaaaaaaa"), await keyring.get("bbbbbbbbbbbb")
    assert isinstance(decided(keyring, first), Allowed)
    await keys.put_role(Role(name="team", description=NEWER))
    changes = await keyring.refresh()
    assert changes.roles == {"team"}
    assert decided(keyring, first) == Denied("role_unreadable")
    assert first is not None
    roles = {name: role.grants for name, role in (await keys.roles()).items()}
    for action in ("stream", "usage.read"):
        found = explain(first, grants_of_key(first, roles), AccessQuery(action, NOW))
        assert (found.decision, found.reason_code) == ("deny", "role_unreadable")
        assert found.failed[0].actual == ["team"]
    assert isinstance(decided(keyring, second), Allowed)


async def test_a_change_that_cannot_be_read_is_recorded_as_it_is_and_holds_up_no_other(
    keys: KeyStore,
) -> None:
    await keys.record_later(Change(id="x", action="key.bent", about=("key:a",), data=NEWER))
    await keys.record_later(Change(id=NEWER, action="key.torn", about=("key:b",)))
    await keys.record_later(Change(id="z", action="key.made", about=("key:c",)))
    changes = await keys.unrecorded(10)
    actions = [one.action for one in changes.values()]
    assert actions == ["key.bent", "change.unreadable", "key.made"]
    [_, unreadable, _] = changes.values()
    assert "key.torn" in unreadable.data["document"]
    again = list((await keys.unrecorded(10)).values())[1]
    assert again.id == unreadable.id, "whoever records it"
    new_gateway_event(
        id=unreadable.id, category=KEYS, action=unreadable.action, at=NOW, by="gateway",
        about=unreadable.about, data=unreadable.data,
    )  # fmt: skip
    await keys.mark_recorded(list(changes))
    assert await keys.unrecorded(10) == {}


async def test_each_version_of_a_row_that_cannot_be_read_is_warned_of_once(
    keys: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    await keys.create(key("aaaaaaaaaaaa", purpose=NEWER))
    await keys.put_role(Role(name="team", description=NEWER))
    unreadable._warn_of_version.cache_clear()
    caplog.clear()
    for _ in range(3):
        await keys.all()
        await keys.get("aaaaaaaaaaaa")
        await keys.roles()
    assert [record.name for record in caplog.records] == ["gateway.access.keys.unreadable"] * 2
    await keys.create(key("bbbbbbbbbbbb", purpose=NEWER))
    await keys.all()
    assert len(caplog.records) == 3


async def test_a_key_that_cannot_be_read_is_not_changed_together_with_others(
    keys: KeyStore,
) -> None:
    await keys.create(key("aaaaaaaaaaaa", purpose=NEWER))
    await keys.create(key("bbbbbbbbbbbb"))

    def revoked(found: list[Key]) -> list[Key]:
        return [lifecycle.revoke(one, NOW, "r") for one in found]

    with pytest.raises(Conflict) as refused:
        await keys.change_many(revoked)
    assert refused.value.code == "key_unreadable"
    other = await keys.get("bbbbbbbbbbbb")
    assert other is not None
    assert other.revoked_at is None
