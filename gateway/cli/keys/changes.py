"""`audit-gateway keys rotate`, `suspend`, `resume` and `revoke`.

A running gateway notices within a fraction of a second, and live streams end
or go on accordingly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.base.key_folder import (
    data_option,
    json_option,
    key_argument,
    key_store,
    known_key,
    run,
    settings_of,
)
from gateway.cli.base.operator import this_operator
from gateway.cli.base.terminal import naming_lost, require_output, say, say_json

if TYPE_CHECKING:
    from gateway.access.keys.key import Key

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
    import msgspec

    from gateway.access.keys import lifecycle

    require_output()
    settings = settings_of(data)
    seconds = lifecycle.check_overlap(overlap, settings.keys.max_overlap)

    async def work() -> tuple[Key, str]:
        async with key_store(settings, change=True) as (store, pepper, now):
            key = known_key(await store.get(key_id), key_id)
            old, successor, token = lifecycle.rotate(
                key, now, overlap=seconds, max_life=settings.keys.max_life, pepper=await pepper(),
            )  # fmt: skip
            operator = this_operator()
            old = lifecycle.given_by(old, operator)
            successor = msgspec.structs.replace(
                lifecycle.given_by(successor, operator), created_by=operator.actor
            )
            await store.change(key_id, lifecycle.unless_changed(key, old), create=successor)
            return successor, token

    key, token = run(work())
    shown = {"id": key.id, "key": token, **key.public(key.created_at)}
    with naming_lost(key.id):
        if as_json:
            say_json(shown)
            return
        say(token, f"(id {key.id}, expires {shown['expires_at']}; not shown again)")


@click.command()
@key_argument
@reason_option
@data_option
@json_option
def suspend(key_id: str, reason: str, data: str | None, as_json: bool) -> None:
    """Suspend a key until it is resumed; its live streams end within a second."""
    from gateway.access.keys import lifecycle

    _change(
        key_id, data, as_json,
        lambda key, now: lifecycle.suspend(key, now, lifecycle.check_reason(reason)),
    )  # fmt: skip


@click.command()
@key_argument
@data_option
@json_option
def resume(key_id: str, data: str | None, as_json: bool) -> None:
    """End a suspension."""
    from gateway.access.keys import lifecycle

    _change(key_id, data, as_json, lambda key, now: lifecycle.resume(key, now))


@click.command()
@key_argument
@reason_option
@click.option(
    "--with-descendants", is_flag=True,
    help="Also all keys that it has made, and those that they have made, and so on.",
)  # fmt: skip
@data_option
@json_option
def revoke(
    key_id: str, reason: str, with_descendants: bool, data: str | None, as_json: bool
) -> None:
    """Revoke a key for good; its live streams end within a second.

    Keys that it has made live on, unless told otherwise; they are named.
    """
    from gateway.access.keys import descent, lifecycle

    checked = lifecycle.check_reason(reason)

    async def work() -> tuple[dict[str, Any], list[str], list[str]]:
        async with key_store(settings_of(data), change=True) as (store, _, now):
            known_key(await store.get(key_id), key_id)
            operator = this_operator()

            def revoked(keys: list[Key]) -> list[Key]:
                after = descent.revoke_with_descendants(keys, key_id, now, checked, "")
                before = {key.id: key for key in keys}
                return [
                    key if key is before[key.id] else lifecycle.given_by(key, operator)
                    for key in (after if with_descendants else after[:1])
                ]

            changed = await store.change_many(revoked)
            left = descent.living(descent.descendants(await store.all(), key_id), now)
            return changed[0].public(now), _ids(changed[1:]), _ids(left)

    shown, ended, left = run(work())
    if as_json:
        others = {"revoked_descendants": ended} if with_descendants else {}
        if left or not with_descendants:
            others["living_descendants"] = left
        say_json({**shown, **others})
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


def _ids(keys: Sequence[Key]) -> list[str]:
    return [key.id for key in keys]


def by_operator(change: Callable[[Key], Key]) -> Callable[[Key], Key]:
    """The same change, given by who runs the command."""
    from gateway.access.keys.lifecycle import given_by

    def changed(key: Key) -> Key:
        after = change(key)
        return key if after is key else given_by(after, this_operator())

    return changed


def _change(
    key_id: str, data: str | None, as_json: bool, change: Callable[[Key, float], Key]
) -> None:
    async def work() -> dict[str, Any]:
        async with key_store(settings_of(data), change=True) as (store, _, now):
            changed = await store.change(key_id, by_operator(lambda key: change(key, now)))
            return known_key(changed, key_id).public(now)

    shown = run(work())
    if as_json:
        say_json(shown)
    else:
        say(f"{key_id} is {shown['state']}")
