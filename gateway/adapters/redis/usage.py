"""`Ledger` in Redis: hashes of 64 minutes, hours or days of one key, updated once per batch.

<prefix>:{<key>}:usage:m:<minute / 64>   field: minute   value: "<count> <count> ..."

Redis stores a hash of so few short values compactly. Each writer stores the number of its last
batch beside them, so that a batch sent again is recognised. Durability is that of Redis: with
`appendonly yes` a crash of the server loses no acknowledged usage, one of its machine a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.access.usage.meter import UsageBatch
from gateway.access.usage.windows import COUNTERS, TIERS, Counts, Tier
from gateway.adapters.redis.link import Down, Link
from gateway.adapters.redis.scripts import COUNT, ScriptCall
from gateway.errors import Unavailable

_CHUNK = 64
# Bounds how long one call blocks the server, and one round trip takes.
_KEYS_A_CALL = 25
_CALLS_AT_ONCE = 10
_CHUNKS_A_CALL = 100
# Longer than any batch is retried.
_WRITER_MILLISECONDS = 86_400_000


class RedisLedger:
    """Usage of all replicas on one Redis."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def add(self, batch: UsageBatch) -> None:
        keys = list(batch.entries)
        together = 1 if self._link.scattered else _KEYS_A_CALL
        calls = [
            self._call(batch, keys[start : start + together])
            for start in range(0, len(keys), together)
        ]
        try:
            for start in range(0, len(calls), _CALLS_AT_ONCE):
                await self._link.run(calls[start : start + _CALLS_AT_ONCE])
        except Down:
            raise _unavailable() from None

    async def read(self, key_id: str, tier: Tier, first: int, last: int) -> Mapping[int, Counts]:
        chunks = range(first // _CHUNK, last // _CHUNK + 1)
        return _found(
            await self._fetch([self._key(key_id, tier, one) for one in chunks]), first, last
        )

    async def totals(
        self, key_ids: Sequence[str], tier: Tier, first: int, last: int
    ) -> Mapping[str, Counts]:
        chunks = range(first // _CHUNK, last // _CHUNK + 1)
        totals: dict[str, Counts] = {}
        together = max(1, _CHUNKS_A_CALL // len(chunks))
        for start in range(0, len(key_ids), together):
            part = key_ids[start : start + together]
            answers = await self._fetch(
                [self._key(key_id, tier, chunk) for key_id in part for chunk in chunks]
            )
            for place, key_id in enumerate(part):
                own = answers[place * len(chunks) : (place + 1) * len(chunks)]
                if found := _found(own, first, last):
                    totals[key_id] = tuple(map(sum, zip(*found.values(), strict=True)))
        return totals

    async def _fetch(self, keys: Sequence[str]) -> list[object]:
        try:
            return await self._link.fetch([("HGETALL", key) for key in keys])
        except Down:
            raise _unavailable() from None

    def _call(self, batch: UsageBatch, key_ids: Sequence[str]) -> ScriptCall:
        keys: list[str] = []
        arguments = [batch.number, _WRITER_MILLISECONDS, len(TIERS), len(COUNTERS)]
        arguments += [tier.kept + _CHUNK * tier.seconds for tier in TIERS]
        for key_id in key_ids:
            minute, counts = batch.entries[key_id]
            units = [tier.index(minute * 60) for tier in TIERS]
            keys.append(f"{self._link.prefix}:{{{key_id}}}:usage:writer:{batch.writer}")
            for tier, unit in zip(TIERS, units, strict=True):
                keys.append(self._key(key_id, tier, unit // _CHUNK))
            arguments += [*units, *counts]
        return ScriptCall(COUNT, keys, arguments)

    def _key(self, key_id: str, tier: Tier, chunk: int) -> str:
        return f"{self._link.prefix}:{{{key_id}}}:usage:{tier.unit}:{chunk}"


def _found(answers: Iterable[object], first: int, last: int) -> dict[int, Counts]:
    """Counts in hashes, by index."""
    found: dict[int, Counts] = {}
    for answer in answers:
        for index, counts in _pairs(answer):
            # The name may hold a foreign value.
            if not (index.isdigit() and counts.replace(b" ", b"").isdigit()):
                continue
            if first <= int(index) <= last:
                found[int(index)] = tuple(map(int, counts.split()))
    return found


def _pairs(answer: object) -> Iterator[tuple[bytes, bytes]]:
    """Fields of a hash: clients of a cluster give a list, others a dict."""
    if isinstance(answer, dict):
        yield from answer.items()
    elif isinstance(answer, list):
        yield from zip(answer[::2], answer[1::2], strict=True)


def _unavailable() -> Unavailable:
    return Unavailable("usage cannot be read while Redis is away", code="usage_unavailable")
