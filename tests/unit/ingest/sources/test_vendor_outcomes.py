"""Outcomes, severities and names by the values that vendors document."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from gateway.access.grants.copies import declare_copies
from gateway.access.grants.mask import Masks, masked
from gateway.event import Event
from gateway.ingest.decode import decode_event
from gateway.ingest.mapping.definition import ConstantValue, Value, paths_of
from gateway.ingest.mapping.path import Item, value_at
from gateway.ingest.mapping.path import Member as Step
from gateway.ingest.sources.catalog import Sources, shipped, shipped_names
from gateway.ingest.sources.source import Mapped
from tests.support.exports import REAL, event_of, mapped_of, source_named

# By source: the least record, and what it makes with other members.
RECORDS: dict[str, dict[str, Any]] = {
    "atlassian": {"id": "1", "attributes": {"action": "user_login", "actor": {"id": "a"}}},
    "auditd": {"ID": "1615114232.375:15558", "NODE": "h", "SYSCALL": {"SYSCALL": "execve"}},
    "auth0": {"log_id": "1", "date": "2026-01-01T00:00:00Z", "type": "s", "user_id": "u"},
    "azure_activity": {
        "time": "2026-01-01T00:00:00Z", "resourceId": "/subscriptions/1/x", "category": "Policy",
        "operationName": "Microsoft.Compute/virtualMachines/delete",
    },
    "cloudevents": {"specversion": "1.0", "id": "1", "source": "/s", "type": "com.x.user.made"},
    "ecs": {"@timestamp": "2026-01-01T00:00:00Z", "event": {"action": "user-login"}},
    "elasticsearch": {"@timestamp": "2026-01-01T00:00:00Z", "message": "hello"},
    "entra": {
        "id": "1", "activityDisplayName": "Add user", "activityDateTime": "2026-01-01T00:00:00Z",
    },
    "gcp": {"insertId": "1", "protoPayload": {"methodName": "storage.buckets.get"}},
    "google_workspace": {
        "id": {"applicationName": "login", "uniqueQualifier": "1", "time": "2026-01-01T00:00:00Z"},
        "actor": {"email": "a@example.com"}, "name": "login_success",
    },
    "journald": {"__REALTIME_TIMESTAMP": "1767225600000000", "MESSAGE": "hello"},
    "m365": {
        "Id": "1", "CreationTime": "2026-01-01T00:00:00", "Operation": "UserLoggedIn",
        "Workload": "AzureActiveDirectory",
    },
    "ocsf": {"class_uid": 3002, "time": 1767225600000, "metadata": {"uid": "1"}},
    "otlp": {"resource": {}, "attributes": {}, "timeUnixNano": "1767225600000000000"},
    "okta": {"uuid": "1", "eventType": "user.session.start", "published": 0},
    "onepassword": {"uuid": "1", "target_user": {"uuid": "u"}, "category": "success", "type": "x"},
    "pgaudit": {
        "timestamp": "2026-01-15 09:01:10.123 UTC", "user": "ann", "dbname": "shop",
        "session_id": "6967.1a", "error_severity": "LOG",
        "message": "AUDIT: SESSION,1,1,READ,SELECT,,,select 1,<not logged>",
    },
    "salesforce": {"EVENT_TYPE": "Login", "ORGANIZATION_ID": "o"},
    "slack": {
        "id": "1", "date_create": 1767225600, "action": "user_login",
        "actor": {"type": "user", "user": {"id": "u"}}, "entity": {"type": "user"},
        "context": {"location": {"id": "T1"}},
    },
    "snowflake": {"EVENT_ID": "1", "EVENT_TYPE": "LOGIN", "USER_NAME": "u", "IS_SUCCESS": "YES"},
    "splunk_hec": {"time": 1767225600.5, "event": {"a": 1}},
    "syslog": {"line": "<13>..", "timestamp": "2026-01-01T00:00:00Z", "json": {}},
    "teleport": {
        "uid": "1", "event": "user.login", "code": "T1000I", "time": "2026-01-01T00:00:00Z",
    },
    "native": {"category": "auth", "action": "login"},
    "vault": {"type": "response", "request": {"id": "1", "operation": "read", "path": "secret/a"}},
}  # fmt: skip

OUTCOMES: list[tuple[str, dict[str, Any], str]] = [
    ("elasticsearch", {}, "unknown"),
    ("elasticsearch", {"event": {"outcome": "failure"}}, "failure"),
    ("splunk_hec", {}, "unknown"),
    ("splunk_hec", {"event": "a text"}, "unknown"),
    ("splunk_hec", {"event": {"status": "Succeeded"}}, "success"),
    ("splunk_hec", {"event": {"result": "blocked"}}, "denied"),
    ("splunk_hec", {"event": {}, "fields": {"outcome": "failed"}}, "failure"),
    ("atlassian", {}, "success"),
    ("atlassian", {"attributes": {"action": "login_failed", "actor": {}}}, "failure"),
    ("auditd", {"SYSCALL": {"SYSCALL": "open", "success": "yes"}}, "success"),
    ("auditd", {"SYSCALL": {"SYSCALL": "open", "success": "no", "exit": "-13"}}, "denied"),
    ("auditd", {"SYSCALL": {"SYSCALL": "open", "success": "no", "exit": "-2"}}, "failure"),
    ("auditd", {"SYSCALL": None, "USER_AUTH": {"res": "failed", "acct": "root"}}, "failure"),
    ("auth0", {"type": "s"}, "success"),
    ("auth0", {"type": "slo"}, "success"),
    ("auth0", {"type": "fp"}, "failure"),
    ("auth0", {"type": "fsa"}, "failure"),
    ("auth0", {"type": "limit_wc"}, "denied"),
    ("auth0", {"type": "pwd_leak"}, "denied"),
    ("auth0", {"type": "gd_auth_failed"}, "failure"),
    ("auth0", {"type": "gd_auth_rejected"}, "denied"),
    ("auth0", {"type": "gd_auth_succeed"}, "success"),
    ("auth0", {"type": "w"}, "unknown"),
    ("auth0", {"type": "passkey_challenge_failed"}, "failure"),
    ("auth0", {"type": "kms_key_management_failure"}, "failure"),
    ("auth0", {"type": "kms_key_management_success"}, "success"),
    ("auth0", {"type": "actions_execution_failed"}, "failure"),
    ("azure_activity", {"resultType": "Success"}, "success"),
    ("azure_activity", {"resultType": "Start"}, "unknown"),
    ("azure_activity", {"resultType": "Failure"}, "failure"),
    ("azure_activity", {"resultType": "Failure", "resultSignature": "Failed.Forbidden"}, "denied"),
    ("azure_activity", {"status": {"value": "Failed"}}, "failure"),
    ("cloudevents", {"outcome": "denied"}, "denied"),
    ("cloudevents", {}, "unknown"),
    ("ecs", {"event": {"action": "a", "outcome": "failure"}}, "failure"),
    ("entra", {"result": "success"}, "success"),
    ("entra", {"result": "failure"}, "failure"),
    ("entra", {"properties": {"status": {"errorCode": 0}}}, "success"),
    ("entra", {"properties": {"status": {"errorCode": 50126}}}, "failure"),
    ("entra", {"properties": {"status": {"errorCode": 53003}}}, "denied"),
    ("entra", {"properties": {"status": {"errorCode": 530032}}}, "denied"),
    ("gcp", {}, "success"),
    ("gcp", {"protoPayload": {"methodName": "m", "status": {}}}, "success"),
    ("gcp", {"protoPayload": {"methodName": "m", "status": {"code": 7}}}, "denied"),
    ("gcp", {"protoPayload": {"methodName": "m", "status": {"code": 16}}}, "denied"),
    ("gcp", {"protoPayload": {"methodName": "m", "status": {"code": 5}}}, "failure"),
    ("gcp", {"protoPayload": {"methodName": "m", "authorizationInfo": [{"granted": False}]}},
     "denied"),
    ("google_workspace", {}, "success"),
    ("google_workspace", {"name": "login_failure"}, "failure"),
    ("google_workspace", {"name": "2sv_authentication_failed"}, "failure"),
    ("google_workspace", {"name": None, "events": [{"name": "login_failure"}]}, "failure"),
    ("journald", {}, "unknown"),
    ("journald", {"MESSAGE": "Accepted publickey for root"}, "success"),
    ("journald", {"MESSAGE": "Failed password for root"}, "failure"),
    ("journald", {"MESSAGE": "Invalid user x"}, "denied"),
    ("m365", {}, "success"),
    ("m365", {"Operation": "UserLoginFailed"}, "failure"),
    ("m365", {"ResultStatus": "Failed"}, "failure"),
    ("m365", {"ResultStatus": "PartiallySucceeded"}, "success"),
    ("m365", {"ResultStatus": "Postponed"}, "unknown"),
    ("ocsf", {"status_id": 1}, "success"),
    ("ocsf", {"status_id": 2}, "failure"),
    ("ocsf", {"status_id": 2, "status_detail": "denied"}, "denied"),
    ("ocsf", {"status_id": 99}, "unknown"),
    ("otlp", {"attributes": {"audit.outcome": "denied"}}, "denied"),
    ("otlp", {"attributes": {"event.outcome": "success"}}, "success"),
    ("otlp", {"attributes": {"error.type": "timeout"}}, "failure"),
    ("otlp", {"severityNumber": 17}, "unknown"),
    ("okta", {"outcome": {"result": "SUCCESS"}}, "success"),
    ("pgaudit", {}, "success"),
    ("syslog", {}, "unknown"),
    ("syslog", {"json": {"outcome": "Failure"}}, "failure"),
    ("syslog", {"json": {"event": {"outcome": "success"}}}, "success"),
    ("syslog", {"structured_data": {"a@1": {"outcome": "denied"}}}, "denied"),
    ("syslog", {"cef": {"extension": {"outcome": "failure", "act": "allowed"}}}, "failure"),
    ("syslog", {"cef": {"extension": {"act": "Permitted"}}}, "success"),
    ("syslog", {"cef": {"extension": {"act": "Dropped"}}}, "denied"),
    ("syslog", {"json": None, "message": "Accepted password for ann"}, "success"),
    ("syslog", {"json": None, "message": "ann : command not allowed ; TTY=x"}, "denied"),
    ("syslog", {"json": None, "message": "open /a: Permission denied"}, "denied"),
    ("pgaudit", {"state_code": "00000"}, "success"),
    ("pgaudit", {"message": "permission denied for table t", "state_code": "42501"}, "denied"),
    ("pgaudit", {"message": "no pg_hba.conf entry for host", "state_code": "28000"}, "denied"),
    ("pgaudit", {"message": "password authentication failed", "state_code": "28P01"}, "failure"),
    ("pgaudit", {"message": "duplicate key value", "state_code": "23505"}, "failure"),
    ("pgaudit", {"message": "connection authorized: user=ann database=shop"}, "success"),
    ("okta", {"outcome": {"result": "ALLOW"}}, "success"),
    ("okta", {"outcome": {"result": "FAILURE"}}, "failure"),
    ("okta", {"outcome": {"result": "DENY"}}, "denied"),
    ("okta", {"outcome": {"result": "CHALLENGE"}}, "unknown"),
    ("okta", {"outcome": {"result": "SKIPPED"}}, "unknown"),
    ("okta", {"outcome": {"result": "RATE_LIMIT"}}, "denied"),
    ("okta", {"outcome": {"result": "ABANDONED"}}, "failure"),
    ("okta", {"outcome": {"result": "DEFERRED"}}, "unknown"),
    ("okta", {"outcome": None}, "success"),
    ("onepassword", {"category": "success"}, "success"),
    ("onepassword", {"category": "credentials_failed"}, "failure"),
    ("onepassword", {"category": "mfa_failed"}, "failure"),
    ("onepassword", {"category": "firewall_failed"}, "denied"),
    ("onepassword", {"category": "modern_version_required"}, "denied"),
    ("salesforce", {"LOGIN_STATUS": "LOGIN_NO_ERROR"}, "success"),
    ("salesforce", {"EVENT_TYPE": "RestApi", "STATUS": "200"}, "success"),
    ("salesforce", {"EVENT_TYPE": "RestApi", "STATUS": "403"}, "denied"),
    ("salesforce", {"EVENT_TYPE": "RestApi", "STATUS": 500}, "failure"),
    ("salesforce", {"EVENT_TYPE": "RestApi", "STATUS": "odd"}, "unknown"),
    ("salesforce", {"LOGIN_STATUS": "LOGIN_ERROR_INVALID_PASSWORD"}, "failure"),
    ("salesforce", {"LOGIN_STATUS": "LOGIN_ERROR_RESTRICTED_DOMAIN"}, "denied"),
    ("salesforce", {"REQUEST_STATUS": "F"}, "failure"),
    ("salesforce", {"REQUEST_STATUS": "U"}, "unknown"),
    ("salesforce", {"REQUEST_STATUS": "A"}, "denied"),
    ("salesforce", {"REQUEST_STATUS": "N"}, "failure"),
    ("salesforce", {"REQUEST_STATUS": "R"}, "success"),
    ("slack", {}, "success"),
    ("slack", {"action": "user_login_failed"}, "failure"),
    ("snowflake", {}, "success"),
    ("snowflake", {"IS_SUCCESS": "NO"}, "failure"),
    ("snowflake", {"EVENT_ID": None, "IS_SUCCESS": None, "QUERY_ID": "q",
                   "EXECUTION_STATUS": "FAIL"}, "failure"),
    ("teleport", {"success": True}, "success"),
    ("teleport", {"success": False}, "failure"),
    ("teleport", {"code": "T3007W"}, "failure"),
    ("teleport", {"error": "access denied to role"}, "denied"),
    ("teleport", {}, "success"),
    ("native", {}, "unknown"),
    ("native", {"outcome": "denied"}, "denied"),
    ("vault", {}, "success"),
    ("vault", {"type": "request"}, "unknown"),
    ("vault", {"error": "1 error occurred: * permission denied"}, "denied"),
    ("vault", {"error": "unsupported path"}, "failure"),
]  # fmt: skip

SEVERITIES: list[tuple[str, dict[str, Any], int]] = [
    ("azure_activity", {"level": "Warning"}, 3),
    ("azure_activity", {"level": "Critical"}, 5),
    ("ecs", {"log": {"level": "ERROR"}}, 4),
    ("gcp", {"severity": "NOTICE"}, 2),
    ("gcp", {"severity": "EMERGENCY"}, 6),
    ("journald", {"PRIORITY": "0"}, 6),
    ("journald", {"PRIORITY": "6"}, 1),
    ("ocsf", {"severity_id": 5}, 5),
    ("okta", {"severity": "WARN"}, 3),
    ("elasticsearch", {"severity": "err"}, 4),
    ("elasticsearch", {"log": {"syslog": {"severity": {"code": 0}}}}, 6),
    ("splunk_hec", {"event": {"severity": 5}}, 5),
    ("splunk_hec", {"event": {"level": "WARNING"}}, 3),
    ("okta", {"severity": "ERROR"}, 4),
    ("otlp", {"severityNumber": 9}, 1),
    ("otlp", {"severityNumber": 12}, 2),
    ("otlp", {"severityNumber": 16}, 3),
    ("otlp", {"severityNumber": 17}, 4),
    ("otlp", {"severityNumber": 20}, 5),
    ("otlp", {"severityNumber": 24}, 6),
    ("otlp", {"severityNumber": 24, "attributes": {"audit.severity": 2}}, 2),
    ("pgaudit", {}, 1),
    ("syslog", {"severity": 0}, 6),
    ("syslog", {"severity": 4}, 3),
    ("syslog", {"severity": 6, "cef": {"severity": "9"}}, 5),
    ("syslog", {"severity": 6, "json": {"category": "a", "action": "b", "severity": 6}}, 6),
    ("pgaudit", {"message": "AUDIT: SESSION,1,1,DDL,CREATE TABLE,TABLE,public.t,..,<none>"}, 2),
    ("pgaudit", {"message": "AUDIT: SESSION,1,1,ROLE,GRANT,TABLE,,grant ..,<none>"}, 3),
    ("pgaudit", {"message": "permission denied for table t", "state_code": "42501"}, 3),
    ("pgaudit", {"message": "password authentication failed", "state_code": "28P01"}, 3),
    ("slack", {"action": "anomaly"}, 4),
    ("teleport", {"code": "T3007W"}, 3),
]


# (An event in the gateway's own form was made of no record.)
@pytest.mark.parametrize("name", sorted({*RECORDS} - {"native"}))
def test_the_least_record_of_a_source_is_a_valid_event(name: str) -> None:
    found = source_named(name).draft(json.dumps(RECORDS[name]).encode())
    assert decode_event(b"{" + found.draft.tail, iter(()), mapped=True) == found.draft
    assert found.draft.category
    assert found.draft.action


def test_every_source_has_its_outcomes_tested() -> None:
    elsewhere = {"cloudtrail", "github", "kubernetes"}
    assert {name for name, _, _ in OUTCOMES} | elsewhere == set(shipped_names())


@pytest.mark.parametrize(("name", "members", "outcome"), OUTCOMES)
def test_an_outcome_is_what_the_vendor_says(
    name: str, members: dict[str, Any], outcome: str
) -> None:
    assert event_of(name, RECORDS[name] | members)["outcome"] == outcome


@pytest.mark.parametrize(("name", "members", "severity"), SEVERITIES)
def test_a_severity_is_what_the_vendor_says(
    name: str, members: dict[str, Any], severity: int
) -> None:
    assert event_of(name, RECORDS[name] | members)["severity"] == severity


@pytest.mark.parametrize(
    ("name", "members", "expected"),
    [
        ("cloudevents", {"subject": "app/1"}, ("com.x.user", "com.x.user.made", "app/1")),
        ("gcp", {"resource": {"labels": {"project_id": "p"}}},
         ("gcp.audit", "storage.buckets.get", None)),
        ("vault", {}, ("vault.request", "vault.read", "vault:root/secret/a")),
        ("teleport", {"target": {"user": "bob"}},
         ("teleport.user", "user.login", "teleport:-/users/bob")),
        ("azure_activity", {}, ("azure.policy", "Microsoft.Compute.virtualMachines.delete",
                                "azure:/subscriptions/1/x")),
        ("auditd", {}, ("linux.audit", "syscall.execve", None)),
        ("slack", {"entity": {"type": "file", "file": {"id": "F1"}}},
         ("slack.file", "user_login", "slack:T1/file/F1")),
    ],
)  # fmt: skip
def test_a_record_becomes_who_did_what_to_what(
    name: str, members: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    event = event_of(name, RECORDS[name] | members)
    urn = event["targets"][0]["urn"] if "targets" in event else None
    assert (event["category"], event["action"], urn) == expected


def test_what_no_table_knows_is_no_success() -> None:
    """A record without a word about its outcome may be one that went well; one with a word that is
    not known is not."""
    for name in shipped_names():
        outcome = shipped(name).members.get("outcome")
        if outcome is None or outcome.absent != "success":
            continue
        for nested in (origin for origin in outcome.origins if isinstance(origin, Value)):
            if "success" in (nested.table or {}).values():
                assert nested.present is not None, (name, nested.table)


def test_a_cloud_audit_log_without_a_method_is_what_was_asked_for() -> None:
    asked = {"permission": "run.services.setIamPolicy", "granted": False, "resource": "r/1"}
    payload = {"authorizationInfo": [asked], "resourceName": "r/1"}
    event = event_of("gcp", {"insertId": "1", "protoPayload": payload})
    assert (event["action"], event["outcome"]) == ("run.services.setIamPolicy", "denied")


def test_an_activity_as_the_reports_api_writes_it_names_what_it_is_about() -> None:
    parameters = [
        {"name": "doc_id", "value": "d/1"}, {"name": "doc_title", "value": "Plan"},
        {"name": "doc_type", "value": "document"}, {"name": "target_user", "value": "b@x.example"},
    ]  # fmt: skip
    events = [{"type": "access", "name": "download", "parameters": parameters}]
    record = RECORDS["google_workspace"] | {"name": None, "events": events}
    event = event_of("google_workspace", record)
    assert event["targets"] == [
        {"urn": "google_workspace:-/documents/d%2F1", "type": "document", "id": "d/1",
         "name": "Plan"},
        {"urn": "google_workspace:-/users/b@x.example", "type": "user", "id": "b@x.example",
         "name": "b@x.example"},
    ]  # fmt: skip


def test_the_address_of_a_peer_is_without_its_port() -> None:
    for members, address in (
        ({"addr.remote": "[2001:db8::1]:65123"}, "2001:db8::1"),
        ({"addr_remote": "192.0.2.1:35194"}, "192.0.2.1"),
        ({"src_addr": "192.0.2.1"}, "192.0.2.1"),
    ):
        event = event_of("teleport", RECORDS["teleport"] | members)
        assert event["source"]["ip"] == address


def test_events_of_one_id_and_two_sources_are_two() -> None:
    one = event_of("cloudevents", RECORDS["cloudevents"])
    other = event_of("cloudevents", RECORDS["cloudevents"] | {"source": "/t"})
    assert one["id"] != other["id"]


@pytest.mark.parametrize("path", sorted((REAL / "sources").glob("*.ndjson")), ids=lambda p: p.stem)
def test_real_records_are_events_or_of_another_source(path: Any) -> None:
    name = {"eks": "kubernetes"}.get(path.stem, path.stem)
    outcomes: Counter[str] = Counter()
    for found in mapped_of(name, path):
        if isinstance(found, Mapped):
            assert decode_event(b"{" + found.draft.tail, iter(()), mapped=True) == found.draft
            outcomes[found.draft.outcome] += 1
        else:
            words = ("not a record of", "around something that is no record")
            assert any(word in found.reason for word in words), found
    assert outcomes.total() > 0
    assert outcomes["unknown"] < outcomes.total() / 10


# Masks over what records repeat

HIDDEN = ("actor.id", "actor.name", "actor.key_id", "source.ip", "source.user_agent")


def everything_filled(name: str) -> dict[str, Any]:
    """A record that has a value at every path that the hidden members are taken from."""
    definition = shipped(name)
    record: dict[str, Any] = json.loads(json.dumps(RECORDS.get(name, OTHERS.get(name))))
    for member in HIDDEN:
        for path in paths_of(definition.members.get(member, Value(()))):
            inner: Any = record
            for step, following in itertools.pairwise((*path.steps, None)):
                key = step.name if isinstance(step, Step) else 0
                value: Any = [{}] if isinstance(following, Item) else {}
                if following is None:
                    value = "192.0.2.77" if member == "source.ip" else f"secret-{member}"
                if isinstance(inner, list):
                    inner[0] = inner[0] if inner[0] and following else value
                elif following is None or not isinstance(inner.get(key), dict | list):
                    inner[key] = value
                inner = inner[key]
    return record


OTHERS: dict[str, dict[str, Any]] = {
    "cloudtrail": {"eventName": "a", "eventSource": "s3.amazonaws.com"},
    "github": {"action": "a.b", "org": "o"},
    "kubernetes": {
        "apiVersion": "audit.k8s.io/v1", "kind": "Event", "auditID": "1", "verb": "get",
        "sourceIPs": ["192.0.2.77"],
    },
}  # fmt: skip


@pytest.mark.parametrize("member", HIDDEN)
@pytest.mark.parametrize("name", sorted({*RECORDS, *OTHERS} - {"native"}))
def test_what_hides_a_member_hides_what_it_was_taken_from(name: str, member: str) -> None:
    declare_copies(Sources({}).copies())
    definition = shipped(name)
    if member not in definition.members:
        return
    found = source_named(name).draft(json.dumps(everything_filled(name)).encode())
    group, _, inner = member.partition(".")
    secret = json.loads(b"{" + found.draft.tail).get(group, {}).get(inner)
    if secret is None or isinstance(definition.members[member].origins[0], ConstantValue):
        return
    stored = Event(
        1, found.draft.tenant, found.draft.category, found.draft.action, "unknown", 1,
        found.draft.actor, "", b"",
        b'{"cursor":"' + b"0" * 31 + b'","recorded_at":"x",' + found.draft.tail,
    )  # fmt: skip
    left = json.loads(masked(stored, Masks(mask=(member,))).json)["data"]
    for path in paths_of(definition.members[member]):
        steps = tuple(step for step in path.steps)
        assert value_at(left, steps) in (None, "***"), path


@pytest.mark.parametrize(
    ("name", "members", "member", "path"),
    [
        ("auth0", {"details": {"request": {"userAgent": "s"}}}, "source.user_agent",
         "details.request.userAgent"),
        ("auth0", {"details": {"request": {"ip": "s"}}}, "source.ip", "details.request.ip"),
        ("entra", {"calleripaddress": "s"}, "source.ip", "calleripaddress"),
        ("entra", {"properties": {"targetResources": [{"id": "s"}]}}, "targets.id", "properties"),
        ("gcp", {"protoPayload": {"methodName": "a", "authorizationInfo": [{"resource": "s"}]}},
         "targets.urn", "protoPayload.authorizationInfo"),
        ("gcp", {"protoPayload": {"methodName": "a", "authenticationInfo": {"x": "s"}}},
         "actor.id", "protoPayload.authenticationInfo"),
        ("okta", {"request": {"ipChain": [{"geographicalContext": {"ip": "s"}}]}},
         "source.ip", "request"),
        ("okta", {"debugContext": {"debugData": {"requestUri": "/users/s"}}},
         "targets.id", "debugContext.debugData.requestUri"),
        ("vault", {"response": {"auth": {"display_name": "s"}}}, "actor.name", "response.auth"),
    ],
)  # fmt: skip
def test_what_hides_a_member_hides_where_the_vendor_repeats_it(
    name: str, members: dict[str, Any], member: str, path: str
) -> None:
    declare_copies(Sources({}).copies())
    found = source_named(name).draft(json.dumps(RECORDS[name] | members).encode())
    stored = Event(
        1, found.draft.tenant, found.draft.category, found.draft.action, "unknown", 1,
        found.draft.actor, "", b"",
        b'{"cursor":"' + b"0" * 31 + b'","recorded_at":"x",' + found.draft.tail,
    )  # fmt: skip
    left = json.loads(masked(stored, Masks(drop=(member,))).json)["data"]
    assert value_at(left, tuple(map(Step, path.split(".")))) is None


def test_copies_are_those_of_events_of_the_source_alone() -> None:
    declare_copies(Sources({}).copies())
    tail = b'"id":"1","category":"app","action":"a","data":{"userIdentity":{"type":"x"}}}'
    event = Event(1, "t", "app", "a", "unknown", 1, "", "", b"", b"")
    json_ = b'{"cursor":"' + b"0" * 31 + b'","recorded_at":"x",' + tail
    shown = masked(msgspec.structs.replace(event, json=json_), Masks(mask=("actor.id",)))
    assert json.loads(shown.json)["data"] == {"userIdentity": {"type": "x"}}
