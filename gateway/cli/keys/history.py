"""`audit-gateway keys history`: what a key was used for, and what has become of it."""

from __future__ import annotations

import json
from typing import Any

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option, key_argument
from gateway.cli.base.terminal import say_row

_TOLD = ("count", "events", "seconds", "route", "parameters", "forbidden", "until")


@click.command()
@key_argument
@click.option("--since", help="How far to look back, such as 7d.  [default: the key's whole life]")
@target_options
@json_option
def history(key_id: str, since: str | None, target: CommandTarget, as_json: bool) -> None:
    """Show the log's records about one key, oldest first: one line each."""
    from gateway.cli.base.event_text import event_parts, printable, printable_json

    for line in target.keys.history(key_id, since):
        if as_json:
            click.echo(printable_json(line.decode()))
            continue
        event: dict[str, Any] = json.loads(line)
        told = printable(_told(event.get("data", {})))
        say_row(" ".join([*(text for text, _ in event_parts(event)), told]).rstrip())


def _told(data: dict[str, Any]) -> str:
    parts = [
        f"{name}={json.dumps(data[name], separators=(',', ':'))}" for name in _TOLD if name in data
    ]
    ranges = data.get("ranges")
    if ranges:
        parts.append(f"after={ranges[0]['after']} to={ranges[-1]['to']}")
    return " ".join(parts)
