"""`audit-gateway keys check`: which stored grants would be refused today, before an upgrade."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option
from gateway.cli.base.terminal import say, say_json

_FOUND = 1
Members = dict[str, Any]
_EXAMPLES = """\b
Examples:
  audit-gateway keys check --data /var/lib/audit-gateway
  AUDIT_GATEWAY_STORE__URL=postgresql://gateway@db/audit audit-gateway keys check --json

\b
Exit codes: 0 nothing was found, 1 something was. Nothing is changed, whether or
not a gateway is running, also one of an earlier version.
"""


@click.command("check", epilog=_EXAMPLES)
@target_options
@json_option
def check(target: CommandTarget, as_json: bool) -> None:
    """Name the grants of keys and roles that would be refused today, and how they are read.

    Run it on the folder before an upgrade, with the new version: a gateway by --url says how its
    own version reads them.
    """
    keys, roles = target.keys.stored()
    found = [one for key in keys for one in _of_key(key)]
    found += [one for role in roles for one in _of_role(role)]
    wide = sorted(key["id"] for key in keys if _reaches_every_tenant(key))
    if as_json:
        say_json({"problems": found, "every_tenant": wide})
    else:
        for one in found:
            subject = f"key {one['key']}" if "key" in one else f"role {one['role']}"
            line = f"{subject}  grant {one['grant']}  {one['path']}: {one['reason']}"
            say(line, f"  now: {one['means']}; to do: {one['do']}")
        if not found:
            say(f"{len(keys)} keys and {len(roles)} roles: nothing was found")
        if wide:
            say(
                f"note: {len(wide)} keys may read events of every tenant: {', '.join(wide)}. "
                "Earlier versions kept an empty list of tenants, resources or networks as none at "
                "all; look whether this is meant.",
                err=True,
            )
    if found:
        raise SystemExit(_FOUND)


def _of_key(key: Members) -> list[Members]:
    remedy = "make a key with the grant mended, and revoke this one"
    if key.get("unreadable"):
        return [_unreadable({"key": key["id"]}, key["unreadable"])]
    return [
        {"key": key["id"], "name": key["name"], **one, "do": _remedy(one, remedy)}
        for one in _wrong(key)
    ]


def _of_role(role: Members) -> list[Members]:
    name = role["name"]
    remedy = f"`audit-gateway roles put {name}` with the grant mended"
    if role.get("unreadable"):
        return [_unreadable({"role": name}, role["unreadable"])]
    return [{"role": name, **one, "do": _remedy(one, remedy)} for one in _wrong(role)]


def _wrong(subject: Members) -> list[Members]:
    """Problems of the grants of a key or role, each by itself and together."""
    from gateway.access.grants.grant import Grant, check_patterns_together
    from gateway.errors import InvalidRequest

    found = list(subject.get("problems", ()))
    grants = [
        Grant(
            actions=(), categories=tuple(one["categories"]), tenants=tuple(one.get("tenants", ())),
            resources=tuple(one.get("resources", ())),
        )
        for one in subject["grants"]
    ]  # fmt: skip
    try:
        check_patterns_together(grants)
    except InvalidRequest as error:
        means = "all of it counts as before"
        found.append({"grant": "", "path": "grants", "reason": error.detail, "means": means})
    return found


def _remedy(found: Members, remedy: str) -> str:
    """Remedy for a problem; actions without effect can wait."""
    only_actions = ".actions[" in found["path"]
    return f"nothing at once; when it is replaced, {remedy}" if only_actions else remedy


def _unreadable(whose: dict[str, str], why: str) -> Members:
    return {
        **whose, "grant": "", "path": "", "reason": f"cannot be read: {why}",
        "means": "it is not let in", "do": "make it anew, and delete this one",
    }  # fmt: skip


def _reaches_every_tenant(key: Members) -> bool:
    """Whether one of the key's own grants allows reading without selecting tenants or resources."""
    from gateway.oversight.access_log.past_access import READING

    return (
        not key.get("unreadable")
        and "revoked_at" not in key
        and any(
            grant.get("effect", "allow") == "allow"
            and not set(grant["actions"]).isdisjoint(READING)
            and not (grant.get("tenants") or grant.get("resources"))
            for grant in key["grants"]
        )
    )
