"""Time zones: opened when a grant is read, and what is not known denies."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.keys import zones
from gateway.keys.grant import Grant, parse_grant
from gateway.keys.policy import Allowed, Denied, decide_grants
from gateway.keys.stored_grant import read_grant

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "_KNOWN", {"UTC": UTC})


def no_descriptors(name: str) -> Any:
    raise OSError(errno.EMFILE, "Too many open files")


def stored(zone: str, **members: Any) -> Grant:
    raw = {"actions": ["stream"], "categories": ["**"], "when": {"hours": "00-24", "tz": zone}}
    # It is kept in memory by its text.
    return read_grant(msgspec.json.encode({**raw, **members}))


@pytest.mark.parametrize("read", ["parsed", "stored"])
def test_no_file_is_opened_to_evaluate_hours(read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {
        "id": read, "actions": ["stream"], "categories": ["**"],
        "when": {"hours": "17-18", "tz": "Asia/Kolkata"},
    }  # fmt: skip
    grant = parse_grant(raw) if read == "parsed" else read_grant(msgspec.json.encode(raw))
    monkeypatch.setattr(zones, "ZoneInfo", no_descriptors)
    assert isinstance(decide_grants((grant,), "stream", now=NOON), Allowed)


def test_utc_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "ZoneInfo", no_descriptors)
    assert isinstance(decide_grants((stored("UTC"),), "stream", now=NOON), Allowed)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "a\x00b", "\ud800"])
def test_a_zone_that_this_machine_lacks_allows_nothing_and_denies(zone: str) -> None:
    allowing = msgspec.convert(
        {"actions": ["stream"], "categories": ["**"], "when": {"hours": "00-24", "tz": zone}}, Grant
    )
    denying = msgspec.structs.replace(allowing, effect="deny", categories=("secret",))
    always = parse_grant({"actions": ["stream"], "categories": ["**"]})
    assert decide_grants((allowing,), "stream", now=NOON) == Denied("unknown_time_zone")
    decided = decide_grants((always, denying), "stream", now=NOON)
    assert isinstance(decided, Allowed)
    assert [scope.category for scope in decided.view.denied] == [("secret",)]


def test_a_zone_that_could_not_be_opened_for_want_of_descriptors_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as short:
        short.setattr(zones, "ZoneInfo", no_descriptors)
        grant = stored("Europe/Paris")
        assert decide_grants((grant,), "stream", now=NOON) == Denied("unknown_time_zone")
    assert isinstance(decide_grants((grant,), "stream", now=NOON), Allowed)
