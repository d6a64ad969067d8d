"""Kubernetes audit events, `audit.k8s.io/v1` (and `v1beta1`, which has the same members).

Source: Kubernetes documentation, "kube-apiserver Audit Configuration (v1)".
A record does not name its cluster: resource paths begin with `k8s:cluster`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.ingest.sources.identity import event_id, marked
from gateway.ingest.sources.native import (
    Unmappable,
    action,
    address,
    first,
    inner,
    native_event,
    text,
    urn,
)
from gateway.ingest.sources.timestamps import utc_time

_ROOT = ("k8s", "cluster")


def to_event(record: dict[str, Any]) -> dict[str, Any]:
    """Map one audit event to a native event. Raises `Unmappable`."""
    version = record.get("apiVersion")
    if not isinstance(version, str) or not version.startswith("audit.k8s.io/"):
        raise Unmappable("apiVersion", "not a Kubernetes audit event: needs audit.k8s.io/...")
    if record.get("kind") != "Event":
        raise Unmappable("kind", "not a Kubernetes audit event: needs `Event`")
    outcome = _outcome(record)
    resource = text(inner(record, "objectRef", "resource")) or "url"
    subresource = text(inner(record, "objectRef", "subresource"))
    noun = f"{resource}/{subresource}" if subresource else resource
    return native_event(
        record,
        id=_id(record),
        time=utc_time(record, "stageTimestamp", "requestReceivedTimestamp"),
        category="k8s.audit",
        action=action(noun.replace(".", "_"), text(record.get("verb")) or "unknown"),
        outcome=outcome,
        severity=4 if record.get("stage") == "Panic" else None,
        actor=_actor(record.get("user")),
        source={
            "service": "kube-apiserver",
            "ip": _address(record.get("sourceIPs")),
            "user_agent": record.get("userAgent"),
        },
        targets=_targets(record),
        request={"id": record.get("auditID")},
        reason=inner(record, "responseStatus", "message")
        or inner(record, "annotations", "authorization.k8s.io/reason"),
    )


def _id(record: dict[str, Any]) -> str:
    """Id of one stage of a request, marked with the content.

    A client may choose the audit id (header `Audit-ID`): without the mark it
    could repeat the id of an earlier request, and the gateway would drop its
    own as a duplicate.
    """
    own = text(record.get("auditID"))
    if own is None:
        return event_id(record, None)
    return marked(f"{own}:{text(record.get('stage')) or 'unknown'}", record)


def _outcome(record: dict[str, Any]) -> str:
    decision = inner(record, "annotations", "authorization.k8s.io/decision")
    code = inner(record, "responseStatus", "code")
    if decision == "forbid" or code in (401, 403):
        return "denied"
    if record.get("stage") == "Panic":
        return "failure"
    if not isinstance(code, int):
        return "unknown"
    return "failure" if code >= 400 else "success"


def _address(addresses: Any) -> str | None:
    """Address of the connection's peer: the last one, since a client can write all others."""
    return address(addresses[-1]) if isinstance(addresses, list) and addresses else None


def _actor(user: Any) -> dict[str, Any]:
    name = text(inner(user, "username")) or ""
    kinds = {
        "system:serviceaccount:": "service_account",
        "system:node:": "node",
        "system:anonymous": "anonymous",
        "system:": "system",
    }
    extra = inner(user, "extra")
    return {
        "type": next((kind for prefix, kind in kinds.items() if name.startswith(prefix)), "user"),
        "id": name,
        "name": name,
        "key_id": first(inner(extra, "authentication.kubernetes.io/credential-id"))
        or first(inner(extra, "accessKeyId")),
    }


def _targets(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    reference = record.get("objectRef")
    resource, name = inner(reference, "resource"), inner(reference, "name")
    if text(resource):
        namespace = inner(reference, "namespace")
        place = ["ns", namespace] if text(namespace) else []
        yield {
            "urn": urn(*_ROOT, *place, resource, *([name] if text(name) else [])),
            "type": resource,
            "id": inner(reference, "uid"),
            "name": name,
        }
    elif address_of := text(record.get("requestURI"), 4096):
        path = address_of.partition("?")[0].strip("/")
        yield {"urn": urn(*_ROOT, "url", *path.split("/")), "type": "url", "name": "/" + path}
    impersonated = inner(record, "impersonatedUser", "username")
    if text(impersonated):
        yield {
            "urn": urn(*_ROOT, "users", impersonated),
            "type": "impersonated_user",
            "id": impersonated,
            "name": impersonated,
        }
