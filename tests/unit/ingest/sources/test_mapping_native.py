"""Fitting foreign values into an event: lengths, names, times, ids, and the line that is sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.identity import digest, marked
from gateway.ingest.mapping.timestamps import rfc3339
from gateway.ingest.mapping.values import action, address, category, urn
from gateway.ingest.sources.lines import Line, native_lines
from gateway.ingest.sources.source import NotMapped, Owner
from gateway.ingest.strict_json import Refused
from tests.support.exports import event_of, source_named

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
        ("1621305118", "2021-05-18T02:31:58.000000Z"),
        ("1621305118.553", "2021-05-18T02:31:58.553000Z"),
        (1621305118553123, "2021-05-18T02:31:58.553123Z"),
        ("1621305118553123456", "2021-05-18T02:31:58.553123Z"),
        ("20240201143045.456", "2024-02-01T14:30:45.456000Z"),
        ("2024-02-01 14:30:45,456", "2024-02-01T14:30:45.456000Z"),
        ("Thu, 01 Feb 2024 14:30:45 +0100", "2024-02-01T13:30:45.000000Z"),
        ("01/Feb/2024:14:30:45 +0100", "2024-02-01T13:30:45.000000Z"),
    ],
)
def test_each_spelling_of_a_time_is_understood(spelled: Any, meant: str) -> None:
    assert rfc3339(spelled) == meant


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
        -90_000_000_000_000_000,
        True,
        [1],
        {"a": 1},
    ],
)
def test_a_broken_time_is_refused_by_its_member(spelled: Any) -> None:
    with pytest.raises(Refused) as refused:
        event_of("okta", {"eventType": "user.session.start", "published": spelled})
    assert refused.value.path == "published"


def test_the_first_time_that_is_there_counts() -> None:
    record = {"action": "a.b", "org": "o", "@timestamp": None, "at_sign_timestamp": ""}
    assert event_of("github", record | {"created_at": 0})["time"] == "1970-01-01T00:00:00.000000Z"


def test_a_record_without_a_time_says_so() -> None:
    event = event_of("github", {"action": "a.b", "org": "o"})
    assert "time" not in event
    assert event["data"]["time_unknown"] is True


def test_what_is_too_long_is_cut_to_what_an_event_may_hold() -> None:
    long = "ä" * 5000
    event = event_of(
        "okta",
        {
            "eventType": "user.x",
            "actor": dict.fromkeys(("type", "id", "alternateId", "displayName"), long),
            "client": {"userAgent": {"rawUserAgent": long}},
            "outcome": {"reason": long},
            "target": [{"type": "t", "id": f"{n}{long}", "displayName": long} for n in range(40)],
            "transaction": {"id": long},
        },
    )
    decode_event(msgspec.json.encode(event), NO_IDS)
    assert len(event["actor"]["name"]) == 256
    assert len(event["source"]["user_agent"]) == 1024
    assert len(event["reason"]) == 1024
    assert len(event["targets"]) == 32


def test_empty_members_are_left_out() -> None:
    record = {"eventType": "user.x", "actor": {"id": "", "displayName": None}, "target": [{}]}
    event = event_of("okta", record | {"published": "2024-01-01T00:00:00Z"})
    assert not {"actor", "targets", "request", "reason"} & set(event)


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
    def id_of(own: Any) -> tuple[str, dict[str, Any]]:
        record = {"eventType": "user.x", "published": 0, "uuid": own}
        return event_of("okta", record)["id"], record

    assert id_of("own-id")[0] == "own-id"
    assert id_of(42)[0] == "42"
    for own in ("", "x" * 129, "tab\t", "näh", {"id": 1}, None):
        made, record = id_of(own)
        assert made == f"sha256-{digest(record)}"


def test_the_content_does_not_depend_on_the_order_of_members() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_marked_id_always_fits() -> None:
    assert len(marked("x" * 95, {})) == 128
    assert marked("x" * 96, {}) == f"sha256-{digest({})}"


OKTA = b'{"eventType":"user.session.start","published":0,"uuid":"u-1","n":%b}'


@pytest.mark.parametrize("number", [b"1.0", b"1.00", b"1e2", b"-0.0", b"18446744073709551615"])
def test_numbers_keep_their_digits(number: bytes) -> None:
    raw = OKTA % number
    assert source_named("okta").draft(raw).draft.tail.endswith(b'"data":' + raw + b"}")


def test_an_integer_beyond_64_bits_is_refused_and_not_rounded() -> None:
    with pytest.raises(Refused, match="64 bits"):
        source_named("okta").draft(OKTA % b"123456789012345678901234567890")


def test_a_member_that_stands_twice_is_refused() -> None:
    with pytest.raises(Refused, match="twice"):
        source_named("okta").draft(b'{"eventType":"user.session.start","n":1,"n":2}')


def native(raw: bytes, tenant: str | None = None) -> bytes:
    [found] = native_lines(tenant)(raw)
    assert isinstance(found, Line)
    return found.line


def test_the_tenant_is_for_events_that_name_none() -> None:
    bare, own = b'{"id":"1","category":"c","action":"a"}', b'{"id":"1","tenant":"globex"}'
    assert msgspec.json.decode(native(bare, "acme"))["tenant"] == "acme"
    assert native(own, "acme") == own
    assert source_named("okta").draft(OKTA % b"1", Owner("acme")).draft.tenant == "acme"
    assert source_named("okta").draft(OKTA % b"1").draft.tenant == "default"


@given(st.sampled_from([b"", b" ", b"\n", b"\r\n\t "]))
def test_a_native_event_without_an_id_gets_one_of_its_content(space: bytes) -> None:
    raw = b'{%b"category":"c",%b"action":"a","data":{"n":1.50}}' % (space, space)
    line = native(raw)
    draft = decode_event(line, NO_IDS)
    assert draft.id == f"sha256-{digest(msgspec.json.decode(raw))}"
    assert b'"n":1.50' in line
    assert b"\n" not in line


def test_an_empty_native_event_stays_one() -> None:
    assert native(b"{}", "acme") == b"{}"


def test_what_is_no_event_is_refused_with_its_text() -> None:
    [found] = native_lines(None)(b'{"id":')
    assert isinstance(found, NotMapped)
    assert (found.raw, found.reason[:14]) == (b'{"id":', "not valid JSON")


def test_an_export_of_another_gateway_comes_in_without_what_that_gateway_had_set() -> None:
    raw = (
        b'{"cursor":"0123456789-00000000000000000007","recorded_at":"2026-01-01T00:00:00.000000Z",'
        b'"time":"2026-01-01T00:00:00.000000Z","id":"e-7","category":"auth","action":"login",'
        b'"data":{"amount":1.10}}'
    )
    assert native(raw) == (
        b'{"time":"2026-01-01T00:00:00.000000Z","id":"e-7","category":"auth","action":"login",'
        b'"data":{"amount":1.10}}'
    )
