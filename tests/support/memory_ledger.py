"""The ledger of usage in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.access.usage.meter import UsageBatch
from gateway.access.usage.windows import TIERS, ZERO, Counts, Tier


class MemoryLedger:
    """`Ledger` in memory, lost at a restart."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[int, Counts]] = {}
        self._taken: dict[str, int] = {}

    async def add(self, batch: UsageBatch) -> None:
        if self._taken.get(batch.writer, 0) >= batch.number:
            return
        self._taken[batch.writer] = batch.number
        for key_id, (minute, counts) in batch.entries.items():
            for tier in TIERS:
                index = tier.index(minute * 60)
                kept = self._counts.setdefault((key_id, tier.name), {})
                oldest = index - tier.kept // tier.seconds
                while kept and (first := next(iter(kept))) < oldest:
                    del kept[first]
                before = kept.get(index, ZERO)
                kept[index] = tuple(map(sum, zip(before, counts, strict=True)))

    async def read(self, key_id: str, tier: Tier, first: int, last: int) -> Mapping[int, Counts]:
        kept = self._counts.get((key_id, tier.name), {})
        return {index: counts for index, counts in kept.items() if first <= index <= last}

    async def totals(
        self, key_ids: Sequence[str], tier: Tier, first: int, last: int
    ) -> Mapping[str, Counts]:
        found = {key_id: await self.read(key_id, tier, first, last) for key_id in key_ids}
        return {
            key_id: tuple(map(sum, zip(*counts.values(), strict=True)))
            for key_id, counts in found.items()
            if counts
        }
