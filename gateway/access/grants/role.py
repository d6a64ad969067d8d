"""Roles: named lists of grants, some of them predefined."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from gateway.access.credentials.token import HOLDS_KEY, holds_token
from gateway.access.grants.grant import Grant, GrantsOfBody, defects_in, parse_grant, parse_grants
from gateway.errors import InvalidRequest
from gateway.json_members import Body, about, parse_body

_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
MAX_ROLES_OF_KEY = 16
_UNREADABLE = about("Why this version cannot read it: its keys may do nothing.")
RolesOfBody = Annotated[
    Any, about(type="array", items={"type": "string"}, maxItems=MAX_ROLES_OF_KEY)
]


class NewRoleBody(Body, frozen=True):
    """Body of `PUT /v1/roles/{name}`. Grants are checked by `parse_grants`."""

    description: Annotated[str, Meta(max_length=1024)] = ""
    grants: GrantsOfBody = UNSET


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One role; `builtin` ones cannot be changed."""

    name: str
    description: str = ""
    grants: tuple[Grant, ...] = ()
    builtin: bool = False
    # Its declaration, as `<set>/<name>`, and the digest of what was applied last; "" for roles that
    # none declares.
    managed_by: str = ""
    declared: str = ""
    # Who changed it last, and when; unknown for roles from before that was stored.
    changed_by: str = ""
    changed_at: float = 0.0

    @property
    def unreadable(self) -> str:
        """Why its stored form cannot be read, if so; its keys may do nothing."""
        return ""

    def public(self) -> RoleAnswer:
        shown, problems = tuple([grant.shown() for grant in self.grants]), defects_in(self.grants)
        return RoleAnswer(
            self.name,
            self.description,
            shown,
            self.builtin,
            problems,
            self.managed_by,
            self.unreadable,
        )


class RoleAnswer(msgspec.Struct, omit_defaults=True):
    """A role as administration shows it."""

    name: Annotated[str, about(pattern=f"^{_NAME.pattern}$")]
    description: str
    grants: tuple[Grant, ...]
    builtin: bool
    problems: list[dict[str, str]] = []
    managed_by: Annotated[str, about("Its declaration, as `<set>/<name>`.")] = ""
    unreadable: Annotated[str, _UNREADABLE] = ""


def _builtin(name: str, description: str, *grants: dict[str, Any]) -> Role:
    return Role(
        name=name, description=description, grants=tuple(map(parse_grant, grants)), builtin=True
    )


BUILTIN = {
    role.name: role
    for role in (
        _builtin(
            "siem-forwarder",
            "Streams and pulls everything but the gateway's own records.",
            {"id": "events", "actions": ["stream", "pull"], "categories": ["**"]},
        ),
        _builtin(
            "dashboard",
            "Streams everything of the last day but the gateway's own records and payloads.",
            {
                "id": "events",
                "actions": ["stream", "pull"],
                "categories": ["**"],
                "fields": {"drop": ["data"]},
                "when": {"max_lookback": "24h"},
            },
        ),
        _builtin(
            "log-shipper",
            "Streams everything but the gateway's own records; pulls nothing.",
            {"id": "events", "actions": ["stream"], "categories": ["**"]},
        ),
        _builtin(
            "producer",
            "Sends events; reads none.",
            {"id": "events", "actions": ["ingest"], "categories": ["**"]},
        ),
        _builtin(
            "auditor",
            "Reads everything: the gateway's own records, keys and their use, streams, metrics.",
            {
                "id": "everything",
                "actions": ["stream", "pull", "keys.read", "usage.read", "ops.read"],
                "categories": ["**", "gateway.**"],
            },
        ),
        _builtin(
            "on-call",
            "Sees and ends live streams, sees and pauses destinations; reads no events.",
            {
                "id": "operation",
                "actions": ["ops.read", "ops.act", "usage.read"],
                "categories": ["**"],
            },
        ),
        _builtin(
            "key-admin",
            "Makes and ends keys; reads the records of that, and no other events.",
            {
                "id": "keys",
                "actions": ["keys.admin", "usage.read", "ops.read"],
                "categories": ["**"],
            },
            {"id": "record", "actions": ["stream", "pull"], "categories": ["gateway.keys"]},
        ),
    )
}


def grants_of_roles(roles: Mapping[str, Role]) -> dict[str, tuple[Grant, ...]]:
    """Grants of predefined and stored roles, by name."""
    return {name: role.grants for name, role in {**BUILTIN, **roles}.items()}


def parse_role(name: str, body: Any) -> Role:
    """Role from the decoded body of `PUT /v1/roles/{name}`."""
    check_role_name(name)
    if name in BUILTIN:
        raise InvalidRequest(f"the role {name} is predefined; choose another name")
    asked = parse_body(body, NewRoleBody)
    if holds_token(asked.description):
        raise InvalidRequest(f"description: it holds a whole key, {HOLDS_KEY}")
    return Role(name=name, description=asked.description, grants=parse_grants(asked.grants))


def check_role_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"not a role name: {name[:64]!r}; lower case letters, digits and hyphens"
        )


def parse_role_names(raw: Any) -> tuple[str, ...]:
    """Names in the `roles` of a key."""
    if not isinstance(raw, list) or not all(isinstance(name, str) for name in raw):
        raise InvalidRequest("roles: a list of role names is needed")
    if len(raw) > MAX_ROLES_OF_KEY:
        raise InvalidRequest(f"roles: at most {MAX_ROLES_OF_KEY}")
    for name in raw:
        check_role_name(name)
    return tuple(dict.fromkeys(raw))
