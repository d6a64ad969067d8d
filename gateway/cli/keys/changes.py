"""`audit-gateway keys change`, `break-glass`, `rotate`, `suspend`, `resume` and `revoke`.

A running gateway applies a change, also to live streams, within a fraction of a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import (
    grant_option,
    json_option,
    key_argument,
    limit_option,
    reason_option,
    role_option,
)
from gateway.cli.base.options import rotation_options
from gateway.cli.base.terminal import naming_lost, require_output, say, say_json
from gateway.cli.keys.declared_rotation import rotate_declared
from gateway.cli.keys.placed_rotation import is_due, newest_key, rotate_into
from gateway.cli.secrets.secret_sink import SecretSink, place_of

# Names of files of declarations end so.
_DECLARED = (".toml", ".json", ".yaml", ".yml")


@click.command()
@key_argument
@click.option("--overlap", help="How long both keys work.  [default: that of its schedule, or 1h]")
@click.option("--hold", is_flag=True, help="Let the overlap begin once the new key is confirmed.")
@click.option("--due", is_flag=True, help="Only if its schedule says so; needs a place.")
@click.option(
    "--secret-file", type=click.Path(path_type=Path, dir_okay=False),
    help="Put the new key into this file, and confirm it.",
)  # fmt: skip
@click.option("--secret-mode", default="0600", show_default=True, help="Mode of that file.")
@click.option(
    "--secret-command", help="Give the new key to this command on its standard input instead."
)
@reason_option
@target_options
@json_option
def rotate(
    key_id: str,
    overlap: str | None,
    hold: bool,
    due: bool,
    secret_file: Path | None,
    secret_mode: str,
    secret_command: str | None,
    reason: str,
    target: CommandTarget,
    as_json: bool,
) -> None:
    """Replace a key by a new one with the same rights, and print that; it is not shown again.

    The old key drains: it goes on for as long as the overlap, or until the new one is in use
    and it has been idle for a while. Its streams stay open until then.

    With --due and a file of declarations in place of KID, all its keys that are due are rotated
    into the places that it declares.
    """
    place = place_of(secret_file, secret_mode, secret_command)
    if due and Path(key_id).suffix in _DECLARED:
        if hold or place is not None or overlap is not None:
            raise click.UsageError("a file says itself how its keys are rotated, and into what")
        rotate_declared(target, Path(key_id), reason, as_json=as_json)
        return
    if place is not None:
        if hold:
            raise click.UsageError("a secret that is placed is confirmed; leave out --hold")
        _rotate_into(target, key_id, overlap, place, reason, due=due, as_json=as_json)
        return
    if due:
        raise click.UsageError(
            "--due is for timers: say by --secret-file or --secret-command where the secret goes"
        )
    require_output()
    made = target.keys.rotate(key_id, overlap, reason, hold=hold)
    with naming_lost(made["id"]):
        if as_json:
            say_json(made)
            return
        say(made["key"], f"(id {made['id']}, expires {made['expires_at']}; not shown again)")


def _rotate_into(
    target: CommandTarget,
    key_id: str,
    overlap: str | None,
    place: SecretSink,
    reason: str,
    *,
    due: bool,
    as_json: bool,
) -> None:
    from gateway.clock import SystemClock

    shown = newest_key(target.keys, key_id)
    if due and not is_due(shown, SystemClock().now()):
        by = shown.get("rotate_by", "never")
        if as_json:
            say_json({"rotated": []})
        else:
            say(f"{shown['id']} is not due: {by}")
        return
    done = rotate_into(target.keys, shown, overlap, place, reason)
    if as_json:
        say_json({"rotated": [done._asdict()]})
    else:
        say(f"{done.key} is rotated: the secret of {done.successor} is in its place")


@click.command()
@key_argument
@reason_option
@target_options
@json_option
def confirm(key_id: str, reason: str, target: CommandTarget, as_json: bool) -> None:
    """Confirm that the secret of a successor is where it is used; the old key drains.

    Given is the successor, or the key that it is to replace. Its first use confirms it, too; one
    that nobody confirms within an hour is revoked.
    """
    _say_change(target.keys.confirm(key_id, reason), as_json)


@click.command()
@key_argument
@click.option("--name", help="What to call it.")
@click.option("--purpose", help="The one thing it is for.")
@click.option("--owner", help="Who answers for it.")
@grant_option
@role_option
@limit_option
@click.option(
    "--expires", "--expires-in", "expires_in", help="How long it lives from now, such as 30d."
)
@rotation_options
@click.option(
    "--without", multiple=True, type=click.Choice(["grants", "roles", "limits", "rotate"]),
    help="Take all of these away; may be repeated.",
)  # fmt: skip
@reason_option
@target_options
@json_option
def change(
    key_id: str,
    grants: tuple[str, ...],
    roles: tuple[str, ...],
    limits: tuple[str, ...],
    rotate: dict[str, str],
    without: tuple[str, ...],
    reason: str,
    target: CommandTarget,
    as_json: bool,
    **texts: str | None,
) -> None:
    """Change what a key is for and what it may do; what is not named stays as it is.

    Given are all grants, or all roles, that it has then. Its live streams narrow or end within a
    second. `keys simulate` says before what that would do.
    """
    from gateway.access.grants.grant import decode_grant_text
    from gateway.access.keys.key_limits import parse_limit_texts
    from gateway.errors import InvalidRequest

    patch: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    given = {
        "grants": list(map(decode_grant_text, grants)), "roles": list(roles),
        "limits": parse_limit_texts(limits).public(), "rotate": rotate,
    }  # fmt: skip
    patch |= {name: value for name, value in given.items() if value}
    if both := sorted(set(patch) & set(without)):
        raise InvalidRequest(f"{both[0]} is given and taken away; do one of both")
    if not patch and not without:
        raise InvalidRequest("say what to change, such as --owner, --grant or --expires-in")
    _say_change(target.keys.change(key_id, {**patch, **dict.fromkeys(without)}, reason), as_json)


@click.command()
@key_argument
@reason_option
@target_options
@json_option
def suspend(key_id: str, reason: str, target: CommandTarget, as_json: bool) -> None:
    """Suspend a key until it is resumed; its live streams end within a second."""
    _say_change(target.keys.suspend(key_id, reason), as_json)


@click.command()
@key_argument
@reason_option
@target_options
@json_option
def resume(key_id: str, reason: str, target: CommandTarget, as_json: bool) -> None:
    """End a suspension."""
    _say_change(target.keys.resume(key_id, reason), as_json)


@click.command()
@key_argument
@reason_option
@click.option(
    "--with-descendants", is_flag=True,
    help="Also all keys that it has made, and those that they have made, and so on.",
)  # fmt: skip
@target_options
@json_option
def revoke(
    key_id: str, reason: str, with_descendants: bool, target: CommandTarget, as_json: bool
) -> None:
    """Revoke a key for good; its live streams end within a second.

    Keys that it has made live on, unless told otherwise; they are named.
    """
    shown = target.keys.revoke(key_id, reason, with_descendants=with_descendants)
    ended = shown.get("revoked_descendants")
    left = shown.get("living_descendants")
    if as_json:
        say_json(shown)
        return
    say(f"{key_id} is {shown['state']}")
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


def _say_change(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say_json(shown)
    else:
        say(f"{shown['id']} is {shown['state']}")
    if managed_by := shown.get("managed_by"):
        say(
            f"note: this key is declared as {managed_by}: change it there, too, or the next "
            "`apply` undoes what differs",
            err=True,
        )
