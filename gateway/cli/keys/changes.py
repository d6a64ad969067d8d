"""`audit-gateway keys break-glass`, `rotate`, `suspend`, `resume` and `revoke`.

A running gateway applies a change, also to live streams, within a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from gateway.cli.base.key_folder import administer, json_option, key_argument
from gateway.cli.base.options import settings_options
from gateway.cli.base.terminal import naming_lost, require_output, say, say_json

if TYPE_CHECKING:
    from gateway.access.administration.administration import Administration
    from gateway.access.keys.key import Key, KeyAnswer
    from gateway.settings.declarations import Settings

reason_option = click.option("--reason", default="", help="Why; kept with the key.")


@click.command()
@key_argument
@click.option("--overlap", help="How long both keys work.  [default: that of its schedule, or 1h]")
@settings_options
@json_option
def rotate(key_id: str, overlap: str | None, settings: Settings, as_json: bool) -> None:
    """Replace a key by a new one with the same rights, and print that; it is not shown again.

    The old key drains: it goes on for as long as the overlap, or until the new one is in use
    and it has been idle for a while. Its streams stay open until then.
    """
    require_output()
    issued = administer(settings, lambda admin: admin.rotate(key_id, overlap), change=True)
    key, token, shown = issued.key, issued.token, issued.public()
    with naming_lost(key.id):
        if as_json:
            say_json(shown)
            return
        say(token, f"(id {key.id}, expires {shown.expires_at}; not shown again)")


@click.command()
@key_argument
@reason_option
@settings_options
@json_option
def suspend(key_id: str, reason: str, settings: Settings, as_json: bool) -> None:
    """Suspend a key until it is resumed; its live streams end within a second."""
    _change(key_id, settings, as_json, lambda admin: admin.suspend(key_id, reason))


@click.command()
@key_argument
@settings_options
@json_option
def resume(key_id: str, settings: Settings, as_json: bool) -> None:
    """End a suspension."""
    _change(key_id, settings, as_json, lambda admin: admin.resume(key_id))


@click.command()
@key_argument
@reason_option
@click.option(
    "--with-descendants", is_flag=True,
    help="Also all keys that it has made, and those that they have made, and so on.",
)  # fmt: skip
@settings_options
@json_option
def revoke(
    key_id: str, reason: str, with_descendants: bool, settings: Settings, as_json: bool
) -> None:
    """Revoke a key for good; its live streams end within a second.

    Keys that it has made live on, unless told otherwise; they are named.
    """
    revocation = administer(
        settings,
        lambda admin: admin.revoke(key_id, reason, with_descendants=with_descendants),
        change=True,
    )
    shown, ended, left = revocation.public(), revocation.descendants, revocation.living
    if as_json:
        say_json(shown)
        return
    say(f"{key_id} is {shown.state}")
    if ended:
        say(f"with it {len(ended)} keys that came of it: {', '.join(ended)}")
    if left:
        how = (
            "this version cannot read them, so that they may do nothing here, or they were made "
            "at the same moment"
            if with_descendants
            else f"to revoke them, too, run `audit-gateway keys revoke {key_id} --with-descendants`"
        )
        say(f"{len(left)} keys that came of it live on: {', '.join(left)}; {how}")


def _change(
    key_id: str,
    settings: Settings,
    as_json: bool,
    change: Callable[[Administration], Awaitable[Key]],
) -> None:
    async def work(admin: Administration) -> KeyAnswer:
        return (await change(admin)).public(admin.now())

    shown = administer(settings, work, change=True)
    if as_json:
        say_json(shown)
    else:
        say(f"{key_id} is {shown.state}")
