"""Times and durations as text, and the clocks."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import (
    SystemClock,
    format_duration,
    format_rfc3339,
    parse_duration,
    parse_formatted,
    parse_rfc3339,
)
from gateway.errors import InvalidRequest
from tests.support.machine_time import patience

if TYPE_CHECKING:
    from tests.conftest import FakeClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
moments = st.datetimes(timezones=st.just(UTC))
FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


@given(moments)
def test_a_time_comes_back_as_it_was(moment: datetime) -> None:
    text = format_rfc3339(micros(moment))
    assert FORM.fullmatch(text)
    assert datetime.fromisoformat(text) == moment
    assert parse_rfc3339(text) == parse_formatted(text.encode()) == micros(moment)


@pytest.mark.parametrize("text", ["", "2026-01-31T12:00:00Z", '7m2p-00000000000000000001"}'])
def test_what_the_gateway_did_not_write_is_no_time_that_it_wrote(text: str) -> None:
    with pytest.raises(ValueError, match=r"int|date-time"):
        parse_formatted(text.encode())


@given(moments, moments)
def test_times_sort_as_text_in_their_order(one: datetime, other: datetime) -> None:
    assert (format_rfc3339(micros(one)) < format_rfc3339(micros(other))) == (one < other)


@given(
    st.datetimes(max_value=datetime.fromisoformat("9999-12-29")).filter(lambda one: one.year > 1),
    st.integers(-(23 * 60 + 59), 23 * 60 + 59),
)
def test_offsets_are_taken_off(moment: datetime, minutes: int) -> None:
    local = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert parse_rfc3339(local.isoformat()) == micros(local)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520000Z"),
        ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57.000000Z"),
        ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00.000000Z"),
        ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00.000000Z"),
        ("1990-12-31T23:59:60.25Z", "1991-01-01T00:00:00.250000Z"),
        ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.870000Z"),
        ("2024-02-29t00:00:00z", "2024-02-29T00:00:00.000000Z"),
        ("2026-01-31T12:00:00-00:00", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.1234567Z", "2026-01-31T12:00:00.123456Z"),
        ("2026-01-31T12:00:00.999999999999Z", "2026-01-31T12:00:00.999999Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_every_form_of_rfc_3339_is_stored_in_utc_with_microseconds(text: str, same: str) -> None:
    assert format_rfc3339(parse_rfc3339(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31T12:00Z",
        "2026-01-31 12:00:00Z",
        "20260131T120000Z",
        "2026-1-31T12:00:00Z",
        "26-01-31T12:00:00Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00+0100",
        "2026-01-31T12:00:00+01",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+01:60",
        "2026-01-31T12:00:00 01:00",
        "2026-02-29T12:00:00Z",
        "2026-02-30T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-00-10T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:61Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:60Z",
        "10000-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        "2026-01-31T12:00:00Z\n",
        " 2026-01-31T12:00:00Z",
        "2026-01-31T12:00:0٣Z",
        "2026-01-31T12:00:00.٣Z",
        "2026-01-31T12:00:00\N{FULLWIDTH LATIN CAPITAL LETTER Z}",
        "1769860800",
        "2026-W05-6T12:00:00Z",
    ],
)
def test_a_time_that_is_not_one_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not ") as caught:
        parse_rfc3339(text)
    assert "\n" not in str(caught.value)


@given(st.text(alphabet="0123456789-:TtZz+. ", max_size=30))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        found = parse_rfc3339(text)
    except ValueError:
        return
    assert parse_rfc3339(format_rfc3339(found)) == found


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("30s", 30),
        ("15m", 900),
        ("24h", 86_400),
        ("30d", 2_592_000),
        ("1h30m", 5_400),
        ("1d2h3m4s", 93_784),
        ("007s", 7),
        ("999999999s", 999_999_999),
    ],
)
def test_durations_are_numbers_with_units(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


def test_a_duration_is_written_in_its_largest_units() -> None:
    for seconds, text in ((0, "0s"), (90, "1m30s"), (86_400, "1d"), (129_601, "1d12h1s")):
        assert format_duration(seconds) == text
        assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "30", "s", "-30s", "+30s", "1.5h", "30S", "30 s", " 30s", "30s ", "30s\n", "1w", "15min",
     "1h30", "٣0s", "30\N{LATIN SMALL LETTER LONG S}", "\N{SUPERSCRIPT TWO}d", "1_000s",
     "1234567890s", "PT15M", "1h-5m"],
)  # fmt: skip
def test_a_duration_that_is_not_one_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"30s, 15m, 24h or 30d") as caught:
        parse_duration(text)
    assert repr(text) in caught.value.detail


async def test_the_system_clock_tells_the_machines_time_and_sleeps() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 5
    began = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - began >= 0.009


def test_importing_the_clock_does_not_import_asyncio() -> None:
    code = "import gateway.clock, sys; sys.exit('asyncio' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], timeout=patience(30), check=False).returncode
        == 0
    )


async def test_the_fake_clock_wakes_sleepers_in_the_order_of_their_times(clock: FakeClock) -> None:
    import asyncio

    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(sleeper(*each)) for each in (("a", 2.0, 2.0), ("b", 3.0))]
    await clock.advance(1.0)
    assert (woken, clock.sleepers) == ([], 2)
    await clock.advance(3.0)
    assert woken == [("a", 2.0), ("b", 3.0), ("a", 4.0)]
    await asyncio.gather(*tasks)
    clock.step(-60.0)
    assert clock.now() == 1_700_000_000.0 + 4.0 - 60.0
    assert clock.monotonic() == 4.0
