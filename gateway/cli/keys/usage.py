"""`audit-gateway keys usage`: how much a key was used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gateway.cli.base.key_folder import json_option, key_argument, key_store, run
from gateway.cli.base.options import settings_options
from gateway.cli.base.terminal import say, say_json

if TYPE_CHECKING:
    from gateway.access.usage.windows import UsageRow
    from gateway.settings.declarations import Settings

_BARS = "▁▂▃▄▅▆▇█"
_COUNTERS = ("requests", "streams", "events", "bytes", "denials")


@click.command()
@key_argument
@click.option("--window", default="24h", show_default=True, help="How far back.")
@click.option("--step", default="1h", show_default=True, help="One row for each.")
@settings_options
@json_option
def usage(key_id: str, window: str, step: str, settings: Settings, as_json: bool) -> None:
    """Show a key's requests, streams, delivered events and bytes, and denials."""
    rows = run(_rows(key_id, window, step, settings))
    if as_json:
        say_json({"id": key_id, "rows": rows})
        return
    say("start                 " + "".join(f"{name:>12}" for name in _COUNTERS))
    for row in rows:
        if any(getattr(row, name) for name in _COUNTERS):
            counts = "".join(f"{getattr(row, name):>12}" for name in _COUNTERS)
            say(f"{row.start[:19]}Z  {counts}")
    for name in _COUNTERS:
        values = [getattr(row, name) for row in rows]
        say(f"{name:>9} {_sparkline(values)} {sum(values)}")


async def _rows(key_id: str, window: str, step: str, settings: Settings) -> list[UsageRow]:
    from gateway.access.keys.key_lookup import known_key
    from gateway.access.usage.meter import Meter
    from gateway.clock import parse_duration
    from gateway.runtime.select_backend import ledger_to_read

    async with key_store(settings) as (store, clock):
        await known_key(store, key_id)
    async with ledger_to_read(settings, clock) as ledger:
        meter = Meter(ledger, clock)
        rows = await meter.rows(key_id, parse_duration(window), parse_duration(step))
    return [row.public() for row in rows]


def _sparkline(values: list[int]) -> str:
    most = max(values, default=0)
    if not most:
        return _BARS[0] * len(values)
    return "".join(_BARS[value * (len(_BARS) - 1) // most] for value in values)
