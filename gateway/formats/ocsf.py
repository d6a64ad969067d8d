"""OCSF 1.8.0. Lossless with `unmapped` `full`: it is the native event, byte for byte.

With `rest` it has what may have no slot in the class, with `none` the cursor alone. What the
schema requires and the event does not have is named `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.formats.format import FormatOptions, Unmapped
from gateway.formats.ocsf_classes import (
    ACCOUNT_CHANGE,
    API_ACTIVITY,
    AUTHENTICATION,
    DETECTION_FINDING,
    GROUP_MANAGEMENT,
    OTHER,
    OcsfClass,
    ocsf_class,
)
from gateway.formats.shown_event import (
    ShownActor,
    ShownEvent,
    ShownSource,
    ShownTarget,
    filled,
    milliseconds,
    shown_event,
)

OCSF_VERSION = "1.8.0"
_PRODUCT = {"name": "audit-gateway", "vendor_name": "audit-gateway"}
_UNKNOWN = {"name": "unknown"}
_STATUS = {"success": 1, "failure": 2, "denied": 2}
# Of a finding, the status is how far it was handled.
_NEW = 1
_USER_TYPES = {"user": 1, "admin": 2, "system": 3, "service": 4}
# Members whose slots every class has.
_ALWAYS_MAPPED = (
    "recorded_at", "id", "time", "tenant", "category", "action", "outcome", "severity", "reason",
)  # fmt: skip
_ENCODE = msgspec.json.Encoder().encode
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def ocsf_encoder(options: FormatOptions) -> Callable[[bytes], bytes]:
    """Encoder of single events."""

    def encode(native: bytes) -> bytes:
        event = shown_event(native)
        kind = ocsf_class(event)
        made = _of_every_class(event, kind)
        if kind.actor:
            made |= _of_actor_and_source(event)
        if kind.resources and (resources := [*filter(None, map(_resource, event.targets))]):
            made["resources"] = resources
        made |= _REQUIRED.get(kind.uid, _nothing)(event)
        made["unmapped"] = _unmapped(native, event, kind, options.unmapped)
        return _ENCODE(made)

    return encode


def _of_every_class(event: ShownEvent, kind: OcsfClass) -> dict[str, Any]:
    activity = kind.activity(event.action)
    made: dict[str, Any] = {
        "activity_id": activity,
        "category_uid": kind.category,
        "class_uid": kind.uid,
        "type_uid": kind.uid * 100 + activity,
        "time": milliseconds(event.time),
        "severity_id": event.severity,
        "status_id": _NEW if kind is DETECTION_FINDING else _STATUS.get(event.outcome, 0),
        "metadata": {
            "version": OCSF_VERSION,
            "product": _PRODUCT,
            "uid": event.id,
            "tenant_uid": event.tenant,
            "original_time": event.time,
            "logged_time": milliseconds(event.recorded_at),
            "log_name": event.category,
            "event_code": event.action,
            **filled(correlation_uid=event.request.trace_id or event.request.id),
        },
    }
    if activity == OTHER:
        made["activity_name"] = event.action
    if event.outcome == "denied":
        made["status_detail"] = "denied"
    if event.reason:
        made["message"] = event.reason
    return made


def _of_actor_and_source(event: ShownEvent) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if event.actor is not None:
        made["actor"] = {"user": _user(event.actor)}
    if endpoint := _endpoint(event.source):
        made["src_endpoint"] = endpoint
    if event.source.user_agent:
        made["http_request"] = {"user_agent": event.source.user_agent}
    return made


def _user(actor: ShownActor) -> dict[str, Any]:
    user = filled(uid=actor.id, name=actor.name)
    if actor.type:
        user |= {"type": actor.type, "type_id": _USER_TYPES.get(actor.type, OTHER)}
    if actor.key_id:
        user["credential_uid"] = actor.key_id
    return user if actor.id or actor.name else {**_UNKNOWN, **user}


def _endpoint(source: ShownSource) -> dict[str, Any]:
    endpoint = filled(ip=source.address(), svc_name=source.service)
    port = source.port_number()
    if port is not None:
        endpoint = {**(endpoint or _UNKNOWN), "port": port}
    return endpoint


def _resource(target: ShownTarget) -> dict[str, Any]:
    named = filled(uid=target.urn or target.id, name=target.name)
    if not target.type:
        return named
    return {**(named or _UNKNOWN), "type": target.type}


def _named(target: ShownTarget | None) -> dict[str, Any]:
    """A target by its own id, for slots of one kind of target."""
    if target is None:
        return _UNKNOWN
    return filled(uid=target.id or target.urn, name=target.name) or _UNKNOWN


def _nothing(event: ShownEvent) -> dict[str, Any]:
    return {}


def _account_change(event: ShownEvent) -> dict[str, Any]:
    return {"user": _named(event.target("user"))}


def _authentication(event: ShownEvent) -> dict[str, Any]:
    """Who logs in, and where: the user named as a target, or else the actor."""
    user, actor = event.target("user"), event.actor
    place = next((target for target in event.targets if target is not user), None)
    service = {} if place is None else filled(uid=place.urn or place.id, name=place.name)
    return {
        "user": _user(actor) if user is None and actor is not None else _named(user),
        "service": service or filled(name=event.source.service) or _UNKNOWN,
    }


def _group_management(event: ShownEvent) -> dict[str, Any]:
    return {"group": _named(event.target("group"))}


def _detection_finding(event: ShownEvent) -> dict[str, Any]:
    return {"finding_info": {"uid": event.id, "title": event.action, **filled(desc=event.reason)}}


def _api_activity(event: ShownEvent) -> dict[str, Any]:
    api: dict[str, Any] = {"operation": event.action}
    if event.request.id:
        api["request"] = {"uid": event.request.id}
    if event.source.service:
        api["service"] = {"name": event.source.service}
    return {"api": api, "src_endpoint": _endpoint(event.source) or _UNKNOWN}


_REQUIRED: dict[int, Callable[[ShownEvent], dict[str, Any]]] = {
    ACCOUNT_CHANGE.uid: _account_change,
    AUTHENTICATION.uid: _authentication,
    GROUP_MANAGEMENT.uid: _group_management,
    DETECTION_FINDING.uid: _detection_finding,
    API_ACTIVITY.uid: _api_activity,
}


def _unmapped(native: bytes, event: ShownEvent, kind: OcsfClass, how: Unmapped) -> Any:
    if how == "full":
        return msgspec.Raw(native)
    if how == "none":
        return {"cursor": event.cursor}
    mapped = [*_ALWAYS_MAPPED]
    if kind.actor:
        mapped.append("actor")
        if event.source.typed():
            mapped.append("source")
    return {name: value for name, value in _MEMBERS(native).items() if name not in mapped}
