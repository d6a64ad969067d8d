"""`audit-gateway keys history`: what a key was used for, and what has become of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.key_folder import json_option, key_argument, key_store, run
from gateway.cli.base.options import settings_options
from gateway.cli.base.stores import log_to_read
from gateway.cli.base.terminal import say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gateway.settings.declarations import Settings

_SECONDS = 600.0
_TOLD = ("count", "events", "seconds", "route", "parameters", "forbidden", "until")


@click.command()
@key_argument
@click.option("--since", help="How far to look back, such as 7d.  [default: the key's whole life]")
@settings_options
@json_option
def history(key_id: str, since: str | None, settings: Settings, as_json: bool) -> None:
    """Show the log's records about one key, oldest first: one line each."""
    from gateway.cli.base.event_text import event_parts, printable, printable_json

    async def work() -> None:
        async for line in _lines(key_id, since, settings):
            if as_json:
                click.echo(printable_json(line.decode()))
                continue
            event: dict[str, Any] = json.loads(line)
            told = printable(_told(event.get("data", {})))
            say(" ".join([*(text for text, _ in event_parts(event)), told]).rstrip())

    run(work())


async def _lines(key_id: str, since: str | None, settings: Settings) -> AsyncIterator[bytes]:
    from gateway.access.grants.mask import Masks
    from gateway.access.keys.key_lookup import known_key
    from gateway.clock import SystemClock, parse_duration
    from gateway.log.ports import RetentionExceeded
    from gateway.oversight.access_log.history import history_start, read_history
    from gateway.scheduling.loop_work import LoopWork

    async with key_store(settings) as (store, clock):
        key = await known_key(store, key_id)
    start = key.created_at if since is None else clock.now() - parse_duration(since)
    async with log_to_read(settings) as log:
        reached = await history_start(log, start)
        slices = LoopWork(SystemClock()).slices(key_id)
        while reached < log.head:
            try:
                page = await read_history(
                    log, SystemClock(), key_id, reached, lambda event: Masks(),
                    limit=1000, seconds=_SECONDS, slices=slices,
                )  # fmt: skip
            except RetentionExceeded:
                reached = log.floor
                continue
            for event in page.events:
                yield event.json
            reached = page.reached


def _told(data: dict[str, Any]) -> str:
    parts = [
        f"{name}={json.dumps(data[name], separators=(',', ':'))}" for name in _TOLD if name in data
    ]
    ranges = data.get("ranges")
    if ranges:
        parts.append(f"after={ranges[0]['after']} to={ranges[-1]['to']}")
    return " ".join(parts)
