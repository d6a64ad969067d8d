"""`audit-gateway streams`: live streams of a running gateway."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option, reason_option, refuse_whole_key
from gateway.cli.base.terminal import say, say_json, say_table

_EXAMPLES = """\b
Examples:
  audit-gateway streams list --url https://audit.example.org --order lag
  audit-gateway streams list --profile prod --state stalled
  audit-gateway streams end 1f0a55b2 --profile prod --reason "reads nothing since Monday"
"""
_COLUMNS = (
    "ID", "KEY", "NAME", "TRANSPORT", "ADDRESS", "WHERE", "SINCE", "STATE", "BEHIND", "SENT",
)  # fmt: skip


@click.group(epilog=_EXAMPLES)
def streams() -> None:
    """Live streams of all processes of a running gateway (--url, --profile)."""


@streams.command("list", epilog=_EXAMPLES)
@click.option("--key", "key_id", callback=refuse_whole_key, help="Only of this key, by its id.")
@click.option("--tenant", help="Only those that may be sent events of this tenant.")
@click.option("--transport", help="Only of this transport, such as sse.")
@click.option("--state", type=click.Choice(["live", "replaying", "stalled"]), help="Only these.")
@click.option("--replica", help="Only of this replica.")
@click.option(
    "--order", type=click.Choice(["lag", "opened", "bytes"]), default="lag", show_default=True,
    help="Most events behind, longest open, or most bytes sent first.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@target_options
@json_option
def list_all(
    limit: int, target: CommandTarget, as_json: bool, key_id: str | None, **query: str | None
) -> None:
    """List live streams. Without `ops.read` those of the asking key."""
    query["key"] = key_id
    asked = {name: value for name, value in query.items() if value is not None}
    found = target.streams.all({**asked, "limit": str(limit)})
    if as_json:
        say_json(found)
        return
    if found["streams"]:
        say_table(_COLUMNS, [_row(one) for one in found["streams"]])
    shown = len(found["streams"])
    if shown < found["total"]:
        say(f"{shown} of {found['total']} streams; --limit shows more")
    elif not shown:
        say("no streams")
    if found["partial"]:
        say(f"note: no answer from {', '.join(found['missing'])}", err=True)


@streams.command()
@click.argument("stream_id", metavar="ID")
@reason_option
@target_options
@json_option
def end(stream_id: str, reason: str, target: CommandTarget, as_json: bool) -> None:
    """End a live stream; its client comes back after a pause.

    To keep somebody out, suspend the key.
    """
    ended = target.streams.end(stream_id, reason)
    if as_json:
        say_json(ended)
    else:
        say(f"stream {ended['id']} of key {ended['key']} ({ended['name']}) is ended")


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    place = f"{one['replica']}/{one['worker']}"
    return (
        one["id"], one["key"], one["name"], one["transport"], one["address"] or "-", place,
        f"{one['opened_at'][:19]}Z", one["state"], one["lag_events"], one["sent_events"],
    )  # fmt: skip
