"""`audit-gateway roles`: works on the data folder, with or without the server running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.key_folder import (
    data_option,
    echo_problems,
    grant_option,
    json_option,
    key_store,
    refuse_whole_key,
    run,
    settings_of,
)
from gateway.cli.base.operator import this_operator
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.access.grants.role import Role
    from gateway.access.keys.key_store import KeyStore
    from gateway.errors import GatewayError

_EXAMPLES = """\b
Examples:
  audit-gateway roles list
  audit-gateway roles put pay-team --description "The payments team" \\
      --grant '{"actions":["stream","pull"],"categories":["**"],"resources":["k8s:prod/ns/pay/**"]}'
  audit-gateway keys create --name pay --purpose "on-call screen" --role pay-team
"""

_name_argument = click.argument("name", metavar="NAME", callback=refuse_whole_key)


@click.group(epilog=_EXAMPLES)
def roles() -> None:
    """Named lists of grants, which keys can have. A change reaches live streams at once."""


@roles.command("list")
@data_option
@json_option
def list_all(data: str | None, as_json: bool) -> None:
    """List all roles, the predefined ones first."""

    async def work() -> list[dict[str, Any]]:
        async with key_store(settings_of(data)) as (store, _, _now):
            return [role.public() for role in (await _all(store)).values()]

    shown = run(work())
    if as_json:
        say_json({"roles": shown})
        return
    for role in shown:
        kind = "predefined" if role["builtin"] else "own"
        say(f"{role['name']:20}  {kind:10}  {role['description']}")
        echo_problems(role)


@roles.command()
@_name_argument
@data_option
@json_option
def show(name: str, data: str | None, as_json: bool) -> None:
    """Show one role and its grants."""

    async def work() -> dict[str, Any]:
        async with key_store(settings_of(data)) as (store, _, _now):
            role = (await _all(store)).get(name)
            if role is None:
                raise _unknown(name)
            return role.public()

    shown = run(work())
    say_json(shown, None if as_json else 2)


@roles.command(epilog=_EXAMPLES)
@_name_argument
@click.option("--description", default="", help="What it is for.")
@grant_option
@data_option
@json_option
def put(
    name: str, description: str, grants: tuple[str, ...], data: str | None, as_json: bool
) -> None:
    """Add a role, or replace the one of that name, in every key that has it."""
    import msgspec

    from gateway.access.grants.grant import parse_grant_texts
    from gateway.access.grants.role import parse_role

    parsed = [msgspec.to_builtins(grant) for grant in parse_grant_texts(grants)]
    role = parse_role(name, {"description": description, "grants": parsed})

    async def work() -> None:
        async with key_store(settings_of(data), make=True, change=True) as (store, _, now):
            await store.put_role(role, this_operator(), now)

    run(work())
    if not grants:
        say("note: without --grant this role allows nothing", err=True)
    if as_json:
        say_json(role.public())
    else:
        say(f"role {name} is stored")


@roles.command()
@_name_argument
@data_option
def delete(name: str, data: str | None) -> None:
    """Delete a role, and take it out of the keys that have it, which are named.

    What the role denied or hid, these keys may do and see from now on.
    """
    from gateway.access.grants.role import BUILTIN
    from gateway.errors import Conflict

    if name in BUILTIN:
        raise Conflict(f"the role {name} is predefined and stays", code="predefined_role")

    async def work() -> list[str] | None:
        async with key_store(settings_of(data), change=True) as (store, _, now):
            return await store.delete_role(name, this_operator(), now)

    having = run(work())
    if having is None:
        raise _unknown(name)
    say(f"role {name} is deleted")
    if having:
        say(f"it was taken out of {len(having)} keys: {', '.join(having)}")


async def _all(store: KeyStore) -> dict[str, Role]:
    from gateway.access.grants.role import BUILTIN

    return {**BUILTIN, **await store.roles()}


def _unknown(name: str) -> GatewayError:
    from gateway.errors import NotFound

    return NotFound(f"there is no role {name[:64]!r}; `audit-gateway roles list` shows all")
