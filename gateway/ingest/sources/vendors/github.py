"""GitHub: entries of organizations and enterprises, and what they are about.

Source: GitHub documentation, "Audit log events for your organization".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.ingest.mapping.values import inner, text, urn

# Stands for the organization in a path where the entry names none; no account can have this name.
_NOWHERE = "-"


def kind_of_actor(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    name = text(record.get("actor"))
    is_bot = record.get("actor_is_bot") is True or (name or "").endswith("[bot]")
    return ("bot" if is_bot else "user") if name else None


def targets(record: dict[str, Any], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
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
