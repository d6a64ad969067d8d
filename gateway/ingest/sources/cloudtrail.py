"""AWS CloudTrail records, versions 1.0x.

Source: AWS CloudTrail User Guide, "CloudTrail record contents" and
"CloudTrail userIdentity element".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gateway.ingest.sources.identity import event_id
from gateway.ingest.sources.native import (
    Unmappable,
    action,
    address,
    category,
    inner,
    native_event,
    text,
    urn,
)
from gateway.ingest.sources.timestamps import utc_time

# Services word a refusal differently: AccessDenied, Client.UnauthorizedOperation,
# UnauthorizedAccess, ForbiddenException, AuthFailure, UnrecognizedClientException ...
_DENIED = re.compile(
    r"access_?denied|unauthori[sz]ed|forbidden|not_?authori[sz]ed|authfailure|"
    r"unrecognizedclient|invalidclienttokenid|signaturedoesnotmatch",
    re.IGNORECASE,
)
_SERVICE_SUFFIX = re.compile(r"\.amazonaws\.com(\.cn)?$")


def to_event(record: dict[str, Any]) -> dict[str, Any]:
    """Map one record of a `Records` list to a native event. Raises `Unmappable`."""
    name, event_source = text(record.get("eventName")), text(record.get("eventSource"))
    if name is None or event_source is None:
        missing = "eventName" if name is None else "eventSource"
        raise Unmappable(missing, "required in a CloudTrail record")
    service = _SERVICE_SUFFIX.sub("", event_source)
    outcome = _outcome(record)
    return native_event(
        record,
        id=event_id(record, record.get("eventID")),
        time=utc_time(record, "eventTime"),
        category=category("aws", service),
        action=action(service, name.replace(".", "_")),
        outcome=outcome,
        actor=_actor(record.get("userIdentity")),
        source={
            "service": event_source,
            "ip": address(record.get("sourceIPAddress")),
            "user_agent": record.get("userAgent"),
        },
        targets=_targets(record, service),
        request={"id": record.get("requestID")},
        reason=_reason(record),
    )


def _outcome(record: dict[str, Any]) -> str:
    code = text(record.get("errorCode"))
    if code is not None:
        return "denied" if _DENIED.search(code) else "failure"
    # A failed sign-in has no errorCode, only an errorMessage and this.
    if inner(record, "responseElements", "ConsoleLogin") == "Failure":
        return "failure"
    return "failure" if text(record.get("errorMessage")) else "success"


def _reason(record: dict[str, Any]) -> str | None:
    parts = [text(record.get(member), 1024) for member in ("errorCode", "errorMessage")]
    return ": ".join(part for part in parts if part) or None


def _actor(identity: Any) -> dict[str, Any]:
    def of(*path: str) -> str | None:
        return text(inner(identity, *path))

    invoked_by = of("invokedBy")
    return {
        "type": of("type"),
        "id": of("principalId") or of("arn") or of("onBehalfOf", "userId") or invoked_by,
        "name": of("userName") or of("sessionContext", "sessionIssuer", "userName") or invoked_by,
        "key_id": of("accessKeyId"),
    }


def _targets(record: dict[str, Any], service: str) -> Iterator[dict[str, Any]]:
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
    bucket = inner(parameters, "bucketName")
    if service == "s3" and isinstance(bucket, str) and bucket:
        named = True
        yield _target(urn("arn", f"aws:s3:::{bucket}"), "AWS::S3::Bucket")
    if not named:
        account = record.get("recipientAccountId") or inner(record, "userIdentity", "accountId")
        region = text(record.get("awsRegion")) or "global"
        yield {"urn": urn("aws", account or "-", region, service), "type": "service"}


def _target(arn: str, kind: Any) -> dict[str, Any]:
    # The slashes of an ARN are those of the resource's own path.
    path = urn("arn", *arn.removeprefix("arn:").split("/"))
    return {"urn": path, "type": kind, "id": arn, "name": re.split(r"[:/]", arn)[-1]}
