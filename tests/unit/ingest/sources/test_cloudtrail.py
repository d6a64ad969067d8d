"""CloudTrail: each kind of record that AWS documents, with its outcome and its targets."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.ingest.sources.source import NotMapped
from tests.support.exports import event_of, source_named

ACCOUNT = "111122223333"


def event(source: str, name: str, **members: Any) -> dict[str, Any]:
    base = {
        "eventVersion": "1.11", "eventID": "e-1", "eventTime": "2026-01-01T00:00:00Z",
        "eventSource": f"{source}.amazonaws.com", "eventName": name, "awsRegion": "eu-west-1",
        "eventType": "AwsApiCall", "recipientAccountId": ACCOUNT,
        "userIdentity": {"type": "IAMUser", "principalId": "AIDA"},
    }  # fmt: skip
    return event_of("cloudtrail", base | members)


def urns(found: dict[str, Any]) -> list[str]:
    return sorted(target["urn"] for target in found["targets"])


OUTCOMES: list[tuple[str, str, dict[str, Any], str]] = [
    # Sign-in and access to the console.
    ("signin", "ConsoleLogin", {"responseElements": {"ConsoleLogin": "Success"}}, "success"),
    ("signin", "ConsoleLogin", {"responseElements": {"ConsoleLogin": "Failure"}}, "failure"),
    ("signin", "ConsoleLogin", {"errorMessage": "Failed authentication"}, "failure"),
    ("signin", "ConsoleLogin",
     {"errorMessage": "Failed authentication", "responseElements": {"ConsoleLogin": "Failure"}},
     "failure"),
    ("signin", "SwitchRole", {"responseElements": {"SwitchRole": "Failure"}}, "failure"),
    ("signin", "CheckMfa", {"responseElements": {"CheckMfa": "Success"}}, "success"),
    ("signin", "GetSigninToken", {"responseElements": {"GetSigninToken": "Success"}}, "success"),
    ("signin", "PasswordRecoveryCompleted",
     {"responseElements": {"PasswordRecoveryCompleted": "Failure"}}, "failure"),
    ("signin", "UserAuthentication",
     {"serviceEventDetails": {"UserAuthentication": "Failure"}}, "failure"),
    ("signin", "CredentialVerification",
     {"serviceEventDetails": {"CredentialVerification": "Failure"}}, "failure"),
    ("signin", "CredentialChallenge",
     {"serviceEventDetails": {"CredentialChallenge": "Success"}}, "success"),
    # Events of services.
    ("kms", "RotateKey", {"serviceEventDetails": {"keyId": "k", "rotationType": "x"}}, "success"),
    ("backup", "BackupJobCompleted", {"serviceEventDetails": {"state": "COMPLETED"}}, "success"),
    ("backup", "BackupJobCompleted", {"serviceEventDetails": {"state": "FAILED"}}, "failure"),
    ("backup", "BackupJobCompleted", {"serviceEventDetails": {"state": "ABORTED"}}, "failure"),
    ("backup", "BackupJobCompleted", {"serviceEventDetails": {"state": "EXPIRED"}}, "failure"),
    ("backup", "BackupJobStarted", {"serviceEventDetails": {"state": "CREATED"}}, "success"),
    ("backup", "RestoreJobCompleted", {"serviceEventDetails": {"status": "FAILED"}}, "failure"),
    ("controltower", "CreateManagedAccount",
     {"serviceEventDetails": {"createManagedAccountStatus": {"state": "SUCCEEDED"}}}, "success"),
    ("controltower", "CreateManagedAccount",
     {"serviceEventDetails": {"createManagedAccountStatus": {"state": "FAILED"}}}, "failure"),
    ("organizations", "CreateAccountResult",
     {"serviceEventDetails": {"createAccountStatus": {"state": "FAILED"}}}, "failure"),
    ("organizations", "CreateAccount",
     {"responseElements": {"createAccountStatus": {"state": "IN_PROGRESS"}}}, "success"),
    # Calls, and what is refused by other names.
    ("s3", "GetObject", {}, "success"),
    ("s3", "GetObject", {"errorCode": "AccessDenied"}, "denied"),
    ("s3", "GetObject", {"errorCode": "NoSuchKey"}, "failure"),
    ("sns", "Publish", {"errorCode": "AuthorizationError"}, "denied"),
    ("sns", "Publish", {"errorCode": "AuthorizationErrorException"}, "denied"),
    ("ec2", "RunInstances", {"errorCode": "Client.UnauthorizedOperation"}, "denied"),
    ("ec2", "RunInstances", {"errorCode": "Client.DryRunOperation"}, "success"),
    ("ec2", "RunInstances", {"errorCode": "Client.AuthFailure"}, "denied"),
    ("ec2", "RunInstances", {"errorCode": "Client.InstanceLimitExceeded"}, "failure"),
    ("s3", "GetObject", {"errorCode": "InvalidToken"}, "denied"),
    ("s3", "GetObject", {"errorCode": "AllAccessDisabled"}, "denied"),
    ("glue", "GetTable", {"errorCode": "InsufficientPermissionsException"}, "denied"),
    ("iam", "CreateUser", {"errorCode": "EntityAlreadyExistsException"}, "failure"),
    ("sts", "AssumeRole", {"errorCode": "ExpiredTokenException"}, "denied"),
    ("sts", "AssumeRole", {"errorCode": "InvalidIdentityToken"}, "denied"),
    ("sts", "AssumeRole", {"errorCode": "MissingAuthenticationToken"}, "denied"),
    ("sts", "AssumeRole", {"errorCode": "IncompleteSignature"}, "denied"),
    ("sts", "AssumeRole", {"errorCode": "InvalidSignatureException"}, "denied"),
    ("lambda", "Invoke", {"errorCode": "TooManyRequestsException"}, "failure"),
    # Network activity of VPC endpoints.
    ("kms", "Decrypt",
     {"eventType": "AwsVpceEvent", "errorCode": "VpceAccessDenied", "vpcEndpointId": "vpce-1"},
     "denied"),
    ("kms", "Decrypt", {"eventType": "AwsVpceEvent", "vpcEndpointId": "vpce-1"}, "success"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "name", "members", "outcome"), OUTCOMES)
def test_outcomes_of_calls_sign_ins_and_events_of_services(
    source: str, name: str, members: dict[str, Any], outcome: str
) -> None:
    assert event(source, name, **members)["outcome"] == outcome


def arn(service: str, rest: str, region: str = "eu-west-1") -> str:
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{rest}"


TARGETS: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("ec2", "StopInstances",
     {"requestParameters": {"instancesSet": {
         "items": [{"instanceId": "i-1"}, {"instanceId": "i-2"}]}}},
     [arn("ec2", "instance/i-1"), arn("ec2", "instance/i-2")]),
    ("ec2", "RunInstances",
     {"requestParameters": {"instancesSet": {"items": [{"imageId": "ami-1"}]}},
      "responseElements": {"instancesSet": {"items": [{"instanceId": "i-3", "imageId": "ami-1"}]}}},
     [arn("ec2", "image/ami-1"), arn("ec2", "instance/i-3")]),
    ("ec2", "AuthorizeSecurityGroupIngress", {"requestParameters": {"groupId": "sg-1"}},
     [arn("ec2", "security-group/sg-1")]),
    ("iam", "AttachUserPolicy",
     {"requestParameters": {"userName": "bob", "policyArn": "arn:aws:iam::aws:policy/Admin"}},
     [arn("iam", "user/bob", ""), "arn:aws:iam::aws:policy/Admin"]),
    ("iam", "UpdateAssumeRolePolicy", {"requestParameters": {"roleName": "deploy"}},
     [arn("iam", "role/deploy", "")]),
    ("iam", "DeleteAccessKey", {"requestParameters": {"userName": "bob", "accessKeyId": "AKIA1"}},
     [arn("iam", "access-key/AKIA1", ""), arn("iam", "user/bob", "")]),
    ("kms", "DisableKey", {"requestParameters": {"keyId": "1234-abcd"}},
     [arn("kms", "key/1234-abcd")]),
    ("kms", "DisableKey", {"requestParameters": {"keyId": arn("kms", "key/1234-abcd")}},
     [arn("kms", "key/1234-abcd")]),
    ("s3", "DeleteBucket", {"requestParameters": {"bucketName": "reports"}},
     ["arn:aws:s3:::reports"]),
    ("secretsmanager", "GetSecretValue", {"requestParameters": {"secretId": "db"}},
     [arn("secretsmanager", "secret:db")]),
    ("lambda", "UpdateFunctionCode20150331v2", {"requestParameters": {"functionName": "f"}},
     [arn("lambda", "function:f")]),
    ("rds", "DeleteDBInstance", {"requestParameters": {"dBInstanceIdentifier": "shop"}},
     [arn("rds", "db:shop")]),
    ("cloudtrail", "StopLogging", {"requestParameters": {"name": "main"}},
     [arn("cloudtrail", "trail/main")]),
    ("ec2", "DescribeInstances", {"requestParameters": {}}, [f"aws:{ACCOUNT}/eu-west-1/ec2"]),
    ("ec2", "StopInstances",
     {"requestParameters": {"instanceId": "i-1"}, "awsRegion": "cn-north-1"},
     [f"arn:aws-cn:ec2:cn-north-1:{ACCOUNT}:instance/i-1"]),
    ("ec2", "StopInstances",
     {"requestParameters": {"instanceId": "i-1"}, "awsRegion": "us-gov-west-1"},
     [f"arn:aws-us-gov:ec2:us-gov-west-1:{ACCOUNT}:instance/i-1"]),
    ("ec2", "StopInstances", {"requestParameters": {"instanceId": ["i-1"], "groupId": None}},
     [f"aws:{ACCOUNT}/eu-west-1/ec2"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "name", "members", "expected"), TARGETS)
def test_targets_are_what_the_request_names(
    source: str, name: str, members: dict[str, Any], expected: list[str]
) -> None:
    assert urns(event(source, name, **members)) == expected


def test_a_resource_named_by_arn_and_by_id_is_one_target() -> None:
    found = event(
        "kms", "Decrypt",
        resources=[{"ARN": arn("kms", "key/1"), "type": "AWS::KMS::Key"}],
        requestParameters={"keyId": arn("kms", "key/1")},
    )  # fmt: skip
    assert {target["urn"] for target in found["targets"]} == {arn("kms", "key/1")}


def test_an_insight_is_mapped_without_a_claim_how_the_calls_went() -> None:
    found = event_of("cloudtrail", {
        "eventVersion": "1.09", "eventTime": "2026-01-01T00:00:00Z", "awsRegion": "us-east-1",
        "eventID": "i-1", "eventType": "AwsCloudTrailInsight", "recipientAccountId": ACCOUNT,
        "sharedEventID": "s-1", "eventCategory": "Insight",
        "insightDetails": {
            "state": "Start", "eventSource": "iam.amazonaws.com", "eventName": "AttachRolePolicy",
            "insightType": "ApiErrorRateInsight", "errorCode": "AccessDenied",
            "insightContext": {"statistics": {"baseline": {"average": 0.1}}},
        },
    })  # fmt: skip
    assert (found["id"], found["category"], found["action"]) == (
        "i-1", "aws.iam", "iam.AttachRolePolicy",
    )  # fmt: skip
    assert found["outcome"] == "unknown"
    assert urns(found) == [f"aws:{ACCOUNT}/us-east-1/iam"]


def test_an_aggregated_event_is_mapped_with_the_resources_of_its_statistics() -> None:
    found = event_of("cloudtrail", {
        "eventVersion": "1.0", "accountId": ACCOUNT, "eventId": "a-1", "awsRegion": "us-west-2",
        "eventCategory": "Aggregated", "eventType": "AwsAggregatedEvent",
        "eventSource": "s3.amazonaws.com",
        "timeWindow": {
            "windowStart": "2026-01-01T00:00:00Z", "windowEnd": "2026-01-01T00:05:00Z",
            "windowSize": "PT5M",
        },
        "summary": {
            "primaryDimension": {
                "dimension": "eventName", "aggregationType": "Count",
                "statistics": [{"name": "PutObject", "value": 1000}],
            },
            "details": [{
                "dimension": "resourceARN", "aggregationType": "Count",
                "statistics": [{"name": "arn:aws:s3:::b-1", "value": 800},
                               {"name": "arn:aws:s3:::b-2", "value": 200}],
            }],
        },
    })  # fmt: skip
    assert (found["id"], found["category"], found["action"], found["outcome"]) == (
        "a-1", "aws.s3", "s3.aggregated", "unknown",
    )  # fmt: skip
    assert found["time"] == "2026-01-01T00:00:00.000000Z"
    assert urns(found) == ["arn:aws:s3:::b-1", "arn:aws:s3:::b-2"]


def test_a_digest_is_passed_over() -> None:
    digest = (
        b'{"awsAccountId":"1","digestS3Bucket":"b","digestS3Object":"o","digestSignatureAlgorithm":'
        b'"SHA256withRSA","digestPublicKeyFingerprint":"f","logFiles":[]}'
    )
    [found] = source_named("cloudtrail").map(digest)
    assert isinstance(found, NotMapped)
    assert found.skipped


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ({"type": "FederatedUser", "principalId": f"{ACCOUNT}:jane",
          "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/jane"}, "jane"),
        ({"type": "FederatedUser", "principalId": f"{ACCOUNT}:jane"}, "jane"),
        ({"type": "AssumedRole", "principalId": "AROA:session"}, "issuer"),
        ({"type": "SAMLUser", "principalId": "S:jane", "userName": "jane"}, "jane"),
        ({"type": "WebIdentityUser", "principalId": "p:a:jane", "userName": "jane"}, "jane"),
        ({"type": "IAMUser", "principalId": "AIDA", "userName": "bob"}, "bob"),
    ],
)  # fmt: skip
def test_a_federated_user_is_not_named_after_who_issued_the_session(
    identity: dict[str, Any], name: str
) -> None:
    issuer = {"sessionContext": {"sessionIssuer": {"type": "IAMUser", "userName": "issuer"}}}
    assert event("s3", "GetObject", userIdentity=identity | issuer)["actor"]["name"] == name


def test_targets_of_a_request_come_in_one_order_whatever_the_order_of_its_members() -> None:
    named = {"keyName": "k", "subnetId": "s-1", "vpcId": "vpc-1", "volumeId": "v-1"}
    at = f"arn:aws:ec2:eu-west-1:{ACCOUNT}:"
    expected = [f"{at}{one}" for one in ("volume/v-1", "vpc/vpc-1", "subnet/s-1", "key-pair/k")]
    for request in (named, dict(reversed(named.items()))):
        found = event("ec2", "RunInstances", requestParameters=request)
        assert [target["urn"] for target in found["targets"]] == expected
