"""Members of a file that declares a set of roles, keys and destinations."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.access.grants.grant import MAX_GRANTS
from gateway.access.grants.role import MAX_ROLES_OF_KEY
from gateway.access.keys.key import PSEUDONYM_DOMAIN
from gateway.access.keys.key_limits import LIMITS, KeyLimits
from gateway.clock import Duration
from gateway.delivery.definition import (
    DestinationBatch,
    DestinationRetry,
    DestinationSelect,
    DestinationTimeout,
    DestinationTls,
)
from gateway.json_members import about

SET_PATTERN = "[a-z0-9][a-z0-9._-]{0,63}"
KEY_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
SetName = Annotated[
    str, about("Name of the set that the objects belong to.", pattern=f"^{SET_PATTERN}$")
]
_Text = Annotated[str, Meta(min_length=1, max_length=256)]
_Roles = Annotated[
    Any, about("Roles by name.", type="array", items={"type": "string"}, maxItems=MAX_ROLES_OF_KEY)
]
_GRANT = {"$ref": "#/components/schemas/Grant"}
_Grants = Annotated[Any, about(type="array", items=_GRANT, maxItems=MAX_GRANTS)]
_Limits = Annotated[Any, LIMITS, about(**{"$ref": f"#/components/schemas/{KeyLimits.__name__}"})]
_Sources = Annotated[
    dict[str, Any],
    about(
        "Secrets by name, read where apply runs.",
        additionalProperties={"$ref": "#/components/schemas/SecretSource"},
    ),
]


class DeclaredMembers(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Members of a declared object; others are refused."""


class RoleDeclaration(DeclaredMembers, frozen=True, kw_only=True):
    """A role: a named list of grants."""

    description: Annotated[str, Meta(max_length=1024)] = ""
    grants: _Grants = msgspec.field(default_factory=list)


class RotationDeclaration(DeclaredMembers, frozen=True, kw_only=True):
    """When a key is replaced by a successor, and how long both work."""

    every: Duration
    overlap: Duration = "1h"


class SecretPlace(DeclaredMembers, frozen=True, kw_only=True):
    """Where apply puts the secret of a key that it makes: a file, or the standard input of a
    command."""

    file: Annotated[str, about("Path of the file that is replaced.")] | UnsetType = UNSET
    mode: Annotated[str, about("Permissions of the file.", pattern="^0[0-7]{3}$")] = "0600"
    command: (
        Annotated[list[str], Meta(min_length=1), about("A program and its arguments.")] | UnsetType
    ) = UNSET


class SecretSource(DeclaredMembers, frozen=True, kw_only=True):
    """Where apply reads a secret of a destination: a file, a variable, or what a command prints."""

    file: str | UnsetType = UNSET
    env: str | UnsetType = UNSET
    command: Annotated[list[str], Meta(min_length=1)] | UnsetType = UNSET


class KeyDeclaration(DeclaredMembers, frozen=True, kw_only=True):
    """A key. Its life is counted from when it is made."""

    purpose: Annotated[_Text, about("The one thing it is for.")]
    owner: Annotated[_Text, about("Who answers for it.")]
    expires_in: Duration | UnsetType = UNSET
    grants: _Grants = msgspec.field(default_factory=list)
    roles: _Roles = msgspec.field(default_factory=list)
    limits: _Limits = UNSET
    pseudonym_domain: Annotated[str, PSEUDONYM_DOMAIN] | UnsetType = UNSET
    rotate: RotationDeclaration | UnsetType = UNSET
    secret: SecretPlace | UnsetType = UNSET


class DestinationDeclaration(DeclaredMembers, frozen=True, kw_only=True):
    """A destination, which delivers what a declared key may see."""

    type: Annotated[str, about("The type of the receiver.")]
    key: Annotated[str, about("Name of a key of this set, or the id of another.")]
    select: DestinationSelect | UnsetType = UNSET
    start: Annotated[str, about("Where it begins when it is made.")] = msgspec.field(
        default="now", name="from"
    )
    batch: DestinationBatch | UnsetType = UNSET
    retry: DestinationRetry | UnsetType = UNSET
    timeout: DestinationTimeout | UnsetType = UNSET
    format: str | UnsetType = UNSET
    compression: str | UnsetType = UNSET
    tls: DestinationTls | UnsetType = UNSET
    plaintext: bool | UnsetType = UNSET
    on_gap: str | UnsetType = UNSET
    settings: Annotated[dict[str, Any], about("Settings of the type.")] | UnsetType = UNSET
    secrets: _Sources | UnsetType = UNSET


class DeclaredSet(DeclaredMembers, frozen=True, kw_only=True):
    """A set of roles, keys and destinations, by name."""

    schema: Annotated[str, about("Address of the schema, for editors.")] = msgspec.field(
        default="", name="$schema"
    )
    set: SetName
    roles: dict[str, RoleDeclaration] = {}
    keys: dict[str, KeyDeclaration] = {}
    destinations: dict[str, DestinationDeclaration] = {}


# Tables of objects in a file.
TABLES = ("roles", "keys", "destinations")
