"""Schedules by which keys are rotated. Pure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from gateway.clock import Duration, format_duration, parse_duration
from gateway.errors import InvalidRequest
from gateway.json_members import Body, about, parse_body

DEFAULT_OVERLAP = "1h"
# Ten years: longer than any key lives, and every moment that is counted from it can be shown.
_LONGEST = 3650 * 86400
ROTATE = about(
    "How often its secret is to be replaced, and how long the old one works on then; by whoever "
    "can place the new one. `null`: never."
)


class RotationSchedule(msgspec.Struct, frozen=True):
    """How often a key is to be rotated, and for how long its predecessor works on."""

    every: Duration
    overlap: Duration = DEFAULT_OVERLAP

    @property
    def every_seconds(self) -> int:
        return parse_duration(self.every)


class _ScheduleBody(Body, frozen=True):
    every: Annotated[Duration, about("how often the key is rotated")]
    overlap: Duration | UnsetType = UNSET


def parse_rotate(raw: Any, max_overlap: int) -> RotationSchedule | None:
    """Parse the member `rotate` of a body; null is no schedule. Durations are stored in one form,
    so that equal schedules are equal. `max_overlap` is in seconds."""
    if raw is None:
        return None
    try:
        asked = parse_body(raw, _ScheduleBody)
    except InvalidRequest as error:
        raise _invalid(f"rotate: {error.detail}") from None
    every = _seconds("every", asked.every)
    overlap = _seconds("overlap", DEFAULT_OVERLAP if asked.overlap is UNSET else asked.overlap)
    if not 0 < every <= _LONGEST:
        raise _invalid("rotate.every: from 1s to 3650d")
    if overlap > max_overlap:
        raise _invalid(
            f"rotate.overlap: at most {max_overlap // 3600} hours (setting keys.max_overlap)"
        )
    return RotationSchedule(format_duration(every), format_duration(overlap))


def _seconds(member: str, text: str) -> int:
    try:
        return parse_duration(text)
    except InvalidRequest as error:
        raise _invalid(f"rotate.{member}: {error.detail}") from None


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(detail, code="invalid_rotation")
