"""Authorisation: what it costs to find a request's key and decide, with many keys and roles.

Within this process, on the embedded store: a request over a socket costs so much more
that the part of interest would drown in it. Each key has a grant of its own and two roles.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

import apsw

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.grants.grant import Grant, parse_grant
from gateway.access.grants.role import Role
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import new_key
from gateway.access.policy.decision import Allowed
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.provisioning import key_rows
from gateway.clock import SystemClock

SAMPLE = 10_000
CHANGES = 20
ADDRESS = "192.0.2.1"
_PEPPER = b"p" * 32


def cost(folder: Path, keys: int, roles: int, rounds: int) -> dict[str, Any]:
    """Microseconds of an authorisation, and milliseconds until a change is known."""
    return asyncio.run(_cost(folder / f"authorize-{keys}.db", keys, roles, rounds))


async def _cost(path: Path, keys: int, roles: int, rounds: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        store = SqliteKeys(path)
        stack.push_async_callback(store.close)
        tokens = await _fill(store, keys, roles)
        peppers = Peppers((Pepper(_PEPPER),))
        keyring = Keyring(store, lambda: peppers, SystemClock())
        await keyring.refresh()
        sample = random.Random(1).sample(tokens, min(SAMPLE, keys))
        first = await _each(keyring, sample)
        again = [await _each(keyring, sample) for _ in range(max(rounds, 3))]
        found = await keyring.authenticate(sample[0])
        assert found is not None
        reason = iter(range(CHANGES))

        async def change_key() -> None:
            text = f"change {next(reason)}"
            await store.change(found.id, lambda key: lifecycle.suspend(key, 0.0, text))

        async def change_role() -> None:
            await store.put_role(Role(name=_role(0, roles), grants=(_grant(next(names)),)))

        names = iter(range(CHANGES))
        return {
            "keys": keys,
            "roles": roles,
            "first_us": first,
            "again_us": median(again),
            "key_change_ms": await _known_after(keyring, change_key),
            "role_change_ms": await _known_after(keyring, change_role),
        }


async def _each(keyring: Keyring, tokens: list[str]) -> float:
    """Microseconds per authorisation."""
    begun = time.perf_counter()
    for token in tokens:
        key = await keyring.authenticate(token)
        assert key is not None
        assert isinstance(keyring.decide(key, "stream", ADDRESS), Allowed)
    return (time.perf_counter() - begun) / len(tokens) * 1e6


async def _known_after(keyring: Keyring, change: Callable[[], Awaitable[None]]) -> float:
    """Milliseconds that it takes to take a change in; the most of several."""
    taken = []
    for _ in range(CHANGES):
        await change()
        begun = time.perf_counter()
        changes = await keyring.refresh()
        taken.append((time.perf_counter() - begun) * 1e3)
        assert len(changes.keys) + len(changes.roles) == 1, "nothing else is read"
    return max(taken)


async def _fill(store: SqliteKeys, keys: int, roles: int) -> list[str]:
    """In few transactions, or commits would take most of the time."""
    made, tokens = [], []
    now = time.time()
    await store._changing.run(lambda connection: connection.pragma("synchronous", "off"))
    for number in range(roles):
        role = Role(name=_role(number, roles), grants=(_grant(number), _grant(number + 1)))
        await store.put_role(role)
    for number in range(keys):
        key, token = new_key(
            name=f"key {number}", purpose="benchmark", owner="bench", grants=(_grant(number),),
            roles=(_role(number, roles), _role(number * 7, roles)), now=now, life=86400.0,
            pepper=_PEPPER,
        )  # fmt: skip
        made.append(key)
        tokens.append(token)

    def store_all(connection: apsw.Connection) -> None:
        with connection:
            for key in made:
                key_rows.insert(connection, key)

    await store._changing.run(store_all)
    return tokens


def _role(number: int, roles: int) -> str:
    return f"role-{number % roles}"


def _grant(number: int) -> Grant:
    return parse_grant(
        {
            "actions": ["stream", "pull"], "tenants": [f"tenant-{number}"],
            "categories": [f"bench.c{number % 100}.**", "auth.*"],
            "fields": {"mask": ["actor.name"]},
        }
    )  # fmt: skip
