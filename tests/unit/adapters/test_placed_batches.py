"""What becomes of batches that one step of PostgreSQL placed whole."""

from __future__ import annotations

from collections.abc import Callable

from gateway.adapters.postgres.places import placed_whole
from gateway.event import Draft
from gateway.log.ports import Appended


class Compared(int):
    """An offset that counts how often any is compared with another one."""

    times = 0

    def __lt__(self, other: int) -> bool:
        Compared.times += 1
        return int(self) < int(other)

    def __le__(self, other: int) -> bool:
        Compared.times += 1
        return int(self) <= int(other)

    def __gt__(self, other: int) -> bool:
        Compared.times += 1
        return int(self) > int(other)

    def __ge__(self, other: int) -> bool:
        Compared.times += 1
        return int(self) >= int(other)


def test_each_batch_is_told_of_its_own_offsets_and_of_its_events_under_another_id(
    draft: Callable[..., Draft],
) -> None:
    one = draft()
    batches = [[one] * 2, [], [one], [one] * 3]
    assert placed_whole(batches, 11, [16, 12, 14, 11]) == [
        Appended(2, 0, 11, 12, 2),
        Appended(0, 0, 0, 0),
        Appended(1, 0, 13, 13, 0),
        Appended(3, 0, 14, 16, 2),
    ]


def test_batches_beside_many_events_under_another_id_are_not_compared_with_each(
    draft: Callable[..., Draft],
) -> None:
    one = draft()
    batches = [[one] * 1000, *([one] for _ in range(1000))]
    Compared.times = 0
    told = placed_whole(batches, 1, [Compared(offset) for offset in range(1, 1001)])
    assert [each.conflicts for each in told[:3]] == [1000, 0, 0]
    # Each with each is a million and more.
    assert 0 < Compared.times < 50_000
