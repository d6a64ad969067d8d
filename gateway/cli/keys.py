"""`audit-gateway keys`: works on the data folder, with or without the server running."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.keys.key import Key
    from gateway.settings.load import Settings
    from gateway.store.sqlite_keys import SqliteKeys

_EXAMPLES = """\b
Examples:
  audit-gateway keys create --name siem --purpose "SIEM forwarder" --expires 30d \\
      --grant '{"actions":["stream"],"categories":["auth.*"],"tenants":["acme"]}'
  audit-gateway keys list
  audit-gateway keys show 4fK2mQ9sLx0a
  audit-gateway keys revoke 4fK2mQ9sLx0a --reason "left the project"
"""

_data = click.option("--data", help="Data folder of the gateway.  [default: ./audit-data]")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(epilog=_EXAMPLES)
def keys() -> None:
    """Make, list, show and revoke provisioning keys."""


@keys.command(epilog=_EXAMPLES)
@_data
@click.option("--name", required=True, help="What to call it.")
@click.option("--purpose", required=True, help="The one thing it is for.")
@click.option("--owner", default="", help="Who answers for it.")
@click.option("--grant", "grants", multiple=True, help="A grant as JSON; may be repeated.")
@click.option("--expires", help="How long it lives, such as 30d.  [default: keys.default_life]")
@_as_json
def create(
    data: str | None,
    name: str,
    purpose: str,
    owner: str,
    grants: tuple[str, ...],
    expires: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it; it is not shown again."""
    from gateway.clock import parse_duration
    from gateway.keys.grant import parse_grant_text
    from gateway.keys.provisioning import check_life, new_key

    parsed = tuple(map(parse_grant_text, grants))
    settings = _settings(data)
    life = parse_duration(expires) if expires else settings.keys.default_life
    check_life(life, settings.keys.max_life)

    async def work() -> tuple[Key, str]:
        async with _key_store(settings) as (store, pepper, now):
            key, token = new_key(
                name=name, purpose=purpose, owner=owner, grants=parsed,
                now=now, life=life, pepper=pepper,
            )  # fmt: skip
            await store.create(key)
            return key, token

    key, token = _run(work())
    if not parsed:
        click.echo("note: without --grant this key is allowed nothing", err=True)
    shown = {"id": key.id, "key": token, **key.public(key.created_at)}
    if as_json:
        click.echo(json.dumps(shown))
    else:
        click.echo(f"{token}\n(id {key.id}, expires {shown['expires_at']}; not shown again)")


@keys.command("list")
@_data
@_as_json
def list_all(data: str | None, as_json: bool) -> None:
    """List all keys."""

    async def work() -> list[dict[str, Any]]:
        async with _key_store(_settings(data)) as (store, _, now):
            return [key.public(now) for key in await store.all()]

    shown = _run(work())
    if as_json:
        click.echo(json.dumps({"keys": shown}))
        return
    for key in shown:
        line = f"{key['id']}  {key['state']:8}  {key['expires_at'][:10]}  {key['name']}"
        click.echo(f"{line}  ({key['purpose']})")


@keys.command()
@click.argument("key_id", metavar="KID")
@_data
@_as_json
def show(key_id: str, data: str | None, as_json: bool) -> None:
    """Show one key: everything but its secret."""

    async def work() -> dict[str, Any]:
        async with _key_store(_settings(data)) as (store, _, now):
            return _known(await store.get(key_id), key_id).public(now)

    shown = _run(work())
    click.echo(json.dumps(shown) if as_json else json.dumps(shown, indent=2))


@keys.command()
@click.argument("key_id", metavar="KID")
@click.option("--reason", default="", help="Why; kept with the key.")
@_data
@_as_json
def revoke(key_id: str, reason: str, data: str | None, as_json: bool) -> None:
    """Revoke a key for good; its live streams end within a second."""

    async def work() -> dict[str, Any]:
        async with _key_store(_settings(data)) as (store, _, now):
            return _known(await store.revoke(key_id, now, reason), key_id).public(now)

    shown = _run(work())
    click.echo(json.dumps(shown) if as_json else f"{key_id} is revoked")


def _settings(data: str | None) -> Settings:
    from gateway.settings.load import load

    return load(None, os.environ, {"data": data})


@asynccontextmanager
async def _key_store(settings: Settings) -> AsyncIterator[tuple[SqliteKeys, bytes, float]]:
    """The keys of the data folder, its pepper, and the time."""
    from gateway.clock import SystemClock
    from gateway.store.folder import DataFolder
    from gateway.store.sqlite_keys import SqliteKeys

    folder = DataFolder(settings.data)
    store = SqliteKeys(folder.keys)
    try:
        yield store, folder.pepper(), SystemClock().now()
    finally:
        await store.close()


def _known(key: Key | None, key_id: str) -> Key:
    from gateway.errors import NotFound

    if key is None:
        raise NotFound(f"there is no key {key_id}; `audit-gateway keys list` shows all")
    return key


def _run(work: Any) -> Any:
    import asyncio

    return asyncio.run(work)
