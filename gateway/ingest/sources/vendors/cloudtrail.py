"""AWS CloudTrail: outcomes in answers, and targets of requests.

Source: AWS CloudTrail User Guide, "CloudTrail record contents" (of API, Insights and aggregated
events), "AWS console sign-in events" and "Non-API events captured by CloudTrail"; AWS Control Tower
User Guide, "Lifecycle events"; AWS Service Authorization Reference for the forms of ARNs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from gateway.ingest.mapping.values import cut_urn, inner, segments, text, urn

_SERVICE_SUFFIX = re.compile(r"\.amazonaws\.com(\.cn)?$")
# What answers and jobs say of themselves, in lower case.
_ANSWERS = {
    "success": "success", "succeeded": "success", "completed": "success", "failure": "failure",
    "failed": "failure", "error": "failure", "aborted": "failure", "expired": "failure",
    "partial": "failure", "denied": "denied",
}  # fmt: skip
_AGGREGATED = "AwsAggregatedEvent"
# By service and member of a request: resources by their ids, as their ARNs have them.
_REQUESTED: dict[str, dict[str, str]] = {
    "ec2": {
        "instanceId": "instance/", "volumeId": "volume/", "snapshotId": "snapshot/",
        "imageId": "image/", "groupId": "security-group/", "vpcId": "vpc/", "subnetId": "subnet/",
        "networkInterfaceId": "network-interface/", "keyName": "key-pair/",
        "routeTableId": "route-table/", "networkAclId": "network-acl/",
    },
    "iam": {
        "userName": "user/", "roleName": "role/", "groupName": "group/",
        "instanceProfileName": "instance-profile/", "accessKeyId": "access-key/",
    },
    "kms": {"keyId": "key/", "aliasName": ""},
    "secretsmanager": {"secretId": "secret:"},
    "lambda": {"functionName": "function:"},
    "dynamodb": {"tableName": "table/"},
    "rds": {"dBInstanceIdentifier": "db:", "dBClusterIdentifier": "cluster:"},
    "logs": {"logGroupName": "log-group:"},
    "cloudformation": {"stackName": "stack/"},
    "cloudtrail": {"name": "trail/", "trailName": "trail/"},
    "eks": {"clusterName": "cluster/"},
    "ecr": {"repositoryName": "repository/"},
    "ssm": {"name": "parameter/"},
    "states": {"name": "stateMachine:"},
}  # fmt: skip
# Services whose ARNs name no region.
_GLOBAL = {"iam"}
# Lists of EC2, in requests and answers.
_SETS = ("instancesSet", "groupSet", "volumeSet", "snapshotSet", "imagesSet", "networkInterfaceSet")
_MOST_ITEMS = 32


def category(record: dict[str, Any], options: Mapping[str, str]) -> str:
    """Category by the service: `aws.s3` of `s3.amazonaws.com`."""
    return f"aws.{_service(record)}"


def action(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Action by service and event: `s3.GetObject`."""
    name = text(record.get("eventName")) or text(inner(record, "insightDetails", "eventName"))
    if name is None and record.get("eventType") == _AGGREGATED:
        name = "aggregated"
    return None if name is None else f"{_service(record)}.{name.replace('.', '_')}"


def _service(record: dict[str, Any]) -> str:
    name = text(record.get("eventSource")) or text(inner(record, "insightDetails", "eventSource"))
    return _without_suffix(name or "-")


@lru_cache(maxsize=1024)
def _without_suffix(service: str) -> str:
    return _SERVICE_SUFFIX.sub("", service)


def answer(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Outcome in the answer: sign-ins and events of services say it there, without a code."""
    if "insightDetails" in record or record.get("eventType") == _AGGREGATED:
        # Several calls, of which some may have failed.
        return "unknown"
    name = record.get("eventName")
    for member in ("responseElements", "serviceEventDetails", "additionalEventData"):
        holder = record.get(member)
        if isinstance(holder, dict) and isinstance(name, str):
            found = _said(holder.get(name))
            if found is not None:
                return found
    return _state(record.get("serviceEventDetails"))


def _state(details: Any) -> str | None:
    """What a job of a service says of itself: `state`, or `createManagedAccountStatus.state`."""
    if not isinstance(details, dict):
        return None
    for holder in (details, *(value for name, value in details.items() if name.endswith("Status"))):
        found = _said(inner(holder, "state")) or _said(inner(holder, "status"))
        if found is not None:
            return found
    return None


def _said(value: Any) -> str | None:
    return _ANSWERS.get(value.lower()) if isinstance(value, str) else None


def federated_name(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Name of a federated user in its ARN; the session has that of the issuer."""
    identity = record.get("userIdentity")
    if inner(identity, "type") != "FederatedUser":
        return None
    arn, principal = text(inner(identity, "arn"), 4096), text(inner(identity, "principalId"))
    return text((arn or "").partition(":federated-user/")[2]) or text(
        (principal or "").partition(":")[2]
    )


def reason(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Error code and message."""
    if "errorCode" not in record and "errorMessage" not in record:
        return None
    parts = [text(record.get(member), 1024) for member in ("errorCode", "errorMessage")]
    return ": ".join(part for part in parts if part) or None


def targets(record: dict[str, Any], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Targets of a record: its resources' ARNs and those that the request names, else the account's
    region and service."""
    named = False
    for found in (*_resources(record), *_requested(record), *_aggregated(record)):
        named = True
        yield found
    if not named:
        region = text(record.get("awsRegion")) or "global"
        yield {
            "urn": urn("aws", _account(record) or "-", region, _service(record)),
            "type": "service",
        }


def _account(record: dict[str, Any]) -> str | None:
    members = record.get("recipientAccountId"), inner(record, "userIdentity", "accountId")
    return text(members[0]) or text(members[1]) or text(record.get("accountId"))


def _resources(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    resources = record.get("resources")
    for resource in resources if isinstance(resources, list) else []:
        arn = text(inner(resource, "ARN") or inner(resource, "arn"), 4096)
        if arn is not None:
            yield _target(arn, inner(resource, "type"))


def _requested(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Resources that the request names by ARN, or by an id of the table; the answer has those that
    were made."""
    service, parameters = _service(record), record.get("requestParameters")
    for value in parameters.values() if isinstance(parameters, dict) else []:
        if isinstance(value, str) and value.startswith("arn:"):
            yield _target(value, None)
    bucket = inner(parameters, "bucketName")
    if service == "s3" and isinstance(bucket, str) and bucket:
        yield _target(urn("arn", f"aws:s3:::{bucket}"), "AWS::S3::Bucket")
    known = _REQUESTED.get(service)
    if known is None:
        return
    for holder in (parameters, *_items(parameters), *_items(record.get("responseElements"))):
        # In the order of the table, so that the same record makes the same event.
        for member in known if isinstance(holder, dict) else ():
            value = text(holder.get(member))
            if value is not None and not value.startswith("arn:"):
                yield _by_id(record, service, known[member], value)


def _items(parameters: Any) -> Iterator[Any]:
    if not isinstance(parameters, dict):
        return
    for name in _SETS:
        if name in parameters:
            items = inner(parameters, name, "items")
            yield from items[:_MOST_ITEMS] if isinstance(items, list) else ()


def _by_id(record: dict[str, Any], service: str, kind: str, name: str) -> dict[str, Any]:
    region = text(record.get("awsRegion")) or ""
    partition = "aws"
    for begin in ("cn", "us-gov"):
        if region.startswith(f"{begin}-"):
            partition = f"aws-{begin}"
    where = "" if service in _GLOBAL else region
    arn = f"arn:{partition}:{service}:{where}:{_account(record) or ''}:{kind}{name}"
    return _target(arn, kind.strip("/:") or None) | {"id": name, "name": name}


def _aggregated(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Resources in the statistics of an aggregated event."""
    summary = record.get("summary")
    if summary is None:
        return
    details = inner(summary, "details")
    dimensions = [inner(summary, "primaryDimension")]
    dimensions += details[:_MOST_ITEMS] if isinstance(details, list) else []
    for dimension in dimensions:
        found = inner(dimension, "statistics")
        if inner(dimension, "dimension") == "resourceARN" and isinstance(found, list):
            for one in found[:_MOST_ITEMS]:
                arn = text(inner(one, "name"), 4096)
                if arn is not None and arn.startswith("arn:"):
                    yield _target(arn, None)


def _target(arn: str, kind: Any) -> dict[str, Any]:
    # The slashes of an ARN are those of the resource's own path.
    path = cut_urn("arn:" + segments(arn.removeprefix("arn:")))
    return {"urn": path, "type": kind, "id": arn, "name": arn[max(map(arn.rfind, "/:")) + 1 :]}
