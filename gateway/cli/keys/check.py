"""`audit-gateway keys check`: which stored grants would be refused today, before an upgrade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.key_folder import json_option, run
from gateway.cli.base.options import settings_options
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.runtime.stored_keys import Documents
    from gateway.settings.declarations import Settings

_FOUND = 1
_EXAMPLES = """\b
Examples:
  audit-gateway keys check --data /var/lib/audit-gateway
  AUDIT_GATEWAY_STORE__URL=postgresql://gateway@db/audit audit-gateway keys check --json

\b
Exit codes: 0 nothing was found, 1 something was. Nothing is changed, whether or
not a gateway is running, also one of an earlier version.
"""


@click.command("check", epilog=_EXAMPLES)
@settings_options
@json_option
def check(settings: Settings, as_json: bool) -> None:
    """Name the grants of keys and roles that would be refused today, and how they are read.

    Run it before an upgrade, with the new version.
    """

    keys, roles = run(_documents(settings))
    found = [one for name, document in keys.items() for one in _of_key(name, document)]
    found += [one for name, document in roles.items() for one in _of_role(name, document)]
    wide = [name for name, document in keys.items() if _reaches_every_tenant(name, document)]
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


async def _documents(settings: Settings) -> Documents:
    from gateway.errors import NotFound
    from gateway.runtime.stored_keys import read_postgres, read_sqlite

    if settings.on_postgres:
        return await read_postgres(settings.store_url)
    path = settings.data / "keys.db"
    if not path.exists():
        raise NotFound(
            f"there are no keys in {settings.data}; name the folder of the gateway with --data",
            code="no_keys",
        )
    return read_sqlite(path)


def _of_key(key_id: str, document: bytes) -> list[dict[str, Any]]:
    from gateway.access.keys.unreadable import read_key

    remedy = "make a key with the grant mended, and revoke this one"
    key = read_key(key_id, document, b"", 0)
    if key.unreadable:
        return [_unreadable({"key": key_id}, key.unreadable)]
    return [
        {"key": key_id, "name": key.name, **one, "do": _remedy(one, remedy)}
        for one in _wrong(key.grants)
    ]


def _of_role(name: str, document: bytes) -> list[dict[str, Any]]:
    from gateway.access.keys.unreadable import read_role

    remedy = f"`audit-gateway roles put {name}` with the grant mended"
    role = read_role(name, document)
    if role.unreadable:
        return [_unreadable({"role": name}, role.unreadable)]
    return [{"role": name, **one, "do": _remedy(one, remedy)} for one in _wrong(role.grants)]


def _wrong(grants: Any) -> list[dict[str, Any]]:
    from gateway.access.grants.grant import check_patterns_together, defects_in
    from gateway.errors import InvalidRequest

    found = defects_in(grants)
    try:
        check_patterns_together(grants)
    except InvalidRequest as error:
        means = "all of it counts as before"
        found.append({"grant": "", "path": "grants", "reason": error.detail, "means": means})
    return found


def _remedy(found: dict[str, Any], remedy: str) -> str:
    """Remedy for a problem; actions without effect can wait."""
    only_actions = ".actions[" in found["path"]
    return f"nothing at once; when it is replaced, {remedy}" if only_actions else remedy


def _unreadable(whose: dict[str, str], why: str) -> dict[str, Any]:
    return {
        **whose, "grant": "", "path": "", "reason": f"cannot be read: {why}",
        "means": "it is not let in", "do": "make it anew, and delete this one",
    }  # fmt: skip


def _reaches_every_tenant(key_id: str, document: bytes) -> bool:
    """Whether one of the key's own grants allows reading without selecting tenants or resources."""
    from gateway.access.keys.unreadable import read_key
    from gateway.oversight.access_log.past_access import READING

    key = read_key(key_id, document, b"", 0)
    return (
        not key.unreadable
        and key.revoked_at is None
        and any(
            grant.effect == "allow"
            and not set(grant.actions).isdisjoint(READING)
            and not (grant.tenants or grant.resources)
            for grant in key.grants
        )
    )
