"""A page costs what it holds, and not what the log holds."""

from __future__ import annotations

from typing import Any

import pytest
from gateways import Gateway

from gateway.looking.bounds import Look


@pytest.fixture
def reads(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many events were asked of the log, each time."""
    asked: list[int] = []
    log: Any = gateway.context.log
    read = log.read

    async def counted(after: int, until: int, *, limit: int, hint: Any = None) -> Any:
        asked.append(limit)
        return await read(after, until, limit=limit, hint=hint)

    monkeypatch.setattr(log, "read", counted)
    return asked


async def test_a_small_page_reads_about_as_many_events_as_it_holds(
    gateway: Gateway, reads: list[int]
) -> None:
    await gateway.send_many(300)
    reads.clear()
    page = await gateway.pull(limit="10")
    assert len(page["events"]) == 10
    assert sum(reads) <= 50
    rest = await gateway.pull(after=page["cursor"], limit="200")
    assert len(rest["events"]) == 200


async def test_a_page_of_which_little_is_chosen_reads_more_and_more_at_a_time(
    gateway: Gateway, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.send_many(3_000)
    # A busy machine takes longer than a look may.
    monkeypatch.setattr(Look, "is_over", lambda look, now: False)
    reads.clear()
    page = await gateway.pull(limit="10", filter="size(action) > 100")
    assert page["events"] == []
    assert page["has_more"] is False
    assert reads == sorted(reads)
    assert len(reads) < 10
