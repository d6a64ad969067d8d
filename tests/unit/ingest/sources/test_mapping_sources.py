"""What each source's members become."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ingest.strict_json import Refused
from tests.support.exports import event_of, sample_records


def urns(event: dict[str, Any]) -> list[str]:
    return [target["urn"] for target in event.get("targets", [])]


def trail(**members: Any) -> dict[str, Any]:
    base = {"eventName": "GetObject", "eventSource": "s3.amazonaws.com"}
    return event_of("cloudtrail", base | members)


def audit(**members: Any) -> dict[str, Any]:
    base = {"apiVersion": "audit.k8s.io/v1", "kind": "Event", "auditID": "a-1", "verb": "get"}
    return event_of("kubernetes", base | members)


def log_event(**members: Any) -> dict[str, Any]:
    return event_of("okta", {"eventType": "user.session.start"} | members)


# AWS CloudTrail


def test_a_cloudtrail_record_becomes_who_did_what_where() -> None:
    login, policy, *_ = [event_of("cloudtrail", record) for record in sample_records("cloudtrail")]
    assert policy["id"] == "11111111-dddd-4eee-8fff-000000000002"
    assert policy["time"] == "2026-01-15T09:01:10.000000Z"
    assert (policy["category"], policy["action"]) == ("aws.s3", "s3.PutBucketPolicy")
    assert (policy["outcome"], policy["severity"]) == ("success", 1)
    assert policy["actor"] == {
        "type": "IAMUser",
        "id": "AIDACKCEVSQ6C2EXAMPLE",
        "name": "operator",
        "key_id": "AKIAIOSFODNN7EXAMPLE",
    }
    assert policy["source"]["ip"] == "192.0.2.23"
    assert urns(policy) == ["arn:aws:s3:::example-reports"]
    assert policy["request"] == {"id": "00000000-aaaa-4bbb-8ccc-000000000002"}
    assert (login["category"], login["outcome"]) == ("aws.signin", "failure")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("AccessDenied", "denied"),
        ("AccessDeniedException", "denied"),
        ("Client.UnauthorizedOperation", "denied"),
        ("UnauthorizedAccess", "denied"),
        ("ForbiddenException", "denied"),
        ("NotAuthorized", "denied"),
        ("ThrottlingException", "failure"),
        ("NoSuchBucketPolicy", "failure"),
        (None, "success"),
        ("", "success"),
    ],
)
def test_an_aws_error_code_says_whether_it_failed_or_was_denied(
    code: str | None, outcome: str
) -> None:
    assert trail(errorCode=code)["outcome"] == outcome


def test_an_aws_error_is_the_reason_with_its_message() -> None:
    event = trail(errorCode="AccessDenied", errorMessage="no")
    assert event["reason"] == "AccessDenied: no"
    assert event["severity"] == 3


def test_an_aws_service_name_is_not_taken_for_an_address() -> None:
    assert "ip" not in trail(sourceIPAddress="AWS Internal")["source"]
    assert trail(sourceIPAddress="2001:0DB8::1")["source"]["ip"] == "2001:db8::1"


def test_an_assumed_role_is_named_by_its_role_and_a_service_by_itself() -> None:
    *_, run, assume = [event_of("cloudtrail", record) for record in sample_records("cloudtrail")]
    assert run["actor"]["name"] == "deployer"
    assert assume["actor"] == {
        "type": "AWSService",
        "id": "autoscaling.amazonaws.com",
        "name": "autoscaling.amazonaws.com",
    }
    assert urns(assume)[0].startswith("arn:aws:iam::111122223333:role/aws-service-role/")


def test_a_cloudtrail_record_without_resources_stands_below_account_region_and_service() -> None:
    event = trail(recipientAccountId="111122223333", awsRegion="eu-central-1")
    assert urns(event) == ["aws:111122223333/eu-central-1/s3"]


def test_a_resource_named_twice_is_one_target() -> None:
    arn = "arn:aws:s3:::reports"
    event = trail(
        resources=[{"ARN": arn, "type": "AWS::S3::Bucket"}],
        requestParameters={"bucketName": "reports"},
    )
    assert urns(event) == [arn]


# Kubernetes


def test_a_kubernetes_event_becomes_who_did_what_where() -> None:
    patch, execute, *_ = [event_of("kubernetes", record) for record in sample_records("kubernetes")]
    assert (patch["category"], patch["action"]) == ("k8s.audit", "deployments.patch")
    assert patch["time"] == "2026-01-15T09:10:00.123774Z"
    assert patch["actor"]["type"] == "service_account"
    assert patch["actor"]["id"] == "system:serviceaccount:flux:gitops"
    assert patch["actor"]["key_id"] == "JTI=0b1c2d3e-0000-4000-8000-00000000000a"
    assert urns(patch) == ["k8s:cluster/ns/shop/deployments.apps/web"]
    assert patch["request"] == {"id": "22222222-1111-4000-8000-000000000001"}
    assert (execute["action"], execute["outcome"]) == ("pods/exec.create", "success")
    assert urns(execute) == ["k8s:cluster/ns/pay/pods/ledger-0"]


def test_an_audit_id_repeated_by_a_client_hides_no_second_request() -> None:
    one = audit(stage="ResponseComplete", requestURI="/api/v1/pods")
    other = audit(stage="ResponseComplete", requestURI="/api/v1/secrets")
    assert one["id"].startswith("a-1:ResponseComplete~")
    assert other["id"].startswith("a-1:ResponseComplete~")
    assert one["id"] != other["id"]


def test_the_stages_of_a_request_are_events_of_their_own() -> None:
    assert audit(stage="RequestReceived")["id"] != audit(stage="ResponseComplete")["id"]


@pytest.mark.parametrize(
    ("members", "outcome", "severity"),
    [
        ({"responseStatus": {"code": 200}}, "success", 1),
        ({"responseStatus": {"code": 101}}, "success", 1),
        ({"responseStatus": {"code": 404}}, "failure", 2),
        ({"responseStatus": {"code": 403}}, "denied", 3),
        ({"responseStatus": {"code": 401}}, "denied", 3),
        ({"annotations": {"authorization.k8s.io/decision": "forbid"}}, "denied", 3),
        ({"stage": "RequestReceived"}, "unknown", 1),
        ({"stage": "Panic"}, "failure", 4),
    ],
)
def test_a_kubernetes_answer_says_how_it_went(
    members: dict[str, Any], outcome: str, severity: int
) -> None:
    event = audit(**members)
    assert (event["outcome"], event["severity"]) == (outcome, severity)


def test_the_address_is_the_one_a_client_cannot_write_itself() -> None:
    assert audit(sourceIPs=["203.0.113.9", "192.0.2.1"])["source"]["ip"] == "192.0.2.1"


def test_a_slash_in_a_name_cannot_leave_its_namespace() -> None:
    reference = {"resource": "pods", "namespace": "a/../pay", "name": "x/y"}
    assert urns(audit(objectRef=reference)) == ["k8s:cluster/ns/a%2F..%2Fpay/pods/x%2Fy"]


def test_a_request_without_an_object_stands_below_its_path() -> None:
    event = audit(requestURI="/healthz/ready?verbose=1")
    assert urns(event) == ["k8s:cluster/url/healthz/ready"]
    assert event["action"] == "url.get"


def test_an_impersonated_user_is_a_target_and_the_real_one_the_actor() -> None:
    event = event_of("kubernetes", sample_records("kubernetes")[-1])
    assert event["actor"]["id"] == "oncall@example.com"
    assert urns(event) == [
        "k8s:cluster/nodes/worker-3",
        "k8s:cluster/users/cluster-admin@example.com",
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"apiVersion": "v1", "kind": "Event"},
        {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"},
        {},
    ],
)
def test_what_is_no_kubernetes_audit_event_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="not a record of Kubernetes audit events: needs apiVersion"):
        event_of("kubernetes", record)


# GitHub


def test_a_github_entry_becomes_who_did_what_where() -> None:
    create, branch, member, clone, run = [
        event_of("github", record) for record in sample_records("github")
    ]
    assert create["id"] == "sampleGitHub0000000001"
    assert create["time"] == "2026-01-15T09:20:01.000000Z"
    assert (branch["category"], branch["action"]) == (
        "github.protected_branch",
        "protected_branch.destroy",
    )
    assert create["actor"] == {"type": "user", "id": "1000001", "name": "example-maintainer"}
    assert urns(create) == ["github:example-org/repos/site"]
    assert urns(member) == [
        "github:example-org/teams/release",
        "github:example-org/users/example-contractor",
    ]
    assert clone["actor"]["type"] == "bot"
    assert clone["actor"]["key_id"] == "4000001"
    assert (create["outcome"], run["outcome"]) == ("success", "failure")


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(200, "success"), (201, "success"), (403, "denied"), (404, "failure"), (None, "unknown")],
)
def test_a_github_request_says_how_it_went(code: int | None, outcome: str) -> None:
    entry = {"action": "api.request", "actor": "ci", "status_code": code}
    assert event_of("github", entry)["outcome"] == outcome


def test_a_github_entry_of_an_organization_or_enterprise_alone_stands_on_it() -> None:
    assert urns(event_of("github", {"action": "org.rename", "org": "acme"})) == ["github:acme"]
    assert urns(event_of("github", {"action": "business.rename", "business": "acme"})) == [
        "github:-/enterprises/acme"
    ]


def test_an_action_without_a_category_is_plain_github() -> None:
    event = event_of("github", {"action": "invite_member", "actor": "cat"})
    assert (event["category"], event["action"]) == ("github", "invite_member")


def test_anothers_action_is_no_github_entry() -> None:
    with pytest.raises(Refused, match="not a record of GitHub audit log: needs action == "):
        event_of("github", {"action": "update", "source_type": "user", "id": 7})


# Okta


def test_an_okta_log_event_becomes_who_did_what_where() -> None:
    start, failed, sso, denied, reset = [
        event_of("okta", record) for record in sample_records("okta")
    ]
    assert start["id"] == "33333333-2222-11f0-8000-000000000001"
    assert start["time"] == "2026-01-15T09:20:00.101000Z"
    assert (start["category"], start["action"]) == ("okta.user.session", "user.session.start")
    assert start["actor"] == {
        "type": "User",
        "id": "00uSAMPLE0000000001",
        "name": "admin@example.com",
    }
    assert (failed["outcome"], failed["reason"]) == ("failure", "INVALID_CREDENTIALS")
    assert (denied["outcome"], denied["severity"]) == ("denied", 3)
    assert urns(sso) == ["okta:appinstance/0oaSAMPLE0000000001"]
    assert urns(reset) == ["okta:user/00uSAMPLE0000000002"]
    assert reset["request"] == {"id": "sampleRequest0005", "trace_id": "sampleTransaction0005"}


def test_okta_members_in_lower_case_are_read_alike() -> None:
    record = sample_records("okta")[1]
    lower = {name.lower(): value for name, value in record.items()}
    one, other = event_of("okta", record), event_of("okta", lower)
    del one["data"], other["data"]
    assert one == other


@pytest.mark.parametrize(
    ("severity", "number"),
    [("DEBUG", 1), ("INFO", 1), ("WARN", 3), ("ERROR", 4), ("HIGH", 4), (None, 1)],
)
def test_okta_severities_become_numbers(severity: str | None, number: int) -> None:
    assert log_event(severity=severity)["severity"] == number


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ("SUCCESS", "success"),
        ("ALLOW", "success"),
        ("FAILURE", "failure"),
        ("DENY", "denied"),
        ("CHALLENGE", "unknown"),
        ("SKIPPED", "unknown"),
    ],
)
def test_okta_results_become_outcomes(result: str, outcome: str) -> None:
    assert log_event(outcome={"result": result})["outcome"] == outcome


@pytest.mark.parametrize("kind", ["AwsConsoleSignIn", "logout", None, 7])
def test_what_has_no_dotted_event_type_is_no_okta_event(kind: Any) -> None:
    with pytest.raises(Refused, match="eventType"):
        event_of("okta", {"eventType": kind, "uuid": "x"})
