"""Review of access over the stores of a gateway."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gateway.access.usage.access import REVIEWED
from gateway.cli.base.key_folder import key_store, run
from gateway.cli.base.operator import record_act, this_operator
from gateway.cli.base.stores import log_to_read

if TYPE_CHECKING:
    from gateway.access.keys.key_store import KeysAndRoles
    from gateway.access.usage.meter import Meter
    from gateway.clock import Clock
    from gateway.log.ports import Log
    from gateway.oversight.access_log.past_access import Presence
    from gateway.oversight.detection.usage_profile import LastUse
    from gateway.oversight.report.collect import Totals
    from gateway.settings.declarations import Settings

_DAY = 86400
_SECONDS = 600.0
_RECORDS = 1_000_000


class ReviewInFolder:
    """Implements `gateway.cli.administration.ports.AccessReviews`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def report(self, kind: str, conditions: Sequence[tuple[str, str]]) -> bytes:
        return run(_report(self._settings, kind, conditions))


async def _report(settings: Settings, kind: str, conditions: Sequence[tuple[str, str]]) -> bytes:
    """The operator sees everything. That it was made is recorded, with the digest of its bytes."""
    from gateway.access.policy.reader import SEES_EVERYTHING
    from gateway.access.usage.meter import Meter
    from gateway.http.review.parameters import parse_review
    from gateway.oversight.report.collect import Asker, ReviewBudgets, collect_review
    from gateway.oversight.report.text import FORMATS
    from gateway.oversight.review.key_review import ReviewBudget
    from gateway.runtime.select_backend import ledger_to_read
    from gateway.scheduling.loop_work import LoopWork

    operator = this_operator()
    budget = ReviewBudget(_SECONDS, _RECORDS)
    async with (
        key_store(settings) as (store, clock),
        log_to_read(settings) as log,
        ledger_to_read(settings, clock) as ledger,
    ):
        query = parse_review(conditions, clock.now())
        report = await collect_review(
            _Stores(store, log, clock, Meter(ledger, clock)), query,
            Asker(operator.actor, operator.person, (), SEES_EVERYTHING),
            ReviewBudgets(budget, budget), LoopWork(clock).slices(operator.actor),
        )  # fmt: skip
    body = "".join(FORMATS[kind].write(report)).encode()
    digest = hashlib.sha256(body).hexdigest()
    data = {"sha256": digest, "bytes": len(body), "format": kind}
    await record_act(settings, REVIEWED, "keys:all", data)
    return body


class _Stores:
    """`ReviewSources` of a folder."""

    def __init__(self, store: KeysAndRoles, log: Log, clock: Clock, meter: Meter) -> None:
        self.store = store
        self.log = log
        self.clock = clock
        self._meter = meter

    async def last_uses(self) -> Mapping[str, LastUse]:
        from gateway.oversight.detection.profile_store import ProfileStore

        return await ProfileStore(self.store).last_uses()

    async def findings(self) -> Mapping[str, int]:
        from gateway.oversight.detection.findings import stored_findings

        found = await stored_findings(self.store)
        return Counter(one.key for one in found if one.state == "open" and one.key)

    async def totals(self, key_ids: Sequence[str], days: int) -> Totals:
        found = await self._meter.totals(key_ids, days * _DAY)
        return {key_id: (counts[2], counts[3]) for key_id, counts in found.items()}

    async def presence(self, key_id: str, use: LastUse) -> Presence:
        from gateway.oversight.access_log.past_access import Presence

        return Presence((), use.used_at, use.address)

    def hold(self, size: int) -> None:
        """The memory of the command is its own."""
