"""`audit-gateway pseudonyms`: the secrets of pseudonyms, while gateways run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.base.key_folder import administer, json_option, run
from gateway.cli.base.options import settings_options
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.settings.declarations import Settings

_EXAMPLES = """\b
Examples:
  audit-gateway pseudonyms status
  audit-gateway pseudonyms rotate
  audit-gateway pseudonyms forget 1
"""


@click.group(epilog=_EXAMPLES)
def pseudonyms() -> None:
    """The secrets of pseudonyms, which stand in place of what grants pseudonymize.

    Each version holds for the events recorded from its beginning to the next one's. A
    forgotten one can never be had again: its pseudonyms cannot be reversed, and what they
    stood for is masked.
    """


@pseudonyms.command(epilog=_EXAMPLES)
@settings_options
@json_option
def status(settings: Settings, as_json: bool) -> None:
    """Show the versions of pseudonyms."""
    from gateway.clock import format_rfc3339

    versions = administer(settings, lambda admin: admin.pseudonym_versions())
    rows = [
        {
            "version": one.version,
            "begins": format_rfc3339(one.begins) if one.begins else None,
            "forgotten": one.forgotten,
            "pepper": one.pepper or None,
        }
        for one in versions
    ]
    if as_json:
        say_json({"versions": rows})
        return
    for row in rows:
        kept = "forgotten" if row["forgotten"] else f"under pepper {row['pepper']}"
        say(f"{row['version']:>4}  {row['begins'] or 'from the beginning':27}  {kept}")
    if not rows:
        say("there is no secret yet; the first grant that pseudonymizes has one made")


@pseudonyms.command(epilog=_EXAMPLES)
@settings_options
def rotate(settings: Settings) -> None:
    """Begin a new version for events recorded from some seconds on."""
    from gateway.clock import format_rfc3339

    recorded = run(_newest(settings))
    made = administer(settings, lambda admin: admin.rotate_pseudonyms(recorded), change=True)
    begins = format_rfc3339(made.begins) if made.begins else "the first event on"
    say(f"version {made.version} of pseudonyms holds from {begins}; back up the keys")


@pseudonyms.command(epilog=_EXAMPLES)
@click.argument("version", type=int)
@settings_options
def forget(version: int, settings: Settings) -> None:
    """Destroy the secret of a version that has ended, for good."""
    administer(settings, lambda admin: admin.forget_pseudonyms(version), change=True)
    say(f"version {version} of pseudonyms is forgotten, but in backups of the keys")


async def _newest(settings: Settings) -> int:
    """When the newest event was recorded; its time may be ahead of the clock, if that was set."""
    from gateway.cli.base.stores import log_to_read
    from gateway.log.newest import newest_recorded

    async with log_to_read(settings) as log:
        return await newest_recorded(log)
