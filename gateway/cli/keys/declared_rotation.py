"""Rotation of the keys of a declared set that are due, into the places that it declares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.base.terminal import say, say_json
from gateway.cli.keys.placed_rotation import is_due, rotate_into
from gateway.errors import GatewayError

if TYPE_CHECKING:
    from gateway.cli.administration.ports import Members
    from gateway.cli.administration.target import CommandTarget


def rotate_declared(target: CommandTarget, file: Path, reason: str, *, as_json: bool) -> None:
    """Rotate each key of a file that is due. One that fails holds up no other."""
    from gateway.cli.secrets.declared_files import DeclaredFiles
    from gateway.cli.secrets.secret_sink import declared_sink
    from gateway.clock import SystemClock

    declared, now = DeclaredFiles((file,)), SystemClock().now()
    rotated: list[dict[str, str]] = []
    failed: dict[str, str] = {}
    keys = target.keys.all()
    for name in declared.places:
        for shown in _current(keys, declared.owner(name)):
            if not is_due(shown, now):
                continue
            try:
                sink = declared_sink(declared.places[name])
                done = rotate_into(target.keys, shown, None, sink, reason)
            except GatewayError as error:
                failed[name] = error.detail
                continue
            rotated.append({"name": name, **done._asdict()})
    if as_json:
        say_json({"rotated": rotated, "failed": failed})
    else:
        for one in rotated:
            say(f"keys.{one['name']}: {one['key']} is rotated to {one['successor']}")
        if not rotated and not failed:
            say("no key is due")
    for name, why in failed.items():
        say(f"keys.{name}: {why}", err=True)
    if failed:
        raise GatewayError("not all keys that are due were rotated", code="secret_not_placed")


def _current(keys: list[Members], owner: str) -> list[Members]:
    """The key of that owner that no other has taken over from, or waits to."""
    return [
        key for key in keys
        if key.get("managed_by") == owner and key["state"] == "active"
        and not key.get("successor") and not key.get("confirm_by")
    ]  # fmt: skip
