"""Look-ups of names: one that hangs holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from gateway.delivery.connect.lookup import AddressInfo, Lookups
from tests.support.machine_time import patience


async def test_a_name_that_hangs_holds_up_no_other_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, asked = threading.Event(), []

    def look_up(host: str, port: int) -> Sequence[AddressInfo]:
        asked.append(host)
        if host == "hangs.test":
            answers.wait(patience())
            raise OSError("not found")
        return [(host, port)]

    monkeypatch.setattr("gateway.delivery.connect.lookup._look_up", look_up)
    lookups = Lookups()
    try:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await lookups.resolve("hangs.test", 443)
        waiting = asyncio.create_task(lookups.resolve("hangs.test", 443))
        assert await lookups.resolve("siem.test", 443) == [("siem.test", 443)]
        answers.set()
        with pytest.raises(OSError, match="not found"):
            await waiting
        with pytest.raises(OSError, match="not found"):
            await lookups.resolve("hangs.test", 443)
        assert asked == ["hangs.test", "siem.test", "hangs.test"]
    finally:
        answers.set()
        lookups.close()
