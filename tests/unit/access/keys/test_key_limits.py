"""The limits that a key has of its own: what may be said, and what may be passed on."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.keys.issuance import parse_key_request
from gateway.access.keys.key_limits import (
    NAMES,
    NO_LIMITS,
    KeyLimits,
    exceeded,
    inherited,
    parse_limit_texts,
    parse_limits,
)
from gateway.errors import InvalidRequest
from gateway.settings.declarations import KeySettings
from gateway.settings.limits import LimitSettings


def test_every_limit_of_a_key_is_a_setting_of_the_same_name() -> None:
    settings = LimitSettings()
    assert all(getattr(settings, name) == 0 for name in NAMES)


def test_limits_are_read_alike_from_json_and_from_the_command_line() -> None:
    wanted = KeyLimits(events_per_second=100, concurrent_streams=0)
    assert parse_limits({"events_per_second": 100, "concurrent_streams": 0}) == wanted
    assert parse_limit_texts(("events_per_second=100", "concurrent_streams=0")) == wanted
    assert parse_limits(None) == parse_limits({}) == parse_limit_texts(()) == NO_LIMITS


@pytest.mark.parametrize(
    "text",
    ["events_per_second", "events_per_second=", "events_per_second=x", "events_per_second=-1",
     "events_per_second=1.5", "events_per_second=\u0663", "=1", "x=1",
     "events_per_second=" + "9" * 17],
)  # fmt: skip
def test_a_text_that_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="limits"):
        parse_limit_texts((text,))


@pytest.mark.parametrize("raw", [[], "", 0, {"events_per_second": None}])
def test_limits_that_came_out_empty_are_refused(raw: Any) -> None:
    with pytest.raises(InvalidRequest, match="limits"):
        parse_limits(raw)


def test_a_limit_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="given twice"):
        parse_limit_texts(("events_per_second=1", "events_per_second=0"))


def test_only_what_is_said_is_shown() -> None:
    assert NO_LIMITS.public() == {}
    assert KeyLimits(events_per_day=0).public() == {"events_per_day": 0}


def test_what_is_left_out_is_inherited() -> None:
    own = KeyLimits(events_per_second=10, concurrent_streams=2)
    assert inherited(own, NO_LIMITS) == own
    wanted = KeyLimits(events_per_second=5, events_per_day=7)
    assert inherited(own, wanted) == KeyLimits(
        events_per_second=5, concurrent_streams=2, events_per_day=7
    )


@pytest.mark.parametrize(
    ("own", "wanted", "name"),
    [
        (NO_LIMITS, KeyLimits(events_per_second=0), None),
        (KeyLimits(events_per_second=10), KeyLimits(events_per_second=10), None),
        (KeyLimits(events_per_second=10), KeyLimits(events_per_second=11), "events_per_second"),
        (KeyLimits(events_per_second=10), KeyLimits(events_per_second=0), "events_per_second"),
        (KeyLimits(events_per_second=10), NO_LIMITS, "events_per_second"),
        (KeyLimits(events_per_second=0), NO_LIMITS, None),
        (KeyLimits(requests_burst=5), KeyLimits(requests_burst=9), None),
    ],
)
def test_more_than_the_own_limits_is_found_by_name(
    own: KeyLimits, wanted: KeyLimits, name: str | None
) -> None:
    assert exceeded(own, wanted) == name


def test_null_limits_of_a_new_key_are_refused() -> None:
    body = {"name": "n", "purpose": "p", "owner": "o", "limits": None}
    with pytest.raises(InvalidRequest, match="null would be no limits at all"):
        parse_key_request(body, KeySettings(default_life=60, max_life=60))
