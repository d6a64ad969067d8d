"""Declared set, checked: the roles, keys and destinations that are wanted. Pure.

Each object is checked by what checks it when it is made by a call of its own; errors name its path
in the set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from gateway.access.grants.role import Role, parse_role
from gateway.access.keys.issuance import IssuanceTerms, KeyRequest, parse_key_request
from gateway.access.policy.subsumption import run_steps
from gateway.declarations.declared import (
    KEY_PATTERN,
    SET_PATTERN,
    DeclaredMembers,
    DeclaredSet,
    DestinationDeclaration,
    KeyDeclaration,
    RoleDeclaration,
)
from gateway.declarations.reading import invalid
from gateway.delivery.definition import NAME, Definition, parse_definition
from gateway.errors import InvalidRequest

MOST_OBJECTS = 10_000
_AT = re.compile(r"(?P<what>.*?) - at `\$\.?(?P<path>.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*?)`")
_SET = re.compile(SET_PATTERN, re.ASCII)
_KEY = re.compile(KEY_PATTERN, re.ASCII)
_DESTINATION = re.compile(NAME, re.ASCII)
_KINDS: dict[str, type[DeclaredMembers]] = {
    "roles": RoleDeclaration,
    "keys": KeyDeclaration,
    "destinations": DestinationDeclaration,
}
# Stands for the key of a definition until it is known.
NO_KEY = "0" * 12
Made = TypeVar("Made")


class WantedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A declared key: what a request for it would say. `life`: whether one was declared."""

    request: KeyRequest
    life: bool


class WantedDestination(msgspec.Struct, frozen=True, kw_only=True):
    """A declared destination: `definition` has no key yet, which is named by `key`; `secrets` are
    values, or empty where a file only names their sources."""

    definition: Definition
    key: str
    secrets: dict[str, str] = {}


class WantedSet(msgspec.Struct, frozen=True, kw_only=True):
    """Roles, keys and destinations that are wanted, by name."""

    name: str
    roles: dict[str, Role] = {}
    keys: dict[str, WantedKey] = {}
    destinations: dict[str, WantedDestination] = {}

    def owner(self, name: str) -> str:
        """What an object of that name says in `managed_by`."""
        return f"{self.name}/{name}"


def structure(raw: Any) -> DeclaredSet:
    """The declared members as `structure_in_steps` gives them, at once: for commands."""
    return run_steps(structure_in_steps(raw))


def structure_in_steps(raw: Any) -> Generator[None, None, DeclaredSet]:
    """The declared members, with their types alone checked; in steps of one object."""
    if not isinstance(raw, dict):
        raise invalid("an object of `set`, `roles`, `keys` and `destinations` is needed")
    # Before any of them is looked at.
    count = sum(len(objects) for name in _KINDS if isinstance(objects := raw.get(name), dict))
    if count > MOST_OBJECTS:
        raise invalid(f"{count} objects are declared; at most {MOST_OBJECTS} in one set")
    yield from _refuse_left_out(raw)
    tables: dict[str, Any] = {}
    for name in _KINDS:
        if name in raw:
            tables[name] = yield from _table(name, raw[name])
    top = _converted("", {**raw, **{name: {} for name in tables}}, DeclaredSet)
    declared = replace(top, **tables)
    if not _SET.fullmatch(declared.set):
        raise invalid(
            "a name of small letters, digits, `.`, `_` and `-`, such as prod, is needed", "set"
        )
    return declared


def _table(name: str, objects: Any) -> Generator[None, None, dict[str, Any]]:
    """Objects of a table, each with its path in errors."""
    if not isinstance(objects, dict):
        raise invalid("a table of objects by name is needed", name)
    kind, table = _KINDS[name], {}
    for one, members in objects.items():
        yield
        table[one] = _converted(f"{name}.{one}", members, kind)
    return table


def _converted(path: str, raw: Any, kind: type[Made]) -> Made:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _in_words(path, str(error)) from None


def parse_set(raw: Any, terms: IssuanceTerms) -> Generator[None, None, WantedSet]:
    """What a decoded set wants, in steps of one object. Raises `InvalidRequest` with the `path` of
    what is wrong. In it `secret` of keys is refused, and secrets of destinations are values."""
    declared = yield from structure_in_steps(raw)
    roles: dict[str, Role] = {}
    keys: dict[str, WantedKey] = {}
    destinations: dict[str, WantedDestination] = {}
    for name, role in declared.roles.items():
        yield
        body = {"description": role.description, "grants": list(role.grants)}
        roles[name] = _at(f"roles.{name}", parse_role, name, msgspec.to_builtins(body))
    for name, key in declared.keys.items():
        yield
        keys[name] = _at(f"keys.{name}", _wanted_key, name, key, terms)
    for name, destination in declared.destinations.items():
        yield
        path = f"destinations.{name}"
        destinations[name] = _at(path, _wanted_destination, name, destination)
    return WantedSet(name=declared.set, roles=roles, keys=keys, destinations=destinations)


def _wanted_key(name: str, declared: KeyDeclaration, terms: IssuanceTerms) -> WantedKey:
    if not _KEY.fullmatch(name):
        raise InvalidRequest("letters, digits, `.`, `_` and `-` make the name of a declared key")
    if declared.secret is not UNSET:
        raise InvalidRequest(
            "secret: the place of a secret is known where apply runs, and sent to nobody",
            path="secret",
        )
    members = {
        member: value
        for member in ("purpose", "owner", "expires_in", "roles", "limits", "pseudonym_domain")
        if (value := getattr(declared, member)) is not UNSET
    }
    body = {"name": name, **members, "grants": declared.grants}
    body["roles"], body["grants"] = _list(body.get("roles", ())), _list(declared.grants)
    if declared.rotate is not UNSET:
        body["rotate"] = msgspec.to_builtins(declared.rotate)
    request = parse_key_request(body, terms)
    return WantedKey(request=request, life=declared.expires_in is not UNSET)


def _wanted_destination(name: str, declared: DestinationDeclaration) -> WantedDestination:
    if not _DESTINATION.fullmatch(name):
        raise InvalidRequest("small letters, digits, `.`, `_` and `-` make its name")
    members: dict[str, Any] = msgspec.to_builtins(declared)
    members |= {"name": name, "key": NO_KEY}
    definition, secrets = parse_definition(members)
    return WantedDestination(definition=definition, key=declared.key, secrets=secrets)


def _list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _at(path: str, parse: Callable[..., Made], *given: Any) -> Made:
    """Result of a parser, whose errors then say where in the set the object stands."""
    try:
        return parse(*given)
    except InvalidRequest as error:
        inner = error.members.pop("path", "")
        error.members["path"] = ".".join(filter(None, (path, inner)))
        raise InvalidRequest(f"{path}: {error.detail}", code=error.code, **error.members) from None


def _refuse_left_out(raw: Mapping[str, Any]) -> Generator[None, None, None]:
    """Say of what cannot be declared why not, and what there is instead."""
    for table in ("roles", "keys"):
        objects = raw.get(table)
        for name, one in objects.items() if isinstance(objects, dict) else ():
            yield
            if table == "roles" and isinstance(one, dict) and "parameters" in one:
                raise invalid(
                    "roles have no parameters: declare a role for each value, or grants in the key",
                    f"roles.{name}.parameters",
                )
            given = one.get("roles") if isinstance(one, dict) else None
            for place, role in enumerate(given if isinstance(given, list) else ()):
                if isinstance(role, dict):
                    raise invalid(
                        "roles have no parameters: name it as a text",
                        f"keys.{name}.roles[{place}]",
                    )


def _in_words(base: str, message: str) -> InvalidRequest:
    found = _AT.fullmatch(message)
    what, inner = (found["what"], found["path"]) if found else (message, "")
    path = ".".join(filter(None, (base, inner)))
    if unknown := _UNKNOWN.fullmatch(what):
        where = ".".join(filter(None, (path, unknown["name"][:64])))
        return invalid("there is no such member", where)
    if missing := _MISSING.fullmatch(what):
        return invalid("it is required", ".".join(filter(None, (path, missing["name"]))))
    return invalid(what[0].lower() + what[1:], path)
