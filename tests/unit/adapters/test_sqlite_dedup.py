"""What it costs to enter events in the embedded log, in time of the processor alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import apsw
import msgspec

from gateway.adapters.sqlite.database import scripts
from gateway.adapters.sqlite.dedup import Dedup, Known
from gateway.event import Draft
from gateway.log.identity import KeyedValues

FEW, MANY = 500, 20_000


def test_a_large_batch_costs_as_much_for_each_event_where_another_one_stands_under_another_id(
    draft: Callable[..., Draft],
) -> None:
    connection = apsw.Connection(":memory:")
    for script in scripts("sqlite_log").values():
        connection.execute(script)
    dedup = Dedup(connection, KeyedValues(b""))
    for offset, content in enumerate((b"first", b"second"), 1):
        one = msgspec.structs.replace(draft(id="x"), content=content)
        classified = dedup.classify(one)
        assert not isinstance(classified, Known)
        dedup.add(classified, one.tenant, offset)
    pattern = draft()

    def seconds(number: int) -> float:
        drafts: Sequence[Draft] = [
            msgspec.structs.replace(pattern, id=f"{n}-{'y' * 60}") for n in range(number)
        ]
        least = float("inf")
        for _ in range(3):
            begun = time.thread_time()
            with connection:
                assert dedup.add_all(drafts, 2)
                least = min(least, time.thread_time() - begun)
                connection.execute("DELETE FROM dedup WHERE offset > 2")
        return least

    few = seconds(FEW)
    assert seconds(MANY) < 2.5 * MANY / FEW * few
