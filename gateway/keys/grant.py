"""Grants: what a key may do, to which part of the log.

The JSON form is that of the administration interface, for HTTP and the command
line alike; unknown members are refused, never ignored.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from gateway.errors import InvalidRequest
from gateway.match.scope import Scope

ACTIONS = ("stream", "pull", "ingest", "keys.admin", "usage.read", "erase")
MAX_GRANTS = 64
_NOT_YET = ("fields", "when")


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One grant. `effect` is allow or deny (deny wins over every allow)."""

    id: str = ""
    effect: Literal["allow", "deny"] = "allow"
    actions: tuple[str, ...]
    tenants: tuple[str, ...] = ()
    categories: tuple[str, ...]
    resources: tuple[str, ...] = ()
    min_severity: int = 1

    def scope(self) -> Scope:
        """The part of the log it speaks of."""
        return Scope(
            tenant=self.tenants,
            category=self.categories,
            resource=self.resources,
            min_severity=self.min_severity,
            reserved=self.effect == "deny",
        )


def parse_grant(raw: Any) -> Grant:
    """A grant from its decoded JSON. Raises `InvalidRequest` naming the member."""
    if isinstance(raw, dict):
        for member in _NOT_YET:
            if member in raw:
                raise InvalidRequest(
                    f"grants with `{member}` are not supported by this version; "
                    "leave the member out",
                    code="unsupported_grant",
                )
        unknown = sorted(set(raw) - set(Grant.__struct_fields__))
        if unknown:
            raise InvalidRequest(
                f"unknown member {unknown[0]!r} in a grant; it may have "
                + ", ".join(Grant.__struct_fields__),
                code="invalid_grant",
            )
    try:
        grant = msgspec.convert(raw, Grant)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"invalid grant: {error}", code="invalid_grant") from None
    _check(grant)
    return grant


def parse_grant_text(text: str) -> Grant:
    """A grant from JSON text, as the command line takes it."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"a grant must be JSON: {error}", code="invalid_grant") from None
    return parse_grant(raw)


def parse_grants(raw: Any) -> tuple[Grant, ...]:
    """A list of grants from decoded JSON."""
    if not isinstance(raw, list):
        raise InvalidRequest("grants: a list of grants is needed", code="invalid_grant")
    if len(raw) > MAX_GRANTS:
        raise InvalidRequest(f"grants: at most {MAX_GRANTS}", code="invalid_grant")
    return tuple(map(parse_grant, raw))


def _check(grant: Grant) -> None:
    if not grant.actions:
        raise InvalidRequest("a grant needs at least one of `actions`", code="invalid_grant")
    for action in grant.actions:
        if action not in ACTIONS:
            raise InvalidRequest(
                f"unknown action {action!r} in a grant; there are {', '.join(ACTIONS)}",
                code="invalid_grant",
            )
    if not grant.categories:
        raise InvalidRequest(
            'a grant needs at least one of `categories`, such as "auth.*" or "**"',
            code="invalid_grant",
        )
    try:
        grant.scope().check()
    except InvalidRequest as error:
        raise InvalidRequest(f"invalid grant: {error.detail}", code="invalid_grant") from None
