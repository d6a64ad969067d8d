"""AWS CloudTrail: outcomes in answers, and targets of requests.

Source: AWS CloudTrail User Guide, "CloudTrail record contents" and "AWS console sign-in events".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from gateway.ingest.mapping.values import cut_urn, inner, segments, text, urn

_SERVICE_SUFFIX = re.compile(r"\.amazonaws\.com(\.cn)?$")
# By member of the answer: what it says.
_ANSWERS = {"success": "success", "failure": "failure", "failed": "failure"}


def category(record: dict[str, Any], options: Mapping[str, str]) -> str:
    """Category by the service: `aws.s3` of `s3.amazonaws.com`."""
    return f"aws.{_service(record)}"


def action(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Action by service and event: `s3.GetObject`."""
    name = text(record.get("eventName")) or text(inner(record, "insightDetails", "eventName"))
    return None if name is None else f"{_service(record)}.{name.replace('.', '_')}"


def _service(record: dict[str, Any]) -> str:
    name = text(record.get("eventSource")) or text(inner(record, "insightDetails", "eventSource"))
    return _without_suffix(name or "-")


@lru_cache(maxsize=1024)
def _without_suffix(service: str) -> str:
    return _SERVICE_SUFFIX.sub("", service)


def answer(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Outcome in the answer: sign-ins and some services name it by the event, without a code."""
    name = record.get("eventName")
    for member in ("responseElements", "serviceEventDetails", "additionalEventData"):
        found = inner(record, member, name) if isinstance(name, str) else None
        if isinstance(found, str) and found.lower() in _ANSWERS:
            return _ANSWERS[found.lower()]
    return None


def reason(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Error code and message."""
    parts = [text(record.get(member), 1024) for member in ("errorCode", "errorMessage")]
    return ": ".join(part for part in parts if part) or None


def targets(record: dict[str, Any], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Targets of a record: its resources' ARNs, else the account's region and service."""
    named = False
    resources = record.get("resources")
    for resource in resources if isinstance(resources, list) else []:
        arn = text(inner(resource, "ARN") or inner(resource, "arn"), 4096)
        if arn is not None:
            named = True
            yield _target(arn, inner(resource, "type"))
    parameters = record.get("requestParameters")
    for value in parameters.values() if isinstance(parameters, dict) else []:
        if isinstance(value, str) and value.startswith("arn:"):
            named = True
            yield _target(value, None)
    name = _service(record)
    bucket = inner(parameters, "bucketName")
    if name == "s3" and isinstance(bucket, str) and bucket:
        named = True
        yield _target(urn("arn", f"aws:s3:::{bucket}"), "AWS::S3::Bucket")
    if not named:
        account = record.get("recipientAccountId") or inner(record, "userIdentity", "accountId")
        region = text(record.get("awsRegion")) or "global"
        yield {"urn": urn("aws", account or "-", region, name), "type": "service"}


def _target(arn: str, kind: Any) -> dict[str, Any]:
    # The slashes of an ARN are those of the resource's own path.
    path = cut_urn("arn:" + segments(arn.removeprefix("arn:")))
    return {"urn": path, "type": kind, "id": arn, "name": arn[max(map(arn.rfind, "/:")) + 1 :]}
