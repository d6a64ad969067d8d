"""`audit-gateway keys`: on the data folder, with or without the server running, or over HTTP."""

from __future__ import annotations

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import (
    echo_problems,
    grant_option,
    json_option,
    key_argument,
    limit_option,
    reason_option,
    role_option,
)
from gateway.cli.base.options import rotation_options
from gateway.cli.base.terminal import naming_lost, require_output, say, say_json, say_row
from gateway.cli.keys import break_glass as keys_break_glass
from gateway.cli.keys import changes as keys_changes
from gateway.cli.keys import check as keys_check
from gateway.cli.keys import explain as keys_explain
from gateway.cli.keys import history as keys_history
from gateway.cli.keys import review as keys_review
from gateway.cli.keys import usage as keys_usage

_EXAMPLES = """\b
Examples:
  audit-gateway keys create --name siem --purpose "SIEM forwarder" --owner sec-team --expires 30d \\
      --grant '{"actions":["stream"],"categories":["auth.*"],"tenants":["acme"]}'
  audit-gateway keys create --name shop --purpose "events of the shop" --owner shop-team \\
      --role producer
  audit-gateway keys list
  audit-gateway keys document 4fK2mQ9sLx0a
  audit-gateway keys rotate 4fK2mQ9sLx0a --overlap 1d
  audit-gateway keys revoke 4fK2mQ9sLx0a --reason "left the project"
"""


@click.group(epilog=_EXAMPLES)
def keys() -> None:
    """Make, look at, change and end provisioning keys."""


for _command in (
    keys_changes.change, keys_changes.rotate, keys_changes.confirm, keys_changes.suspend,
    keys_changes.resume, keys_changes.revoke,
    keys_review.document, keys_explain.explain_access, keys_review.simulate, keys_history.history,
    keys_usage.usage, keys_check.check, keys_break_glass.break_glass,
):  # fmt: skip
    keys.add_command(_command)


@keys.command(epilog=_EXAMPLES)
@target_options
@click.option("--name", required=True, help="What to call it.")
@click.option("--purpose", required=True, help="The one thing it is for.")
@click.option("--owner", help="Who answers for it.  [default: the user who runs the command]")
@grant_option
@role_option
@limit_option
@click.option("--expires", help="How long it lives, such as 30d.  [default: keys.default_life]")
@click.option(
    "--pseudonym-domain", "domain", help="Keys with the same name of a domain share pseudonyms."
)
@rotation_options
@click.option(
    "--copy-of",
    help="Id of a key whose grants, roles, limits and rotation it gets where none are given.",
)
@reason_option
@json_option
def create(
    target: CommandTarget,
    name: str,
    purpose: str,
    owner: str | None,
    grants: tuple[str, ...],
    roles: tuple[str, ...],
    limits: tuple[str, ...],
    expires: str | None,
    domain: str | None,
    rotate: dict[str, str],
    copy_of: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Make a key and print it; it is not shown again."""
    from gateway.access.grants.grant import decode_grant_text
    from gateway.access.keys.key_limits import parse_limit_texts

    require_output()
    body = {
        "name": name, "purpose": purpose, "owner": _user() if owner is None else owner,
        # An empty text comes from an empty variable; it does not ask for the default.
        **({} if expires is None else {"expires_in": expires}),
        **({} if domain is None else {"pseudonym_domain": domain}),
        **({"grants": list(map(decode_grant_text, grants))} if grants else {}),
        **({"roles": list(roles)} if roles else {}),
        **({"limits": parse_limit_texts(limits).public()} if limits else {}),
        **({"rotate": rotate} if rotate else {}),
        **({} if copy_of is None else {"copy_of": copy_of}),
    }  # fmt: skip
    made = target.keys.create(body, reason)
    with naming_lost(made["id"]):
        if as_json:
            say_json(made)
        else:
            about = f"id {made['id']}, owner {made['owner']}, expires {made['expires_at']}"
            say(made["key"], f"({about}; not shown again)")
    if not made["grants"] and not made.get("roles"):
        say("note: without --grant or --role this key is allowed nothing", err=True)


def _user() -> str:
    """Name of the user who runs the command or, if unknown, its number."""
    import getpass
    import os

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


@keys.command("list")
@target_options
@json_option
def list_all(target: CommandTarget, as_json: bool) -> None:
    """List all keys."""
    shown = target.keys.all()
    if as_json:
        say_json({"keys": shown})
        return
    for key in shown:
        line = f"{key['id']}  {key['state']:8}  {key['expires_at'][:10]}  {key['name']}"
        maker = f", made by {key['created_by']}" if key.get("created_by") else ""
        say_row(f"{line}  ({key['purpose']}{maker})")
        echo_problems(key)


@keys.command()
@key_argument
@target_options
@json_option
def show(key_id: str, target: CommandTarget, as_json: bool) -> None:
    """Show one key: everything but its secret."""
    say_json(target.keys.show(key_id), None if as_json else 2)
