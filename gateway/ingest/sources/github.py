"""GitHub's organization and enterprise audit log.

Source: GitHub documentation, "Audit log events for your organization", "Using the
audit log API". Streams write `@timestamp` and `created_at` as milliseconds;
some exports rename the former to `at_sign_timestamp` and write text.
"""

from __future__ import annotations

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

# An entry says who did something or where; other services also write an `action`.
_SUBJECTS = ("actor", "org", "repo", "repository", "business", "_document_id")
# Stands for the organization in a path where the entry names none; no account can have this name.
_NOWHERE = "-"
_CONCLUSIONS = {
    "success": "success",
    "failure": "failure",
    "timed_out": "failure",
    "startup_failure": "failure",
}


def to_event(record: dict[str, Any]) -> dict[str, Any]:
    """Map one audit log entry to a native event. Raises `Unmappable`."""
    name = text(record.get("action"))
    if name is None:
        raise Unmappable("action", "required in a GitHub audit log entry")
    if not any(isinstance(record.get(member), str) for member in _SUBJECTS):
        raise Unmappable("", f"not a GitHub audit log entry: has none of {', '.join(_SUBJECTS)}")
    outcome = _outcome(record)
    return native_event(
        record,
        id=event_id(record, record.get("_document_id")),
        time=utc_time(record, "@timestamp", "at_sign_timestamp", "created_at"),
        category=category("github", name.rpartition(".")[0]),
        action=action(name),
        outcome=outcome,
        actor=_actor(record),
        source={
            "service": "github",
            "ip": address(record.get("actor_ip")),
            "user_agent": record.get("user_agent"),
        },
        targets=_targets(record),
        request={"id": record.get("request_id")},
    )


def _outcome(record: dict[str, Any]) -> str:
    """Outcome of an entry: GitHub writes one only for workflow runs and API requests."""
    code = record.get("status_code")
    if isinstance(code, int):
        if code in (401, 403):
            return "denied"
        return "failure" if code >= 400 else "success"
    return _CONCLUSIONS.get(str(record.get("conclusion")), "unknown")


def _actor(record: dict[str, Any]) -> dict[str, Any]:
    name = text(record.get("actor"))
    is_bot = record.get("actor_is_bot") is True or (name or "").endswith("[bot]")
    key = text(record.get("token_id"))
    return {
        "type": ("bot" if is_bot else "user") if name else None,
        "id": text(record.get("actor_id")) or name,
        "name": name,
        "key_id": None if key == "0" else key,
    }


def _targets(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Targets: repository, team and person below their organization, else the organization."""
    org = text(record.get("org"))
    repo = text(record.get("repo")) or text(record.get("repository"))
    team = text(record.get("team")) or text(inner(record, "data", "team"))
    person = text(record.get("user"))
    business = text(record.get("business"))
    if repo:
        place = _below(org, "repos", repo)
        yield {"urn": place, "type": "repository", "id": record.get("repo_id"), "name": repo}
    if team:
        yield {"urn": _below(org, "teams", team), "type": "team", "name": team}
    if person:
        place = urn("github", org or _NOWHERE, "users", person)
        yield {"urn": place, "type": "user", "id": record.get("user_id"), "name": person}
    if repo or team or person:
        return
    if org:
        place = urn("github", org)
        yield {"urn": place, "type": "organization", "id": record.get("org_id"), "name": org}
    elif business:
        place = urn("github", _NOWHERE, "enterprises", business)
        yield {"urn": place, "type": "enterprise", "name": business}


def _below(org: str | None, kind: str, name: str) -> str:
    """`github:acme/repos/site` of `acme/site`, or of `site` in the organization `acme`."""
    owner, slash, rest = name.partition("/")
    return urn("github", owner, kind, rest) if slash else urn("github", org or _NOWHERE, kind, name)
