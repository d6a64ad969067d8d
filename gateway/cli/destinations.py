"""`audit-gateway destinations`: works on the stores of the gateway, with or without it running."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from gateway.cli.base.key_folder import json_option, key_store, refuse_whole_key, run
from gateway.cli.base.operator import this_operator
from gateway.cli.base.options import settings_options
from gateway.cli.base.stores import log_to_read
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.delivery.administration import DestinationAdministration
    from gateway.delivery.answer import DestinationAnswer, TestAnswer
    from gateway.delivery.running.outlets import Outlets
    from gateway.log.ports import Log
    from gateway.settings.declarations import Settings
T = TypeVar("T")
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
_reason_option = click.option("--reason", default="", help="Why, for the record.")


class _Desk(NamedTuple):
    """What the commands work with."""

    admin: DestinationAdministration
    outlets: Outlets
    log: Log


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
@settings_options
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
    settings: Settings,
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

    async def work(desk: _Desk) -> DestinationAnswer:
        return await desk.admin.shown(await desk.admin.create(raw))

    made = _at_desk(settings, work, change=True)
    if as_json:
        say_json(made)
    else:
        say(f"destination {name} is made; it begins behind {made.cursor}")


@destinations.command("list")
@settings_options
@json_option
def list_all(settings: Settings, as_json: bool) -> None:
    """List all destinations with their state and lag."""

    async def work(desk: _Desk) -> list[DestinationAnswer]:
        return [await desk.admin.shown(one) for one in await desk.admin.all()]

    found = _at_desk(settings, work)
    if as_json:
        say_json({"destinations": found})
        return
    for one in found:
        reason = one.reason_code or (
            one.last_error.kind if one.state == "failing" and one.last_error else ""
        )
        say(f"{one.name:20}  {one.type:14}  {one.state:9}  {one.lag.events:>9} behind  {reason}")


@destinations.command()
@_name_argument
@settings_options
@json_option
def show(name: str, settings: Settings, as_json: bool) -> None:
    """Show one destination and its health."""

    async def work(desk: _Desk) -> DestinationAnswer:
        return await desk.admin.shown(await desk.admin.named(name))

    say_json(_at_desk(settings, work), None if as_json else 2)


@destinations.command()
@_name_argument
@settings_options
@json_option
def test(name: str, settings: Settings, as_json: bool) -> None:
    """Send one event that is not in the log, from this machine. Exit code 1 if it is not taken."""

    async def work(desk: _Desk) -> TestAnswer:
        destination = await desk.admin.named(name)
        return await desk.outlets.test(destination, desk.log)

    answer = _at_desk(settings, work)
    if as_json:
        say_json(answer)
    else:
        status = "" if answer.status is None else f" {answer.status}"
        say(f"{answer.result}{status} in {answer.took_ms} ms  {answer.message}".rstrip())
    if answer.result != "success":
        raise SystemExit(1)


@destinations.command()
@_name_argument
@_reason_option
@settings_options
def pause(name: str, reason: str, settings: Settings) -> None:
    """Stop a destination after the request that is under way; its position stays."""
    _at_desk(settings, lambda desk: desk.admin.pause(name, reason), change=True)
    say(f"destination {name} is paused")


@destinations.command()
@_name_argument
@_reason_option
@settings_options
def resume(name: str, reason: str, settings: Settings) -> None:
    """Have a paused or disabled destination go on from its position."""
    _at_desk(settings, lambda desk: desk.admin.resume(name, reason), change=True)
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
@_reason_option
@settings_options
def replay(
    name: str,
    start: str,
    to: str,
    letters: tuple[str, ...],
    cancel: bool,
    reason: str,
    settings: Settings,
) -> None:
    """Deliver a part of the log, or dead letters, a second time; the position stays."""
    from gateway.delivery.definition import ReplayBody

    if cancel:
        _at_desk(settings, lambda desk: desk.admin.cancel_replay(name), change=True)
        say(f"the replay of destination {name} is cancelled")
        return
    chosen: Any = "all" if letters == ("all",) else list(letters) or ""
    body = ReplayBody(start=start, to=to, dead_letters=chosen, reason=reason)
    _at_desk(settings, lambda desk: desk.admin.replay(name, body), change=True)
    say(f"destination {name} replays; `destinations show {name}` says how far it is")


@destinations.command("dead-letters")
@_name_argument
@click.option("--after", default="", help="Those behind this one.")
@click.option("--limit", default=100, type=click.IntRange(1, 10_000), show_default=True)
@settings_options
@json_option
def dead_letters(name: str, after: str, limit: int, settings: Settings, as_json: bool) -> None:
    """List pointers to the events that the receiver did not take."""
    from gateway.delivery.answer import public_dead_letter

    found = _at_desk(settings, lambda desk: desk.admin.dead_letters(name, after, limit))
    shown = list(map(public_dead_letter, found))
    if as_json:
        say_json({"dead_letters": shown})
        return
    for one in shown:
        say(f"{one.id}  {one.tenant}  {one.event}  {one.reason}")


@destinations.command("set-secret")
@_name_argument
@click.argument("secret", metavar="SECRET")
@click.option("--overlap", default="0s", help="For how long the old value counts, too.")
@settings_options
def set_secret(name: str, secret: str, overlap: str, settings: Settings) -> None:
    """Set or rotate a secret, whose value is asked for."""
    value = _asked(secret)
    _at_desk(
        settings, lambda desk: desk.admin.set_secret(name, secret, value, overlap), change=True
    )
    say(f"secret {secret} of {name} is set")


@destinations.command()
@_name_argument
@settings_options
def delete(name: str, settings: Settings) -> None:
    """Delete a destination with its position, secrets and dead letters."""
    _at_desk(settings, lambda desk: desk.admin.delete(name), change=True)
    say(f"destination {name} is deleted")


def _at_desk(
    settings: Settings, work: Callable[[_Desk], Awaitable[T]], *, change: bool = False
) -> T:
    """Result of work on destinations. Without `change` it is recorded as a look at keys."""

    async def worked() -> T:
        async with _desk(settings, change) as desk:
            return await work(desk)

    return run(worked())


@asynccontextmanager
async def _desk(settings: Settings, change: bool) -> AsyncIterator[_Desk]:
    from gateway.access.administration.caller import CommandLine
    from gateway.access.credentials.pepper import Pepper
    from gateway.adapters.files.agreement import agree_on_pepper
    from gateway.adapters.files.folder import DataFolder
    from gateway.delivery.administration import DestinationAdministration, Stores
    from gateway.delivery.connect.lookup import Lookups
    from gateway.delivery.running.outlets import Outlets
    from gateway.runtime.declared import declare
    from gateway.runtime.outlets import outlet_types
    from gateway.runtime.stores import open_consumers, open_destinations

    async with AsyncExitStack() as stack:
        keys, clock = await stack.enter_async_context(key_store(settings, change=change))
        log = await stack.enter_async_context(log_to_read(settings))
        consumers = await open_consumers(settings)
        stack.push_async_callback(consumers.close)
        store = await open_destinations(settings)
        stack.push_async_callback(store.close)
        lookups = Lookups()
        stack.callback(lookups.close)
        peppers = DataFolder.of(settings).peppers
        types = outlet_types(settings, clock, lookups)
        outlets = Outlets(types, peppers.newest, clock)
        declare(settings, outlets, clock)

        async def pepper() -> Pepper:
            return (await agree_on_pepper(peppers, keys, clock.now())).current

        admin = DestinationAdministration(
            CommandLine(this_operator()), Stores(store, consumers, keys, log), clock, pepper,
            outlets.check_type,
        )  # fmt: skip
        yield _Desk(admin, outlets, log)


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
