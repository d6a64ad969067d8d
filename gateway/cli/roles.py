"""`audit-gateway roles`: on the data folder, with or without the server running, or over HTTP."""

from __future__ import annotations

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import (
    echo_problems,
    grant_option,
    json_option,
    reason_option,
    refuse_whole_key,
)
from gateway.cli.base.terminal import say, say_json, say_row

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
@target_options
@json_option
def list_all(target: CommandTarget, as_json: bool) -> None:
    """List all roles, the predefined ones first."""
    shown = target.roles.all()
    if as_json:
        say_json({"roles": shown})
        return
    for role in shown:
        kind = "predefined" if role["builtin"] else "own"
        say_row(f"{role['name']:20}  {kind:10}  {role['description']}")
        echo_problems(role)


@roles.command()
@_name_argument
@target_options
@json_option
def show(name: str, target: CommandTarget, as_json: bool) -> None:
    """Show one role and its grants."""
    say_json(target.roles.show(name), None if as_json else 2)


@roles.command(epilog=_EXAMPLES)
@_name_argument
@click.option("--description", default="", help="What it is for.")
@grant_option
@reason_option
@target_options
@json_option
def put(
    name: str,
    description: str,
    grants: tuple[str, ...],
    reason: str,
    target: CommandTarget,
    as_json: bool,
) -> None:
    """Add a role, or replace the one of that name, in every key that has it."""
    from gateway.access.grants.grant import decode_grant_text

    parsed = list(map(decode_grant_text, grants))
    role = target.roles.put(name, {"description": description, "grants": parsed}, reason)
    if not grants:
        say("note: without --grant this role allows nothing", err=True)
    if as_json:
        say_json(role)
    else:
        say(f"role {name} is stored")
    if managed_by := role.get("managed_by"):
        say(
            f"note: this role is declared as {managed_by}: change it there, too, or the next "
            "`apply` undoes what differs",
            err=True,
        )


@roles.command()
@_name_argument
@reason_option
@target_options
def delete(name: str, reason: str, target: CommandTarget) -> None:
    """Delete a role, and take it out of the keys that have it, which are named.

    What the role denied or hid, these keys may do and see from now on.
    """
    having = target.roles.delete(name, reason)
    say(f"role {name} is deleted")
    if having:
        say(f"it was taken out of {len(having)} keys: {', '.join(having)}")
