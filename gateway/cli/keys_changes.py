"""`audit-gateway keys rotate`, `suspend`, `resume` and `revoke`.

A running gateway notices within a fraction of a second, and live streams end
or go on accordingly.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.key_folder import (
    PROGRAM,
    data_option,
    json_option,
    key_argument,
    key_store,
    known_key,
    run,
    settings_of,
)

if TYPE_CHECKING:
    from gateway.keys.key import Key

reason_option = click.option("--reason", default="", help="Why; kept with the key.")


@click.command()
@key_argument
@click.option("--overlap", default="1h", show_default=True, help="How long both keys work.")
@data_option
@json_option
def rotate(key_id: str, overlap: str, data: str | None, as_json: bool) -> None:
    """Replace a key by a new one with the same rights, and print that; it is not shown again.

    The old key drains: it goes on for as long as the overlap, or until the new one is in use
    and it has been idle for a while. Its streams stay open until then.
    """
    from gateway.keys import lifecycle

    settings = settings_of(data)
    seconds = lifecycle.check_overlap(overlap, settings.keys.max_overlap)

    async def work() -> tuple[Key, str]:
        async with key_store(settings) as (store, pepper, now):
            key = known_key(await store.get(key_id), key_id)
            old, successor, token = lifecycle.rotate(
                key, now, overlap=seconds, max_life=settings.keys.max_life, pepper=await pepper(),
                by=PROGRAM,
            )  # fmt: skip
            await store.change(key_id, lifecycle.unless_changed(key, old), create=successor)
            return successor, token

    key, token = run(work())
    shown = {"id": key.id, "key": token, **key.public(key.created_at)}
    if as_json:
        click.echo(json.dumps(shown))
        return
    click.echo(f"{token}\n(id {key.id}, expires {shown['expires_at']}; not shown again)")


@click.command()
@key_argument
@reason_option
@data_option
@json_option
def suspend(key_id: str, reason: str, data: str | None, as_json: bool) -> None:
    """Suspend a key until it is resumed; its live streams end within a second."""
    from gateway.keys import lifecycle

    _change(
        key_id, data, as_json,
        lambda key, now: lifecycle.suspend(key, now, lifecycle.check_reason(reason), by=PROGRAM),
    )  # fmt: skip


@click.command()
@key_argument
@data_option
@json_option
def resume(key_id: str, data: str | None, as_json: bool) -> None:
    """End a suspension."""
    from gateway.keys import lifecycle

    _change(key_id, data, as_json, lambda key, now: lifecycle.resume(key, now, by=PROGRAM))


@click.command()
@key_argument
@reason_option
@data_option
@json_option
def revoke(key_id: str, reason: str, data: str | None, as_json: bool) -> None:
    """Revoke a key for good; its live streams end within a second."""
    from gateway.keys import lifecycle

    _change(
        key_id, data, as_json,
        lambda key, now: lifecycle.revoke(key, now, lifecycle.check_reason(reason), by=PROGRAM),
    )  # fmt: skip


def _change(
    key_id: str, data: str | None, as_json: bool, change: Callable[[Key, float], Key]
) -> None:
    async def work() -> dict[str, Any]:
        async with key_store(settings_of(data)) as (store, _, now):
            changed = await store.change(key_id, lambda key: change(key, now))
            return known_key(changed, key_id).public(now)

    shown = run(work())
    click.echo(json.dumps(shown) if as_json else f"{key_id} is {shown['state']}")
