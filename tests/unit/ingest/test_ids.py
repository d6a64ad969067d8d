"""Ids of the gateway: UUIDs of version 7, laid out as RFC 9562 says."""

from __future__ import annotations

import uuid
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.ids import new_ids, uuid7

times = st.integers(0, 2**48 - 1)
randoms = st.integers(0, 2**74 - 1)


@given(times, randoms)
def test_an_id_is_a_uuid_of_version_7_with_its_time_and_randomness(
    milliseconds: int, random: int
) -> None:
    text = uuid7(milliseconds, random)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    number = parsed.int
    assert number >> 80 == milliseconds
    rand_a, rand_b = number >> 64 & 0xFFF, number & (1 << 62) - 1
    assert rand_a << 62 | rand_b == random


def test_the_example_of_rfc_9562() -> None:
    # Appendix A.6: 2022-02-22T19:22:22Z, rand_a CC3, rand_b 18C4DC0C0C07398F.
    random = 0xCC3 << 62 | 0x18C4DC0C0C07398F
    assert uuid7(0x017F22E279B0, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(times, times, randoms, randoms)
def test_ids_sort_by_their_time(one: int, other: int, first: int, second: int) -> None:
    if one < other:
        assert uuid7(one, first) < uuid7(other, second)


def test_new_ids_take_the_time_of_each_moment_and_never_repeat() -> None:
    times = iter([1_700_000_000.123, 1_700_000_001.5, *[1_700_000_002.0] * 2000])
    ids = new_ids(lambda: next(times))
    first, second = islice(ids, 2)
    assert uuid.UUID(first).int >> 80 == 1_700_000_000_123
    assert uuid.UUID(second).int >> 80 == 1_700_000_001_500
    assert len(set(islice(ids, 2000))) == 2000
