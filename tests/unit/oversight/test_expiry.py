"""What is said of a key's end, and when a replaced key may end early."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.access.keys.key import Key
from gateway.access.keys.lifecycle import end_draining, revoke, rotate
from gateway.oversight.detection.usage_profile import UsageProfile
from gateway.oversight.expiry import Notice, may_end_early, notices

NOW = 1_700_000_000.0
DAY = 86400
WARNINGS = (30 * DAY, 14 * DAY, 7 * DAY, DAY)


def key(days: float, **members: Any) -> Key:
    made = Key(id="k", digest=b"", name="n", purpose="p", created_at=NOW,
               expires_at=NOW + days * DAY)  # fmt: skip
    return msgspec.structs.replace(made, **members)


def said(one: Key) -> list[tuple[float, str]]:
    """`(days from now, what)` of everything that is said."""
    return [((notice.at - NOW) / DAY, notice.action) for notice in notices(one, WARNINGS)]


def test_a_key_is_warned_of_at_each_threshold_and_told_of_at_its_end() -> None:
    assert said(key(90)) == [
        (60, "key.expiring"), (76, "key.expiring"), (83, "key.expiring"), (89, "key.expiring"),
        (90, "key.expired"),
    ]  # fmt: skip


def test_nobody_is_warned_of_what_was_so_from_the_beginning() -> None:
    assert said(key(14)) == [(7, "key.expiring"), (13, "key.expiring"), (14, "key.expired")]
    assert said(key(0.5)) == [(0.5, "key.expired")]


def test_each_notice_has_an_id_of_its_own_that_follows_from_it() -> None:
    ids = [notice.id for notice in notices(key(90), WARNINGS)]
    assert len(set(ids)) == 5
    assert ids == [notice.id for notice in notices(key(90), WARNINGS)]
    assert all(len(name) <= 128 for name in ids)


def test_a_key_that_drains_is_warned_of_the_end_of_its_overlap() -> None:
    old, _, _ = rotate(
        msgspec.structs.replace(key(90), digest=b"x"), NOW + 10 * DAY, overlap=3 * DAY,
        max_life=90 * DAY, pepper=b"p",
    )  # fmt: skip
    assert said(old) == [(12, "key.expiring"), (13, "key.expired")]


def test_of_a_key_that_was_ended_by_somebody_nothing_more_is_said() -> None:
    assert said(revoke(key(90), NOW, "")) == []
    assert said(end_draining(key(90, drains_until=NOW + DAY), NOW)) == []


def test_notices_sort_by_time() -> None:
    assert sorted([Notice(2, "a", "k", "x", 3), Notice(1, "b", "k", "x", 3)])[0].at == 1


@pytest.mark.parametrize(
    ("used", "successor_used", "idle", "expected"),
    [
        (NOW, NOW + 1, 900, True),
        (NOW, NOW + 1, 899, False),
        (NOW, 0.0, 900, False),
        (0.0, NOW + 1, 900, True),
        (NOW - 9999, NOW + 1, 899, False),
    ],
)
def test_a_replaced_key_may_end_when_it_is_idle_and_its_successor_in_use(
    used: float, successor_used: float, idle: float, expected: bool
) -> None:
    draining = key(90, drains_until=NOW + DAY, successor="s", changed_at=NOW)
    found = may_end_early(
        draining, UsageProfile(used_at=used), UsageProfile(used_at=successor_used), NOW + idle
    )
    assert found is expected


def test_a_key_that_does_not_drain_is_not_replaced() -> None:
    assert not may_end_early(key(90), UsageProfile(), UsageProfile(used_at=NOW), NOW + DAY)
    over = key(90, drains_until=NOW + 1, successor="s", changed_at=NOW)
    assert not may_end_early(over, UsageProfile(), UsageProfile(used_at=NOW), NOW + DAY)
