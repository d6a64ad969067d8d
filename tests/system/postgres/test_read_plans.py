"""Pages in both orders come from the index of offsets, whatever the planner believes of the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.adapters.postgres.counting import count_sql
from gateway.adapters.postgres.log import PostgresLog
from gateway.adapters.postgres.rows import EVENT_COLUMNS, page_sql
from gateway.clock import SystemClock
from gateway.event import Draft

EVENTS = 3_000


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("condition", ["", " AND (tenant = ?)"])
async def test_no_page_is_sorted(
    database: str, draft: Callable[..., Draft], newest_first: bool, condition: str
) -> None:
    log = await PostgresLog.open(database, SystemClock())
    sql = page_sql(EVENT_COLUMNS, condition, newest_first=newest_first)
    bound = ["default"] if condition else []
    try:
        await log.append([[draft(id=f"e{number}") for number in range(EVENTS)]])
        for prepare in ("SELECT 1", "ANALYZE audit_gateway.sequenced, audit_gateway.event"):
            async with log._reads.connection("no plan") as connection:
                await connection.execute(prepare)
                rows = await connection.fetch(f"EXPLAIN {sql}", 0, EVENTS, 100, 1 << 20, *bound)
            plan = "\n".join(row[0] for row in rows)
            way = "Backward " if newest_first else ""
            assert f"Index Scan {way}using sequenced_pkey" in plan, plan
            assert "Sort" not in plan, plan
            assert "Seq Scan" not in plan, plan
    finally:
        await log.close()


@pytest.mark.parametrize("members", [(), ("tenant", "actor")])
@pytest.mark.parametrize("condition", ["", " AND (tenant = ?)"])
async def test_counts_read_their_block_by_the_index(
    database: str, draft: Callable[..., Draft], members: tuple[str, ...], condition: str
) -> None:
    log = await PostgresLog.open(database, SystemClock())
    bound = ["default"] if condition else []
    sql = count_sql(members, condition)
    try:
        await log.append([[draft(id=f"e{number}") for number in range(EVENTS)]])
        for prepare in ("SELECT 1", "ANALYZE audit_gateway.sequenced, audit_gateway.event"):
            async with log._reads.connection("no plan") as connection:
                await connection.execute(prepare)
                rows = await connection.fetch(f"EXPLAIN {sql}", 0, EVENTS, 60_000_000, *bound)
            plan = "\n".join(row[0] for row in rows)
            assert "using sequenced_pkey" in plan, plan
            assert "Seq Scan" not in plan, plan
    finally:
        await log.close()
