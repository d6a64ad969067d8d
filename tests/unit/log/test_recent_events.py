"""The newest events at hand: the same as those in the store, or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.sqlite.batch import json_head
from gateway.adapters.sqlite.log import SqliteLog
from gateway.adapters.sqlite.reader import SqliteReader
from gateway.clock import SystemClock
from gateway.event import Draft
from gateway.log.ports import Page
from gateway.log.recent_events import RecentEvents

MakeDraft = Callable[..., Draft]
HEAD = json_head("abc")
STAMP = b"2023-11-14T22:13:20.000000Z"


def drafts(count: int, size: int = 10) -> list[Draft]:
    return [Draft("i", "t", "c", "a", "unknown", 1, "", "", True, b"x" * size + b"}")] * count


def add(fresh: RecentEvents, first: int, count: int) -> None:
    some = drafts(count)
    fresh.add(first, some, [draft.stored(STAMP) for draft in some])


def offsets(page: Page | None) -> list[int] | None:
    return None if page is None else [event.offset for event in page.events]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 8),
)
def test_a_page_is_what_lies_between_its_bounds(
    counts: list[int], after: int, until: int, limit: int
) -> None:
    fresh, head = RecentEvents(), 4
    for count in counts:
        add(fresh, head + 1, count)
        head += count
    page = fresh.page(after, until, limit, 1 << 20, HEAD)
    if after < 4 or until > head or until <= after:
        assert page is None
        return
    assert page is not None
    wanted = list(range(after + 1, until + 1))
    assert offsets(page) == wanted[:limit]
    assert page.reached == (wanted[limit - 1] if len(wanted) >= limit else until)


def test_a_page_ends_with_the_event_that_fills_it() -> None:
    fresh = RecentEvents()
    add(fresh, 1, 10)
    size = len(drafts(1)[0].stored(STAMP))
    page = fresh.page(0, 10, 100, 3 * size - 1, HEAD)
    assert (offsets(page), page and page.reached) == ([1, 2, 3], 3)


def test_what_was_stored_by_other_ways_is_never_skipped() -> None:
    fresh = RecentEvents()
    add(fresh, 1, 3)
    add(fresh, 5, 2)
    assert fresh.page(2, 6, 100, 1 << 20, HEAD) is None
    assert offsets(fresh.page(4, 6, 100, 1 << 20, HEAD)) == [5, 6]
    fresh.clear()
    assert fresh.page(4, 6, 100, 1 << 20, HEAD) is None


def test_what_is_at_hand_is_bounded_in_events_and_bytes() -> None:
    few, small = (
        RecentEvents(most_events=10),
        RecentEvents(most_bytes=10 * len(drafts(1)[0].stored(STAMP))),
    )
    for first in range(1, 101, 5):
        add(few, first, 5)
        add(small, first, 5)
    for fresh in (few, small):
        assert fresh.page(89, 100, 100, 1 << 20, HEAD) is None
        assert offsets(fresh.page(90, 100, 100, 1 << 20, HEAD)) == list(range(91, 101))
    add(few, 101, 50)
    assert few.page(100, 150, 100, 1 << 20, HEAD) is None
    add(few, 151, 1)
    assert offsets(few.page(150, 151, 100, 1 << 20, HEAD)) == [151]


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[SqliteLog]:
    log = await SqliteLog.open(tmp_path / "log.db", SystemClock())
    yield log
    await log.close()


async def test_what_is_at_hand_is_what_the_store_gives(log: SqliteLog, draft: MakeDraft) -> None:
    several: list[dict[str, Any]] = [
        {},
        {"time": "2024-02-29T12:00:00Z", "data": {"n": 1.50}},
        {"actor": {"id": "zoë"}, "targets": [{"urn": "a"}, {"urn": "b/c"}]},
        {"tenant": "acme", "outcome": "denied", "severity": 6, "reason": '"quoted" \\ \u2028'},
    ]
    await log.append([[draft(**members)] for members in several])
    await log.append([[draft(id="known"), draft()], [draft()]])
    # A duplicate: stored one by one, and read from the store.
    await log.append([[draft(id="known"), draft()]])
    await log.append([[draft()] * 1, [draft(), draft()]])
    for after in range(log.head):
        for until in range(after + 1, log.head + 1):
            at_hand = await log.read(after, until, limit=1000)
            stored = await SqliteReader.read(log, after, until, limit=1000)
            assert at_hand == stored


async def test_live_reading_costs_no_reading(
    log: SqliteLog, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append([[draft(), draft()]])

    def fails(*args: object, **options: object) -> None:
        raise AssertionError("the store was read")

    monkeypatch.setattr(SqliteReader, "read", fails)
    assert len((await log.read(0, log.head, limit=10)).events) == 2
    with pytest.raises(AssertionError, match="was read"):
        await log.read(-1, log.head, limit=10)
