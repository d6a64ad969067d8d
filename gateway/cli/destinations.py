"""`audit-gateway destinations`: on the stores of the gateway, with or without it running, or over
its HTTP interface."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option, reason_option, refuse_whole_key
from gateway.cli.base.terminal import say, say_json, say_row

_EXAMPLES = """\b
Examples:
  audit-gateway destinations create siem --type http --key 7kQ2mZ0aB1cD \\
      --set url=https://siem.example.org/in --secret token
  audit-gateway destinations test siem
  audit-gateway destinations list

\b
The value of a secret is asked for, or read as a line of standard input: arguments are seen in
process lists. A running gateway heeds a change within a second.
"""
_name_argument = click.argument("name", metavar="NAME", callback=refuse_whole_key)


@click.group(epilog=_EXAMPLES)
def destinations() -> None:
    """Outside systems that the gateway delivers events to."""


@destinations.command(epilog=_EXAMPLES)
@_name_argument
@click.option("--type", "kind", required=True, help="The type of the receiver, such as http.")
@click.option(
    "--key",
    "key_id",
    required=True,
    callback=refuse_whole_key,
    help="The id of the key whose events are delivered.",
)
@click.option(
    "--set",
    "chosen",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the type, such as url=https://..; may be repeated.",
)
@click.option("--select", default="{}", help="Selectors and filter as JSON.")
@click.option("--from", "start", default="now", help="now, start, a cursor, a time or a duration.")
@click.option(
    "--with",
    "members",
    default="{}",
    metavar="JSON",
    help='Other members, such as {"batch":{"max_events":100}}.',
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="A secret, whose value is asked for; may be repeated.",
)
@reason_option
@target_options
@json_option
def create(
    name: str,
    kind: str,
    key_id: str,
    chosen: tuple[str, ...],
    select: str,
    start: str,
    members: str,
    secrets: tuple[str, ...],
    reason: str,
    target: CommandTarget,
    as_json: bool,
) -> None:
    """Make a destination, which begins to deliver what its key may see."""
    raw = {
        **_object(members, "--with"),
        "name": name,
        "type": kind,
        "key": key_id,
        "select": _object(select, "--select"),
        "from": start,
        "settings": dict(map(_setting, chosen)),
        "secrets": {one: _asked(one) for one in secrets},
    }

    made = target.destinations.create(raw, reason)
    if as_json:
        say_json(made)
    else:
        say(f"destination {name} is made; it begins behind {made['cursor']}")


@destinations.command("list")
@target_options
@json_option
def list_all(target: CommandTarget, as_json: bool) -> None:
    """List all destinations with their state and lag."""

    found = target.destinations.all()
    if as_json:
        say_json({"destinations": found})
        return
    for one in found:
        error = one.get("last_error")
        failing = error["kind"] if error and one["state"] == "failing" else ""
        lag = f"{one['lag']['events']:>9} behind"
        reason = one.get("reason_code") or failing
        say_row(f"{one['name']:20}  {one['type']:14}  {one['state']:9}  {lag}  {reason}")


@destinations.command()
@_name_argument
@target_options
@json_option
def show(name: str, target: CommandTarget, as_json: bool) -> None:
    """Show one destination and its health."""
    say_json(target.destinations.show(name), None if as_json else 2)


@destinations.command()
@_name_argument
@target_options
@json_option
def test(name: str, target: CommandTarget, as_json: bool) -> None:
    """Send one event that is not in the log. Exit code 1 if it is not taken.

    It goes from this machine or, with --url, from the gateway.
    """
    answer = target.destinations.test(name)
    if as_json:
        say_json(answer)
    else:
        status = "" if answer["status"] is None else f" {answer['status']}"
        told = f"{answer['result']}{status} in {answer['took_ms']} ms  {answer['message']}"
        say(told.rstrip())
    if answer["result"] != "success":
        raise SystemExit(1)


@destinations.command()
@_name_argument
@reason_option
@target_options
def pause(name: str, reason: str, target: CommandTarget) -> None:
    """Stop a destination after the request that is under way; its position stays."""
    target.destinations.pause(name, reason)
    say(f"destination {name} is paused")


@destinations.command()
@_name_argument
@reason_option
@target_options
def resume(name: str, reason: str, target: CommandTarget) -> None:
    """Have a paused or disabled destination go on from its position."""
    target.destinations.resume(name, reason)
    say(f"destination {name} goes on")


@destinations.command()
@_name_argument
@click.option("--from", "start", default="", help="start, a cursor, a time or a duration.")
@click.option("--to", default="now", show_default=True, help="The end, as --from.")
@click.option(
    "--dead-letters",
    "letters",
    multiple=True,
    metavar="ID",
    help="A dead letter by its id, or all; may be repeated.",
)
@click.option("--cancel", is_flag=True, help="End the one that goes on, instead.")
@reason_option
@target_options
def replay(
    name: str,
    start: str,
    to: str,
    letters: tuple[str, ...],
    cancel: bool,
    reason: str,
    target: CommandTarget,
) -> None:
    """Deliver a part of the log, or dead letters, a second time; the position stays."""
    if cancel:
        target.destinations.cancel_replay(name, reason)
        say(f"the replay of destination {name} is cancelled")
        return
    chosen: Any = "all" if letters == ("all",) else list(letters) or ""
    body = {"from": start, "to": to, "dead_letters": chosen, "reason": reason}
    target.destinations.replay(name, body)
    say(f"destination {name} replays; `destinations show {name}` says how far it is")


@destinations.command("dead-letters")
@_name_argument
@click.option("--after", default="", help="Those behind this one.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@target_options
@json_option
def dead_letters(name: str, after: str, limit: int, target: CommandTarget, as_json: bool) -> None:
    """List pointers to the events that the receiver did not take."""
    found = target.destinations.dead_letters(name, after, limit)
    if as_json:
        say_json({"dead_letters": found})
        return
    for one in found:
        say_row(f"{one['id']}  {one['tenant']}  {one['event']}  {one['reason']}")


@destinations.command("set-secret")
@_name_argument
@click.argument("secret", metavar="SECRET")
@click.option("--overlap", default="0s", help="For how long the old value counts, too.")
@reason_option
@target_options
def set_secret(name: str, secret: str, overlap: str, reason: str, target: CommandTarget) -> None:
    """Set or rotate a secret, whose value is asked for."""
    body = {"value": _asked(secret), "overlap": overlap}
    target.destinations.set_secret(name, secret, body, reason)
    say(f"secret {secret} of {name} is set")


@destinations.command()
@_name_argument
@reason_option
@target_options
def delete(name: str, reason: str, target: CommandTarget) -> None:
    """Delete a destination with its position, secrets and dead letters."""
    target.destinations.delete(name, reason)
    say(f"destination {name} is deleted")


def _object(text: str, option: str) -> dict[str, Any]:
    """Object of an option from its JSON."""
    import orjson

    from gateway.errors import InvalidRequest

    try:
        found = orjson.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{option}: it must be JSON: {error}") from None
    if not isinstance(found, dict):
        raise InvalidRequest(f"{option}: a JSON object is needed")
    return found


def _setting(text: str) -> tuple[str, Any]:
    """Name and value of a setting; a value that is JSON counts as that."""
    import orjson

    from gateway.errors import InvalidRequest

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidRequest(f"--set {text[:64]}: write it like url=https://siem.example.org")
    try:
        return name, orjson.loads(value)
    except ValueError:
        return name, value


def _asked(name: str) -> str:
    """Value of a secret from the terminal, unseen, or else a line of standard input."""
    import sys

    from gateway.errors import InvalidRequest

    if sys.stdin.isatty():
        value: str = click.prompt(name, hide_input=True, err=True)
    else:
        value = sys.stdin.readline().rstrip("\r\n")
    if not value:
        raise InvalidRequest(
            f"{name}: give its value at the prompt, or as a line of standard input"
        )
    return value
