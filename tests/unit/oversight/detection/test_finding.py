"""Findings: one per signal, key and window, with a counter."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from gateway.oversight.detection.finding import (
    REQUEST_VOLUME,
    SIGNALS,
    VOLUME,
    Finding,
    new_finding,
    silence,
)
from gateway.oversight.detection.signals import Signal

HOUR = 3600
AT = 1000.0 * 6 * HOUR


def test_signs_of_one_window_are_one_finding_and_of_the_next_another() -> None:
    def name(signal: str, at: float, key_id: str = "k") -> str:
        return new_finding(Signal(signal, at), key_id).id

    assert name("denials", AT) == name("denials", AT + HOUR - 1)
    assert name("denials", AT) != name("denials", AT + HOUR)
    assert name("new_network", AT) == name("new_network", AT + 6 * HOUR - 1)
    assert name("new_network", AT) != name("new_network", AT + 6 * HOUR)
    assert name("denials", AT) != name("deep_replay", AT)
    assert name("denials", AT) != name("denials", AT, "other")


def test_a_finding_counts_and_knows_its_first_and_last_sign() -> None:
    finding = new_finding(Signal("denials", AT + 5, 5), "k").with_signal(
        Signal("denials", AT + 5, 5)
    )
    finding = finding.with_signal(Signal("denials", AT + 9, 1, {"address": "a"}))
    finding = finding.with_signal(Signal("denials", AT + 7, 1, {"address": "b"}))
    assert (finding.count, finding.first_seen, finding.last_seen) == (7, AT + 5, AT + 9)


@pytest.mark.parametrize(
    ("count", "told", "seconds", "news"),
    [
        (1, 0, 0, True),
        (1, 1, 999, False),
        (3, 2, 59, False),
        (3, 2, 60, True),
        (4, 2, 0, True),
        (99, 50, 59, False),
    ],
)
def test_it_is_told_of_at_once_when_it_doubles_and_after_a_minute(
    count: int, told: int, seconds: float, news: bool
) -> None:
    finding = Finding(
        id="f", signal="denials", first_seen=AT, last_seen=AT, count=count, told=told, told_at=AT
    )
    assert finding.is_news(AT + seconds) is news


def test_a_finding_of_an_address_has_no_key_and_an_id_that_fits_into_a_path() -> None:
    finding = new_finding(Signal("denials", AT, 5), "", "2001:db8::/64")
    assert "/" not in finding.id
    assert (finding.key, finding.address) == ("", "2001:db8::/64")
    assert finding.public().key is None
    assert finding.public().address == "2001:db8::/64"
    assert finding.silence == silence("denials", "", "2001:db8::/64")


def test_what_is_shown_has_the_members_of_the_interface() -> None:
    finding = new_finding(Signal("new_network", AT), "k").with_signal(
        Signal("new_network", AT, 1, {"networks": ["9.9.9.0/24"]})
    )
    assert msgspec.to_builtins(finding.public()) == {
        "id": finding.id,
        "key": "k",
        "signal": "new_network",
        "count": 1,
        "severity": 3,
        "first_seen": "1970-09-08T00:00:00.000000Z",
        "last_seen": "1970-09-08T00:00:00.000000Z",
        "state": "open",
        "data": {"networks": ["9.9.9.0/24"]},
    }


def test_a_finding_survives_being_written_down() -> None:
    finding = new_finding(Signal("volume", AT), "k").with_signal(
        Signal("volume", AT, 1, {"times": 9.5})
    )
    assert msgspec.json.decode(msgspec.json.encode(finding), type=Finding) == finding


def test_all_signals_that_are_documented_can_be_asked_for_and_no_others() -> None:
    page = (Path(__file__).parents[4] / "deploy" / "unusual-activity.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| .* \| (?:1 hour|6 hours) \|$", page, re.MULTILINE)
    assert {*rows, VOLUME, REQUEST_VOLUME} == set(SIGNALS)
