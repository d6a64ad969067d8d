"""`audit-gateway roles`: works on the data folder, with or without the server running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.base.key_folder import (
    administer,
    echo_problems,
    grant_option,
    json_option,
    refuse_whole_key,
)
from gateway.cli.base.options import settings_options
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.settings.declarations import Settings

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
@settings_options
@json_option
def list_all(settings: Settings, as_json: bool) -> None:
    """List all roles, the predefined ones first."""
    roles = administer(settings, lambda admin: admin.all_roles())
    shown = [role.public() for role in roles.values()]
    if as_json:
        say_json({"roles": shown})
        return
    for role in shown:
        kind = "predefined" if role.builtin else "own"
        say(f"{role.name:20}  {kind:10}  {role.description}")
        echo_problems(role)


@roles.command()
@_name_argument
@settings_options
@json_option
def show(name: str, settings: Settings, as_json: bool) -> None:
    """Show one role and its grants."""
    role = administer(settings, lambda admin: admin.role(name))
    say_json(role.public(), None if as_json else 2)


@roles.command(epilog=_EXAMPLES)
@_name_argument
@click.option("--description", default="", help="What it is for.")
@grant_option
@settings_options
@json_option
def put(
    name: str, description: str, grants: tuple[str, ...], settings: Settings, as_json: bool
) -> None:
    """Add a role, or replace the one of that name, in every key that has it."""
    from gateway.access.grants.grant import decode_grant_text
    from gateway.access.grants.role import parse_role

    parsed = list(map(decode_grant_text, grants))
    role = parse_role(name, {"description": description, "grants": parsed})
    administer(settings, lambda admin: admin.put_role(role), make=True, change=True)
    if not grants:
        say("note: without --grant this role allows nothing", err=True)
    if as_json:
        say_json(role.public())
    else:
        say(f"role {name} is stored")


@roles.command()
@_name_argument
@settings_options
def delete(name: str, settings: Settings) -> None:
    """Delete a role, and take it out of the keys that have it, which are named.

    What the role denied or hid, these keys may do and see from now on.
    """
    having = administer(settings, lambda admin: admin.delete_role(name), change=True)
    say(f"role {name} is deleted")
    if having:
        say(f"it was taken out of {len(having)} keys: {', '.join(having)}")
