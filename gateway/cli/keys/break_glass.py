"""`audit-gateway keys break-glass`: a key for an emergency, when nobody can sign in otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.base.key_folder import administer, json_option
from gateway.cli.base.operator import this_operator
from gateway.cli.base.options import settings_options
from gateway.cli.base.terminal import naming_lost, require_output, say, say_json

if TYPE_CHECKING:
    from gateway.settings.declarations import Settings

_USUAL = ("key-admin", "on-call")


@click.command("break-glass")
@click.option("--reason", required=True, help="Why; it is the purpose of the key.")
@click.option(
    "--role", "roles", multiple=True, default=_USUAL, show_default=True,
    help="A role by name; may be repeated.",
)  # fmt: skip
@click.option("--expires", default="4h", show_default=True, help="How long it lives, at most 4h.")
@settings_options
@json_option
def break_glass(
    reason: str, roles: tuple[str, ...], expires: str, settings: Settings, as_json: bool
) -> None:
    """Make a key for an emergency and print it; it is not shown again.

    It needs no identity provider, and no other key. It is a finding at once, pages of the console
    say that it exists, and it ends by itself.
    """
    from gateway.access.keys.issuance import break_glass_request

    require_output()
    operator = this_operator()
    request = break_glass_request(reason, operator.sudo_user or operator.user, roles, expires)
    issued = administer(settings, lambda admin: admin.create(request), change=True)
    key, token, shown = issued.key, issued.token, issued.public()
    with naming_lost(key.id):
        if as_json:
            say_json(shown)
        else:
            say(token, f"(id {key.id}, expires {shown.expires_at}; not shown again)")
