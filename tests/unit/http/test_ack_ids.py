"""Acknowledgement ids say of themselves that they were given out."""

from __future__ import annotations

import random

from gateway.http.receivers.ack_ids import AckIds
from gateway.log.identity import KeyedValues

NOW = 1_790_000_000.0
CHANNEL, OTHER = "fe0ecfad-13d5-401b-847d-77833bd77131", "00000000-13d5-401b-847d-77833bd77131"


def ids(secret: bytes = b"secret", now: float = NOW) -> AckIds:
    return AckIds(KeyedValues(secret), lambda: now)


def test_ids_grow_even_when_the_clock_stands_or_goes_back() -> None:
    times = iter([NOW, NOW, NOW - 5, NOW + 1])
    made = AckIds(KeyedValues(b"secret"), lambda: next(times))
    found = [made.new("k", CHANNEL) for _ in range(4)]
    assert found == sorted(set(found))
    assert all(made.acknowledges(one, "k", CHANNEL) for one in found)
    assert max(found) < 2**53, "more is rounded by programs that count in doubles"


def test_nothing_is_kept_of_ids_and_channels() -> None:
    made = ids()
    before = len(repr(vars(made)))
    for number in range(1000):
        made.new("k", f"{number:08x}{CHANNEL[8:]}")
    assert len(repr(vars(made))) < before + 20


def test_what_one_replica_gives_out_is_acknowledged_by_all_and_after_a_restart() -> None:
    given = ids().new("k", CHANNEL)
    assert ids(now=NOW + 1e6).acknowledges(given, "k", CHANNEL.upper())


def test_ids_of_others_and_guessed_ones_are_not_acknowledged() -> None:
    made, chance = ids(), random.Random(7)
    several = [made.new("k", CHANNEL) for _ in range(50)]
    for key, channel, log in (("x", CHANNEL, made), ("k", OTHER, made), ("k", CHANNEL, ids(b"b"))):
        assert sum(log.acknowledges(one, key, channel) for one in several) <= 1
    guesses = [chance.randrange(2**53) for _ in range(20_000)]
    assert sum(made.acknowledges(one, "k", CHANNEL) for one in guesses) < 30
    for one in (-1, 2**53, 2**63, -(2**63), 0, 1):
        assert not made.acknowledges(one, "k", CHANNEL)
