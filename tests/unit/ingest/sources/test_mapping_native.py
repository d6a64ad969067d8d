"""Fitting foreign values into an event: lengths, names, times, ids, and the line that is sent."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.decode import Refused, decode_event
from gateway.ingest.sources import identity
from gateway.ingest.sources.identity import SeenIds, digest, event_id, marked
from gateway.ingest.sources.lines import EventLines
from gateway.ingest.sources.native import Unmappable, action, address, category, native_event, urn
from gateway.ingest.sources.timestamps import utc_time

NO_IDS = iter(())


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("2023-07-10T12:32:49Z", "2023-07-10T12:32:49.000000Z"),
        ("2022-11-29 00:09:04.38", "2022-11-29T00:09:04.380000Z"),
        ("2024-11-13 18:34:10.595141000", "2024-11-13T18:34:10.595141Z"),
        ("2024-11-13T18:34:10.595141999Z", "2024-11-13T18:34:10.595141Z"),
        ("2024-11-13T18:34:10+02:00", "2024-11-13T16:34:10.000000Z"),
        ("2024-11-13T18:34:10-0530", "2024-11-14T00:04:10.000000Z"),
        ("2024-11-13 18:34:10 UTC", "2024-11-13T18:34:10.000000Z"),
        ("20131102T010628Z", "2013-11-02T01:06:28.000000Z"),
        (1621305118553, "2021-05-18T02:31:58.553000Z"),
        (1621305118553.0, "2021-05-18T02:31:58.553000Z"),
        (1621305118, "2021-05-18T02:31:58.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
    ],
)
def test_each_spelling_of_a_time_is_understood(spelled: Any, meant: str) -> None:
    assert utc_time({"at": spelled}, "at") == meant


@pytest.mark.parametrize(
    "spelled",
    [
        "redacted",
        "12:00",
        "2024-12-17 00:00:00000000",
        "2024-13-01T00:00:00Z",
        "2024-02-30 00:00:00",
        "٢٠٢٤-01-01T00:00:00Z",
        1e300,
        1e18,
        -(2**63),
        True,
        [1],
        {"a": 1},
    ],
)
def test_a_broken_time_is_refused_by_its_member(spelled: Any) -> None:
    with pytest.raises(Unmappable) as refused:
        utc_time({"published": spelled}, "at", "published")
    assert refused.value.path == "published"


def test_the_first_time_that_is_there_counts() -> None:
    record = {"a": None, "b": "", "c": "2024-01-01T00:00:00Z", "d": "2025-01-01T00:00:00Z"}
    assert utc_time(record, "a", "b", "c", "d") == "2024-01-01T00:00:00.000000Z"
    assert utc_time(record, "a", "b") is None


def event(**members: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": "1", "time": None, "category": "c", "action": "a", "outcome": "denied",
        "actor": {}, "source": {}, "targets": [], "request": {},
    }  # fmt: skip
    return native_event({"x": 1}, **(base | members))


def test_what_is_too_long_is_cut_to_what_an_event_may_hold() -> None:
    long = "ä" * 5000
    mapped = event(
        actor=dict.fromkeys(("type", "id", "name", "key_id"), long),
        source={"service": long, "user_agent": long},
        targets=[{"urn": f"x:{number}/{long}", "name": long} for number in range(40)],
        request={"id": long, "trace_id": long},
        reason=long,
    )
    decode_event(msgspec.json.encode(mapped), NO_IDS)
    assert len(mapped["actor"]["name"]) == 256
    assert len(mapped["source"]["user_agent"]) == 1024
    assert len(mapped["reason"]) == 1024
    assert len(mapped["targets"]) == 32


def test_empty_members_are_left_out() -> None:
    mapped = event(actor={"id": "", "name": None}, targets=[{}], request={"id": False})
    assert set(mapped) == {"id", "category", "action", "outcome", "severity", "data"}


def test_categories_are_lower_case_and_at_most_64_long_in_whole_segments() -> None:
    assert category("okta", "User.MFA factor..Reset") == "okta.user.mfa_factor.reset"
    assert category("github", "") == "github"
    assert category("x", "a" * 40, "b" * 40) == "x." + "a" * 40
    assert category("y" * 100) == "y" * 64


def test_actions_keep_their_case_and_at_most_128_characters() -> None:
    assert action("pods/exec", "create") == "pods/exec.create"
    assert action("Über mäßig") == "_ber_m__ig"
    assert len(action(*["segment"] * 40)) <= 128


def test_a_resource_path_escapes_what_would_change_its_branch() -> None:
    assert urn("k8s", "prod", "ns", "pay") == "k8s:prod/ns/pay"
    assert urn("k8s", "a/b", "50%", "x\ny") == "k8s:a%2Fb/50%25/x%0Ay"


def test_a_resource_path_too_long_names_its_nearest_ancestor() -> None:
    assert urn("s3", "bucket", "folder", "k" * 2000) == "s3:bucket/folder"
    assert len(urn("s3", "k" * 2000)) == 1024


def test_only_addresses_pass_as_addresses() -> None:
    assert address("192.0.2.1") == "192.0.2.1"
    assert address("2001:DB8::0001") == "2001:db8::1"
    assert address("AWS Internal") is None
    assert address(3221225985) is None
    assert address(None) is None


def test_an_id_that_does_not_fit_is_made_of_the_content() -> None:
    record = {"b": 1, "a": [1, 2]}
    assert event_id(record, "own-id") == "own-id"
    assert event_id(record, 42) == "42"
    made = event_id(record, None)
    assert made == f"sha256-{digest(record)}"
    for own in ("", "x" * 129, "tab\t", "näh", {"id": 1}):
        assert event_id(record, own) == made


def test_the_content_does_not_depend_on_the_order_of_members() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_marked_id_always_fits() -> None:
    assert len(marked("x" * 95, {})) == 128
    assert marked("x" * 96, {}) == f"sha256-{digest({})}"


def test_records_that_share_an_id_are_kept_apart() -> None:
    seen = SeenIds()
    assert seen.settle("1234", {"n": 1}) == "1234"
    assert seen.settle("1234", {"n": 1}) == "1234"
    other = seen.settle("1234", {"n": 2})
    assert other == marked("1234", {"n": 2})
    assert seen.settle("1234", {"n": 2}) == other


def test_only_the_newest_ids_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_REMEMBERED", 2)
    seen = SeenIds()
    for name in ("a", "b", "c"):
        seen.settle(name, {"n": 1})
    assert seen.settle("c", {"n": 2}) != "c"
    assert seen.settle("a", {"n": 2}) == "a"


OKTA = b'{"eventType":"user.session.start","uuid":"u-1","n":%b}'


@pytest.mark.parametrize("number", [b"1.0", b"1.00", b"1e2", b"-0.0", b"18446744073709551615"])
def test_numbers_keep_their_digits(number: bytes) -> None:
    raw = OKTA % number
    line = EventLines("okta").line(msgspec.json.decode(raw), raw)
    assert line.endswith(b'"data":' + raw + b"}")
    assert raw in decode_event(line, NO_IDS).tail


def test_an_integer_beyond_64_bits_is_refused_and_not_rounded() -> None:
    raw = OKTA % b"123456789012345678901234567890"
    line = EventLines("okta").line(msgspec.json.decode(raw), raw)
    assert raw in line
    with pytest.raises(Refused, match="64 bits"):
        decode_event(line, NO_IDS)


def test_a_member_that_stands_twice_is_still_there_to_be_refused() -> None:
    raw = b'{"eventType":"user.session.start","n":1,"n":2}'
    line = EventLines("okta").line(msgspec.json.decode(raw), raw)
    with pytest.raises(Refused, match="twice"):
        decode_event(line, NO_IDS)


def test_the_tenant_is_for_events_that_name_none() -> None:
    lines = EventLines("native", "acme")
    bare, own = b'{"id":"1","category":"c","action":"a"}', b'{"id":"1","tenant":"globex"}'
    assert msgspec.json.decode(lines.line(msgspec.json.decode(bare), bare))["tenant"] == "acme"
    assert lines.line(msgspec.json.decode(own), own) == own
    raw = OKTA % b"1"
    mapped = EventLines("okta", "acme").line(msgspec.json.decode(raw), raw)
    assert msgspec.json.decode(mapped)["tenant"] == "acme"
    assert b'"tenant"' not in EventLines("okta").line(msgspec.json.decode(raw), raw)


@given(st.sampled_from([b"", b" ", b"\n", b"\r\n\t "]))
def test_a_native_event_without_an_id_gets_one_of_its_content(space: bytes) -> None:
    raw = b'{%b"category":"c",%b"action":"a","data":{"n":1.50}}' % (space, space)
    line = EventLines("native").line(msgspec.json.decode(raw), raw)
    draft = decode_event(line, NO_IDS)
    assert draft.id == f"sha256-{digest(msgspec.json.decode(raw))}"
    assert b'"n":1.50' in line
    assert b"\n" not in line


def test_an_empty_native_event_stays_one() -> None:
    assert EventLines("native", "acme").line({}, b"{}") == b"{}"


def test_an_export_of_another_gateway_comes_in_without_what_that_gateway_had_set() -> None:
    raw = (
        b'{"cursor":"0123456789-00000000000000000007","recorded_at":"2026-01-01T00:00:00.000000Z",'
        b'"time":"2026-01-01T00:00:00.000000Z","id":"e-7","category":"auth","action":"login",'
        b'"data":{"amount":1.10}}'
    )
    line = EventLines("native").line(json.loads(raw), raw)
    assert line == (
        b'{"time":"2026-01-01T00:00:00.000000Z","id":"e-7","category":"auth","action":"login",'
        b'"data":{"amount":1.10}}'
    )
