"""`audit-gateway keys usage`: how much a key was used."""

from __future__ import annotations

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.key_folder import json_option, key_argument
from gateway.cli.base.terminal import say, say_json

_BARS = "▁▂▃▄▅▆▇█"
_COUNTERS = ("requests", "streams", "events", "bytes", "denials")


@click.command()
@key_argument
@click.option("--window", default="24h", show_default=True, help="How far back.")
@click.option("--step", default="1h", show_default=True, help="One row for each.")
@target_options
@json_option
def usage(key_id: str, window: str, step: str, target: CommandTarget, as_json: bool) -> None:
    """Show a key's requests, streams, delivered events and bytes, and denials."""
    found = target.keys.usage(key_id, window, step)
    if as_json:
        say_json(found)
        return
    rows = found["rows"]
    say("start                 " + "".join(f"{name:>12}" for name in _COUNTERS))
    for row in rows:
        if any(row[name] for name in _COUNTERS):
            counts = "".join(f"{row[name]:>12}" for name in _COUNTERS)
            say(f"{row['start'][:19]}Z  {counts}")
    for name in _COUNTERS:
        values = [row[name] for row in rows]
        say(f"{name:>9} {_sparkline(values)} {sum(values)}")


def _sparkline(values: list[int]) -> str:
    most = max(values, default=0)
    if not most:
        return _BARS[0] * len(values)
    return "".join(_BARS[value * (len(_BARS) - 1) // most] for value in values)
