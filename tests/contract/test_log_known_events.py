"""What is known and what is new, told apart in batches of every mixture and order of ids."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from gateway.event import Draft
from gateway.ingest.ids import uuid7
from gateway.log.ports import Log

MakeDraft = Callable[..., Draft]
ROUNDS = 14


class Model:
    """The contents that each tenant has under each id."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, str], list[str]] = {}

    def take(self, tenant: str, name: str, reason: str) -> tuple[int, int, int]:
        """Whether it is accepted, a duplicate, a conflict."""
        there = self.contents.setdefault((tenant, name), [])
        if reason in there:
            return 0, 1, 0
        there.append(reason)
        return 1, 0, int(len(there) > 1)


def names(rng: random.Random, now: int) -> list[str]:
    """Ids that were made one after the other, at random, and by counting, some of them again."""
    moment = now + rng.randrange(3) - rng.choice([0, 0, 0, 50])
    ways: list[Callable[[], str]] = [
        lambda: uuid7(moment, rng.getrandbits(74)),
        lambda: uuid7(1_700_000_000_000 + rng.randrange(4), rng.getrandbits(2)),
        lambda: f"{rng.getrandbits(64):016x}",
        lambda: f"order-{rng.randrange(40)}",
    ]
    way = rng.choice([*ways, lambda: rng.choice(ways)()])
    return [way() for _ in range(rng.randrange(1, 25))]


@pytest.mark.parametrize("seed", range(3))
async def test_batches_of_new_and_known_events_are_told_apart(
    log: Log, draft: MakeDraft, seed: int
) -> None:
    rng, model, accepted = random.Random(seed), Model(), []
    for turn in range(ROUNDS):
        batches, expected = [], []
        for _ in range(rng.randrange(1, 4)):
            sent = [
                (rng.choice(["t1", "t2"]), name, rng.choice("aab"))
                for name in names(rng, 1_700_000_000_000 + 10 * turn)
            ]
            counts = [model.take(*one) for one in sent]
            accepted += [one for one, count in zip(sent, counts, strict=True) if count[0]]
            expected.append(tuple(map(sum, zip(*counts, strict=True))))
            batches.append([draft(tenant=t, id=n, reason=r) for t, n, r in sent])
        results = await log.append(batches)
        assert [(one.accepted, one.duplicates, one.conflicts) for one in results] == expected
    events = [one.members() for one in (await log.read(0, log.head, limit=10_000)).events]
    # Under another id, an event keeps the first 100 characters of its own.
    found = [(one["tenant"], one["id"].partition("~")[0], one["reason"]) for one in events]
    assert found == accepted
    assert len({(one["tenant"], one["id"]) for one in events}) == len(events)
