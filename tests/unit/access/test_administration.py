"""Changes of keys and roles by a caller whose rights, or whose roles, change meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.access.administration.administration import Administration
from gateway.access.administration.caller import CommandLine
from gateway.access.grants.role import Role, parse_role
from gateway.access.keys.issuance import (
    IssuanceTerms,
    KeyRequest,
    bound_to_issuer,
    parse_key_request,
)
from gateway.access.keys.key import Key
from gateway.access.keys.operator import Operator
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.clock import SystemClock
from gateway.errors import Unauthorized
from gateway.scheduling.loop_work import LoopWork
from gateway.settings.declarations import KeySettings

GRANTS = [{"actions": ["pull"], "categories": ["a.*"]}]
ADMIN = parse_role("r", {"grants": [{"actions": ["keys.admin"], "categories": ["**"]}]})


class Issuing(CommandLine):
    """A caller to whom `meanwhile` happens while what they hand on is compared."""

    def __init__(self, maker: Key, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(Operator("somebody"))
        self._maker = maker
        self._meanwhile = meanwhile
        self.ended = False

    async def check_delegation(self, key: Key, roles: Mapping[str, Role]) -> None:
        await self._meanwhile()

    def limit_life(self, key: Key, *, given: bool, can_issue: bool) -> tuple[Key, bool]:
        return bound_to_issuer(key, self._maker, asked=given, can_issue=can_issue)

    async def recheck(self) -> None:
        if self.ended:
            raise Unauthorized("this key was revoked")


async def nothing() -> None:
    pass


def wanted(life: str, **members: Any) -> KeyRequest:
    body = {"name": "n", "purpose": "p", "owner": "o", "expires_in": life, "grants": GRANTS}
    return parse_key_request({**body, **members}, TERMS)


TERMS: IssuanceTerms = KeySettings()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteKeys]:
    store = SqliteKeys(tmp_path / "keys.db")
    yield store
    await store.close()


def administration(store: SqliteKeys, caller: CommandLine) -> Administration:
    async def pepper() -> bytes:
        return b"p" * 32

    clock = SystemClock()
    return Administration(caller, store, clock, TERMS, pepper, LoopWork(clock).slices(""))


async def test_a_successor_does_not_outlive_its_maker_by_a_role_that_changes_meanwhile(
    store: SqliteKeys,
) -> None:
    operator = administration(store, CommandLine(Operator("somebody")))
    await operator.put_role(parse_role("r", {"grants": GRANTS}))
    maker = (await operator.create(wanted("10d"))).key
    key = (await operator.create(wanted("90d", roles=["r"]))).key

    async def widen() -> None:
        await store.put_role(ADMIN, "somebody else", 1.0)

    issued = await administration(store, Issuing(maker, widen)).rotate(key.id, "1h")
    assert issued.cut
    assert issued.key.expires_at == maker.expires_at


async def test_a_caller_who_has_ended_meanwhile_changes_nothing(store: SqliteKeys) -> None:
    operator = administration(store, CommandLine(Operator("somebody")))
    await operator.put_role(parse_role("r", {"grants": GRANTS}))
    maker = (await operator.create(wanted("10d"))).key
    suspended = (await operator.create(wanted("5d", roles=["r"]))).key
    await operator.suspend(suspended.id, "")
    caller = Issuing(maker, nothing)
    caller.ended = True
    theirs = administration(store, caller)
    before = [await store.all(), await store.roles()]
    for change in (
        theirs.create(wanted("5d")),
        theirs.rotate(maker.id, "1h"),
        theirs.suspend(maker.id, ""),
        theirs.resume(suspended.id),
        theirs.revoke(maker.id, "", with_descendants=False),
        theirs.revoke(maker.id, "", with_descendants=True),
        theirs.put_role(ADMIN),
        theirs.delete_role("r"),
    ):
        with pytest.raises(Unauthorized):
            await change
    assert [await store.all(), await store.roles()] == before
