"""How often keys are to be rotated."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.access.keys.key import Key
from gateway.access.keys.rotation_schedule import RotationSchedule, parse_rotate
from gateway.clock import format_time
from gateway.errors import InvalidRequest

NOW = 1_700_000_000.0
DAY = 86_400
MOST = 7 * DAY
KEY = Key(id="k" * 12, digest=b"", name="n", purpose="p", created_at=NOW, expires_at=NOW + 90 * DAY)


@pytest.mark.parametrize(
    ("raw", "every", "overlap"),
    [
        ({"every": "30d"}, "30d", "1h"),
        ({"every": "720h", "overlap": "24h"}, "30d", "1d"),
        ({"every": "90m", "overlap": "0s"}, "1h30m", "0s"),
        ({"every": "3650d", "overlap": "7d"}, "3650d", "7d"),
    ],
)
def test_equal_schedules_are_kept_as_equal(raw: Any, every: str, overlap: str) -> None:
    assert parse_rotate(raw, MOST) == RotationSchedule(every, overlap)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({}, "rotate: every: required, how often"),
        ({"overlap": "1d"}, "rotate: every: required"),
        ({"every": "30"}, "rotate.every: not a duration"),
        ({"every": "0s"}, "rotate.every: from 1s to 3650d"),
        ({"every": "3651d"}, "rotate.every: from 1s to 3650d"),
        ({"every": 30}, "rotate: every: a string is needed"),
        ({"every": "30d", "overlap": "8d"}, "rotate.overlap: at most 168 hours"),
        ({"every": "30d", "overlap": ""}, "rotate.overlap: not a duration"),
        ({"every": "30d", "at": "noon"}, "rotate: unknown member 'at'; there are every, overlap"),
        ("30d", "rotate: the body must be a JSON object"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused_by_name(raw: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_rotate(raw, MOST)
    assert refused.value.code == "invalid_rotation"
    assert refused.value.detail.startswith(said)


def test_null_is_no_schedule() -> None:
    assert parse_rotate(None, MOST) is None


def test_a_key_is_to_be_rotated_its_schedule_after_it_was_made_and_no_more_once_it_was() -> None:
    key = msgspec.structs.replace(KEY, rotate=RotationSchedule("30d", "1d"))
    assert key.public(NOW).rotate_by == format_time(NOW + 30 * DAY)
    for members in ({"drains_until": NOW + DAY}, {"revoked_at": NOW}, {"rotate": None}):
        assert msgspec.structs.replace(key, **members).public(NOW).rotate_by == ""
