"""Tallies, buckets and kept counts: exact, and within their bounds."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.log.counts import BLOCK_OFFSETS, BucketCount, Counts, newest_block
from gateway.looking.buckets import AUTO_BUCKETS, STEPS, buckets_between, choose_step, micros_of
from gateway.looking.count_cache import CountCache
from gateway.looking.tally import Tally
from tests.support.examples import examples

SECOND = 1_000_000


def end_of(steps: Generator[None, None, Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def counts_of(bucket: int, **values: int) -> Counts:
    return {bucket: BucketCount(sum(values.values()), [dict(values)], [0])}


@given(
    since=st.integers(0, 2**52),
    length=st.integers(1, 250 * 86_400 * SECOND),
    step=st.sampled_from([*STEPS]),
)
def test_buckets_hold_each_moment_of_a_range_once(since: int, length: int, step: str) -> None:
    to, micros = since + length, micros_of(step)
    buckets = buckets_between(since, to, micros)
    assert buckets[0] * micros <= since < (buckets[0] + 1) * micros
    assert buckets[-1] * micros < to <= (buckets[-1] + 1) * micros
    chosen = choose_step("auto", since, to)
    assert len(buckets_between(since, to, micros_of(chosen))) <= AUTO_BUCKETS
    for shorter in [*STEPS][: [*STEPS].index(chosen)]:
        assert len(buckets_between(since, to, micros_of(shorter))) > AUTO_BUCKETS


def test_too_many_buckets_are_refused() -> None:
    assert choose_step("1s", 0, 3000 * SECOND) == "1s"
    with pytest.raises(InvalidRequest):
        choose_step("1s", 0, 3001 * SECOND)
    with pytest.raises(InvalidRequest):
        choose_step("auto", 0, 3001 * 86_400 * SECOND)


def test_what_was_added_of_the_oldest_bucket_can_be_taken_out() -> None:
    tally = Tally(("tenant",))
    assert end_of(tally.add(counts_of(9, a=2, b=1))) is None
    before = end_of(tally.facets(5))
    assert end_of(tally.add(counts_of(8, a=1, c=4))) is None
    assert end_of(tally.add(counts_of(8, d=1))) is None
    assert tally.total == 9
    end_of(tally.take_out(8))
    assert (tally.total, tally.buckets) == (3, {9: (3, {})})
    assert end_of(tally.facets(5)) == before
    # Of a bucket that nothing was added of there is nothing to take out.
    end_of(tally.take_out(7))
    assert tally.total == 3


def test_a_value_too_many_is_not_added_nor_what_is_older() -> None:
    tally = Tally(("tenant",), most_values=2)
    assert end_of(tally.add(counts_of(9, a=1, b=1))) is None
    older = {**counts_of(8, a=5), **counts_of(7, a=1, c=1), **counts_of(6, a=1)}
    assert end_of(tally.add(older)) == 7
    assert tally.buckets.keys() == {9, 8}
    assert tally.total == 7


@settings(max_examples=examples(200))
@given(
    after=st.integers(0, 3 * BLOCK_OFFSETS),
    length=st.integers(1, 3 * BLOCK_OFFSETS),
    most=st.integers(1, 2 * BLOCK_OFFSETS),
)
def test_blocks_make_a_range_and_number_whole_ones(after: int, length: int, most: int) -> None:
    at = after + length
    block = newest_block(after, at, most)
    assert after <= block.after < block.until == at
    assert block.until - block.after <= min(most, BLOCK_OFFSETS)
    assert block.after // BLOCK_OFFSETS == (block.until - 1) // BLOCK_OFFSETS
    whole = block.until - block.after == BLOCK_OFFSETS
    assert block.number == (block.after // BLOCK_OFFSETS if whole else None)


def test_kept_counts_stay_within_their_bytes_and_the_newest_blocks_stay() -> None:
    cache = CountCache(most_bytes=4000)
    first, second = cache.of("first"), cache.of("second")
    for block in range(40):
        second.put(block, counts_of(block, a=block))
        assert cache.bytes <= 4000
    assert second.get(39) == counts_of(39, a=39)
    assert second.get(0) is None
    # The other query has gone, and what is put into it is not kept.
    first.put(1, counts_of(1, a=1))
    assert first.get(1) is None
    assert cache.of("first").get(1) is None
    third = cache.of("third")
    third.put(1, {1: BucketCount(1, [{"x" * 10_000: 1}], [0])})
    assert third.get(1) is None
    assert cache.bytes <= 4000
