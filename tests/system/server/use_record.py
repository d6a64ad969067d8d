"""Reads the record of every use, as an administrator of a gateway does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection

from gateway_client import Event, GatewayClient, key_id

from tests.support.machine_time import patience

ACCESS, KEYS = "gateway.access", "gateway.keys"


async def told(
    gateway: GatewayClient,
    count: int = 1,
    *,
    actions: Collection[str] = (),
    where: Callable[[Event], bool] = lambda event: True,
    **selectors: str,
) -> list[Event]:
    """The records that the selectors choose, once there are that many of them and each of the
    actions is among them. Several uses may be one record, and records of uses and of changes come
    by different ways: who asserts on all of them waits for all of them."""
    deadline = time.monotonic() + patience(5)
    while True:
        chosen = {"category": "gateway.**", "limit": "10000", **selectors}
        page = await gateway.pull(gateway.admin, **chosen)
        found = [one for one in page["events"] if where(one)]
        missing = set(actions) - {one["action"] for one in found}
        if len(found) >= count and not missing:
            return found
        assert time.monotonic() < deadline, (
            f"{selectors}: {len(found)} of {count} records, without {missing or 'others'}"
        )
        await asyncio.sleep(0.02)


def about(key: str) -> str:
    return f"key:{key_id(key)}"
