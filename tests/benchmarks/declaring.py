"""Plans of a declared set: unchanged, and with all of its keys and roles changed.

Within this process, on the embedded store, which is what the goal is about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Any

from gateway.access.administration.administration import Administration
from gateway.access.administration.caller import CommandLine
from gateway.access.keys.operator import Operator
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.clock import SystemClock
from gateway.declarations.administration import DeclarationAdministration
from gateway.scheduling.loop_work import LoopWork
from gateway.settings.declarations import KeySettings

MOST_KEYS, MOST_ROLES = 1000, 200


def cost(folder: Path, keys: int, roles: int, rounds: int) -> dict[str, Any]:
    """Seconds of plans over so many keys and roles, at most those of the goal."""
    keys, roles = min(keys, MOST_KEYS), min(roles, MOST_ROLES)
    return asyncio.run(_cost(folder / f"declaring-{keys}.db", keys, roles, rounds))


async def _cost(path: Path, keys: int, roles: int, rounds: int) -> dict[str, Any]:
    async def pepper() -> bytes:
        return b"p" * 32

    async with AsyncExitStack() as stack:
        store, clock = SqliteKeys(path), SystemClock()
        stack.push_async_callback(store.close)
        caller, slices = CommandLine(Operator("ada")), LoopWork(clock).slices("")
        administration = Administration(caller, store, clock, KeySettings(), pepper, slices)
        sets = DeclarationAdministration(
            caller, administration, store, clock, KeySettings(), None, slices
        )
        declared = _declared(keys, roles)
        await sets.apply(declared, prune=True)
        same = await _seconds(lambda: sets.plan(declared, prune=True), rounds)
        for role in declared["roles"].values():
            role["grants"].append({"actions": ["stream"], "categories": ["new.**"]})
        for key in declared["keys"].values():
            key["owner"] = "another"
        changed = await _seconds(lambda: sets.plan(declared, prune=True), rounds)
    return {"keys": keys, "roles": roles, "same_seconds": same, "changed_seconds": changed}


def _declared(keys: int, roles: int) -> dict[str, Any]:
    def grant(number: int) -> dict[str, Any]:
        return {
            "actions": ["stream", "pull"], "categories": [f"c{number % 7}.**", "auth.*"],
            "tenants": [f"t{number % 50}", f"u{number}"], "fields": {"drop": ["data"]},
        }  # fmt: skip

    return {
        "set": "prod",
        "roles": {f"r{one}": {"grants": [grant(one), grant(one + 1)]} for one in range(roles)},
        "keys": {
            f"k{one}": {
                "purpose": "p", "owner": "o", "grants": [grant(one)],
                "roles": sorted({f"r{one % roles}", f"r{one * 7 % roles}"}),
            }
            for one in range(keys)
        },
    }  # fmt: skip


async def _seconds(work: Callable[[], Awaitable[Any]], rounds: int) -> float:
    took = []
    for _ in range(max(rounds, 3)):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return median(took)
