"""Examples of each format, member by member, and two of them byte for byte."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from gateway.formats.format import FormatOptions
from gateway.formats.names import FORMAT_NAMES
from gateway.formats.registry import make_formats
from tests.support.cases import every
from tests.support.format_examples import DENIED, EXAMPLES, EXPORTED, LOGIN, native

FORMATS = make_formats(FormatOptions(hostname="gw"))
CEF = (
    b"CEF:0|audit-gateway|audit-gateway|1|auth.user.login|user.login|5|externalId=e-1 "
    b"start=1795946400123 rt=1795946400200 cat=auth act=user.login outcome=failure suid=u-1 "
    b"suser=ann@example.org spriv=user src=203.0.113.7 spt=443 sourceServiceName=sso "
    b"requestClientApplication=Mozilla/5.0 duid=portal duser=Portal "
    b"reason=bad password | 3rd \\= try cs1Label=tenant cs1=acme cs3Label=cursor "
    b"cs3=abc-00000000000000000001 cs4Label=target cs4=app:portal cs5Label=requestId cs5=r-1"
)
SYSLOG = (
    b"<108>1 2026-11-29T10:00:00.123456Z gw audit-gateway - auth.user.login "
    b'[audit@32473 id="e-1" tenant="acme" recorded="2026-11-29T10:00:00.200000Z" '
    b'cursor="abc-00000000000000000001" action="user.login" outcome="failure" actor="u-1" '
    b'ip="203.0.113.7" service="sso" target="app:portal" request="r-1" '
    b'reason="bad password | 3rd = try"] '
)


def shown(name: str, event: bytes, **options: Any) -> dict[str, Any]:
    formats = make_formats(FormatOptions(**options))
    return orjson.loads(formats[name].encode(event))  # type: ignore[no-any-return]


def test_the_formats_are_these() -> None:
    assert FORMAT_NAMES == ("native", "cloudevents", "ocsf", "ecs", "cef", "rfc5424")
    assert tuple(FORMATS) == FORMAT_NAMES
    assert [name for name, one in FORMATS.items() if not one.json] == ["cef", "rfc5424"]


@every(
    [
        ("failed login", "auth.user.login", "app:portal"),
        ("denied delete", "k8s.audit.pods.delete", "k8s:prod/ns/pay/pods/web-1"),
        ("role granted to a user", "iam.user.user.role.grant", "user:bob"),
        ("gateway's own", "gateway.access.stream.open", "gateway:stream"),
        ("masked actor, no source", "billing.invoice.invoice.export", None),
    ]
)
def test_cloudevents_have_type_and_subject(case: tuple[str, str, str | None]) -> None:
    name, kind, subject = case
    made = shown("cloudevents", EXAMPLES[name])
    assert (made["type"], made.get("subject")) == (kind, subject)
    assert made["data"] == orjson.loads(EXAMPLES[name])


@every(
    [
        ("failed login", 3002, 300201, 2, None),
        ("denied delete", 6003, 600304, 2, "denied"),
        ("role granted to a user", 3001, 300107, 1, None),
        ("gateway's own", 6003, 600399, 1, None),
        ("masked actor, no source", 6003, 600302, 0, None),
    ]
)
def test_ocsf_has_class_activity_and_status(case: tuple[str, int, int, int, str | None]) -> None:
    name, *expected = case
    made = shown("ocsf", EXAMPLES[name])
    seen = [made["class_uid"], made["type_uid"], made["status_id"], made.get("status_detail")]
    assert seen == expected
    assert made["type_uid"] == made["class_uid"] * 100 + made["activity_id"]
    assert made.get("activity_name") == ("stream.open" if expected[1] == 600399 else None)


def test_ocsf_names_what_it_must_have_and_the_event_has_not_unknown() -> None:
    made = shown("ocsf", EXAMPLES["masked actor, no source"])
    assert made["src_endpoint"] == {"name": "unknown"}
    assert made["actor"] == {"user": {"name": "unknown"}}


@every(
    [
        ("failed login", ["authentication"], ["start"], "failure"),
        ("denied delete", ["api"], ["deletion", "denied"], "failure"),
        ("role granted to a user", ["iam"], ["change", "user"], "success"),
        ("gateway's own", ["api"], ["access"], "success"),
        ("masked actor, no source", ["api"], ["access"], "unknown"),
    ]
)
def test_ecs_has_category_type_and_outcome(case: tuple[str, list[str], list[str], str]) -> None:
    name, *expected = case
    made = shown("ecs", EXAMPLES[name])
    event = made["event"]
    assert [event["category"], event["type"], event["outcome"]] == expected
    assert ("user" in made) == (name != "masked actor, no source")
    assert made.get("audit", {}).get("masked") == (None if "user" in made else ["actor"])


@every(
    [
        ("failed login", "|auth.user.login|user.login|5|"),
        ("denied delete", "|k8s.audit.pods.delete|pods.delete|7|"),
        ("role granted to a user", "|iam.user.user.role.grant|user.role.grant|3|"),
        ("gateway's own", "|gateway.access.stream.open|stream.open|1|"),
        ("masked actor, no source", "|billing.invoice.invoice.export|invoice.export|1|"),
    ]
)
def test_cef_has_a_header(case: tuple[str, str]) -> None:
    name, header = case
    made = FORMATS["cef"].encode(EXAMPLES[name]).decode()
    assert made.startswith(f"CEF:0|audit-gateway|audit-gateway|1{header}externalId=e-")
    assert ("suser=" in made) == (name in ("failed login", "denied delete"))
    assert made.endswith("cs6Label=masked cs6=actor") == name.startswith("masked")


@every(
    [
        ("failed login", "<108>1 ", "auth.user.login"),
        ("denied delete", "<107>1 ", "k8s.audit.pods.delete"),
        ("role granted to a user", "<109>1 ", "iam.user.user.role.grant"),
        ("gateway's own", "<110>1 ", "gateway.access.stream.open"),
        ("masked actor, no source", "<110>1 ", "billing.invoice.invoice.export"),
    ]
)
def test_syslog_has_priority_and_message_id(case: tuple[str, str, str]) -> None:
    name, priority, message_id = case
    made = FORMATS["rfc5424"].encode(EXAMPLES[name]).decode()
    assert made.startswith(priority)
    assert made.split(" ")[5] == message_id
    assert made.endswith("] " + EXAMPLES[name].decode())


def test_a_cef_event_is_this_byte_for_byte() -> None:
    assert FORMATS["cef"].encode(EXAMPLES["failed login"]) == CEF


def test_a_syslog_message_is_this_byte_for_byte() -> None:
    event = EXAMPLES["failed login"]
    assert FORMATS["rfc5424"].encode(event) == SYSLOG + event


def test_what_a_slot_of_a_type_does_not_take_is_left_out() -> None:
    for address in ("***", "ps1_aaaaaaaaaaaaaaaaaaaaaaaaaa", "fe80::1%eth0", "10.0.0.256"):
        event = native({**DENIED, "source": {"ip": address}})
        assert "ip" not in shown("ocsf", event)["src_endpoint"]
        assert shown("ecs", event)["source"] == {"address": address}
        assert b" src=" not in FORMATS["cef"].encode(event)
        assert b" ip=" not in FORMATS["rfc5424"].encode(event).partition(b"] {")[0]
    long = "0000:0000:0000:0000:0000:0000:255.255.255.255"
    made = shown("ecs", native({**DENIED, "source": {"ip": long}}))
    assert made["source"] == {"address": long, "ip": "::ffff:ffff"}
    event = native(LOGIN, ("source.ip", "source.port"))
    assert shown("ocsf", event)["src_endpoint"] == {"svc_name": "sso"}
    assert "source" not in shown("ecs", event)
    assert b"spt=" not in FORMATS["cef"].encode(event)


def test_an_ipv6_address_and_a_long_id_have_other_places_in_cef() -> None:
    made = FORMATS["cef"].encode(native({**DENIED, "id": "i" * 41})).decode()
    assert " c6a2Label=Source IPv6 Address c6a2=2001:db8::7 " in made
    assert f" cs2Label=eventId cs2={'i' * 41} " in made
    assert "externalId" not in made
    assert " src=" not in made


def test_line_breaks_and_signs_of_the_format_are_escaped() -> None:
    event = native({**EXPORTED, "reason": 'a\\b=c"]|\r\n\x00d', "actor": {"name": "x\ty"}})
    assert 'reason=a\\\\b\\=c"]|\\r\\n d ' in FORMATS["cef"].encode(event).decode()
    assert "suser=x y" in FORMATS["cef"].encode(event).decode()
    assert 'reason="a\\\\b=c\\"\\]|   d"] {' in FORMATS["rfc5424"].encode(event).decode()


def test_a_value_of_blanks_takes_no_place_in_cef() -> None:
    event = native({**EXPORTED, "actor": {"id": " ", "name": "\n"}, "request": {"id": "\t"}})
    made = FORMATS["cef"].encode(event)
    assert not any(name in made for name in (b"suid", b"suser", b"cs5"))


def test_cloudevents_take_a_prefix_of_types_and_a_source() -> None:
    for prefix in ("org.example", "org.example."):
        made = shown("cloudevents", EXAMPLES["failed login"], type_prefix=prefix, source="//a/")
        assert (made["type"], made["source"]) == ("org.example.auth.user.login", "//a/acme")


def test_an_attribute_that_cloudevents_do_not_allow_is_left_out() -> None:
    event = native({**LOGIN, "targets": [{"urn": "a\x85b"}], "request": {"trace_id": "\ufffe"}})
    made = shown("cloudevents", event)
    assert "subject" not in made
    assert "traceid" not in made
    assert made["data"]["targets"] == [{"urn": "a\x85b"}]


def test_ocsf_carries_as_much_of_the_native_event_as_is_asked_for() -> None:
    event = EXAMPLES["failed login"]
    whole = orjson.loads(event)
    assert shown("ocsf", event)["unmapped"] == whole
    assert shown("ocsf", event, unmapped="none")["unmapped"] == {"cursor": whole["cursor"]}
    rest = shown("ocsf", event, unmapped="rest")["unmapped"]
    assert rest == {name: whole[name] for name in ("cursor", "targets", "request", "data")}
    # What the class has no slot for, or the slot does not take, stays.
    odd = native({**LOGIN, "source": {"ip": "unix"}})
    assert shown("ocsf", odd, unmapped="rest")["unmapped"]["source"] == {"ip": "unix"}
    no_actor = native({"id": "e", "category": "a", "action": "b", "source": {"service": "s"}})
    assert shown("ocsf", no_actor, unmapped="rest")["unmapped"]["source"] == {"service": "s"}


def test_ocsf_names_who_logs_in_and_where() -> None:
    made = shown("ocsf", EXAMPLES["failed login"])
    assert made["user"] == {"uid": "u-1", "name": "ann@example.org", "type": "user", "type_id": 1}
    assert made["service"] == {"uid": "app:portal", "name": "Portal"}
    other = native({**LOGIN, "targets": [{"urn": "user:bob"}]})
    assert shown("ocsf", other)["user"] == {"uid": "user:bob"}
    assert shown("ocsf", other)["service"] == {"name": "sso"}


@pytest.mark.parametrize(
    ("action", "target", "type_uid"),
    [
        ("user.create", "user", 300101),
        ("user.password.change", "user", 300103),
        ("user.change", "user", 300199),
        ("user.mfa.disable", "user", 300111),
        ("role.revoke", "user", 300108),
        ("member.add", "group", 300603),
        ("group.create", "group", 300606),
        ("role.delete", "role", 600304),
    ],
)
def test_changes_of_accounts_and_groups_are_sorted_by_target_and_action(
    action: str, target: str, type_uid: int
) -> None:
    event = native({
        "id": "e", "category": "iam", "action": action, "actor": {"id": "u"},
        "targets": [{"urn": f"{target}:x"}],
    })  # fmt: skip
    assert shown("ocsf", event)["type_uid"] == type_uid


def test_a_finding_is_a_detection_without_actor_and_an_alert() -> None:
    event = native({
        "id": "e", "category": "gateway.anomaly", "action": "anomaly.probing", "reason": "because",
        "actor": {"id": "k"}, "source": {"ip": "203.0.113.7"}, "targets": [{"urn": "key:k"}],
    })  # fmt: skip
    made = shown("ocsf", event)
    assert made["type_uid"] == 200401
    assert made["finding_info"] == {"uid": "e", "title": "anomaly.probing", "desc": "because"}
    assert made["resources"] == [{"uid": "key:k"}]
    assert not {"actor", "src_endpoint", "http_request"} & set(made)
    assert shown("ecs", event)["event"]["kind"] == "alert"


def test_words_that_only_begin_like_a_category_are_not_it() -> None:
    for category in ("authors", "accounting.book", "usage"):
        event = native({"id": "e", "category": category, "action": "a.delete"})
        assert shown("ecs", event)["event"]["category"] == ["api"]
        assert shown("ocsf", event)["class_uid"] == 0
    configured = native({"id": "e", "category": "app.config.net", "action": "set"})
    assert shown("ecs", configured)["event"]["category"] == ["configuration"]
    assert shown("ecs", configured)["event"]["type"] == ["change"]


def test_what_was_left_out_for_its_size_is_named() -> None:
    event = EXAMPLES["failed login"][:-1] + b',"reduced":["data","reason"]}'
    assert b' reduced="data,reason"] {' in FORMATS["rfc5424"].encode(event)
    assert shown("ecs", event)["audit"]["reduced"] == ["data", "reason"]


def test_a_hostname_of_syslog_is_what_the_standard_allows() -> None:
    for name, expected in (("gw.é example", b"gw.example"), ("", b"-"), ("h" * 300, b"h" * 255)):
        made = make_formats(FormatOptions(hostname=name))["rfc5424"].encode(
            EXAMPLES["failed login"]
        )
        assert re.split(rb" ", made)[2] == expected
