"""Time zones: opened when a grant is read, and what is not known denies."""

from __future__ import annotations

import errno
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import tzdata

from gateway.access.grants import zones
from gateway.access.grants.grant import Grant, When, parse_grant
from gateway.access.keys.stored_grant import read_grant
from gateway.access.policy.decision import Allowed, Denied, decide_grants
from gateway.clock import parse_rfc3339
from gateway.errors import InvalidRequest

WINTER = datetime(2026, 1, 1, tzinfo=UTC)
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
    monkeypatch.setattr(zones, "_read", no_descriptors)
    assert isinstance(decide_grants((grant,), "stream", now=NOON), Allowed)


def test_utc_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "_read", no_descriptors)
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
        short.setattr(zones, "_read", no_descriptors)
        grant = stored("Europe/Paris")
        assert decide_grants((grant,), "stream", now=NOON) == Denied("unknown_time_zone")
    assert isinstance(decide_grants((grant,), "stream", now=NOON), Allowed)


@pytest.mark.parametrize(
    "zone",
    ["localtime", "posixrules", "right/UTC", "posix/Europe/Paris", "Factory", "europe/paris"],
)
def test_names_that_mean_another_zone_on_another_machine_are_refused(zone: str) -> None:
    when = {"hours": "06-20", "tz": zone}
    with pytest.raises(InvalidRequest, match="time zone"):
        parse_grant({"actions": ["stream"], "categories": ["**"], "when": when})


def test_zones_are_those_of_the_package_whatever_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "Europe").mkdir()
    new_york = Path(tzdata.__file__).parent / "zoneinfo" / "America" / "New_York"
    (tmp_path / "Europe" / "Paris").write_bytes(new_york.read_bytes())
    zoneinfo.reset_tzpath([tmp_path])
    try:
        assert WINTER.astimezone(zoneinfo.ZoneInfo.no_cache("Europe/Paris")).utcoffset() == (
            timedelta(hours=-5)
        )
        zone = zones.zone_of("Europe/Paris")
        assert zone is not None
        assert WINTER.astimezone(zone).utcoffset() == timedelta(hours=1)
    finally:
        zoneinfo.reset_tzpath()


@pytest.mark.parametrize(
    ("effect", "means"), [("allow", "it allows nothing"), ("deny", "it denies at any hour")]
)
def test_a_stored_zone_that_is_not_known_is_named_with_what_it_means(
    effect: str, means: str
) -> None:
    [(problem, said)] = stored("localtime", effect=effect).defects()
    assert (problem.path, said) == ("when.tz", means)
    assert "there is no time zone 'localtime' here" in problem.reason
    assert stored("Europe/Paris", effect=effect).defects() == ()


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Niue", "UTC"])
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_hours_are_told_at_either_end_of_the_calendar(at: str, zone: str) -> None:
    when = When(hours="00-24", tz=zone)
    assert when.holds(parse_rfc3339(at) / 1_000_000, None) is None
