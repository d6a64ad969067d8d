"""Rotation of a key whose new secret is put where it is used, before the old one ends."""

from __future__ import annotations

from typing import NamedTuple

from gateway.cli.administration.ports import KeyAdministration, Members
from gateway.cli.secrets.secret_sink import SecretSink
from gateway.errors import Conflict

_MOST_ROTATIONS = 200
_REASON = "its secret could not be placed"


class Rotated(NamedTuple):
    """A rotated key, and the successor whose secret is in its place."""

    key: str
    successor: str


def newest_key(keys: KeyAdministration, key_id: str) -> Members:
    """The key of that id, or the last that took over from it by rotation."""
    shown = keys.show(key_id)
    for _ in range(_MOST_ROTATIONS):
        if not shown.get("successor"):
            break
        shown = keys.show(shown["successor"])
    return shown


def is_due(shown: Members, now: float) -> bool:
    """Whether the schedule of a key says that it is to be rotated by now."""
    from gateway.clock import parse_rfc3339

    by = shown.get("rotate_by", "")
    return bool(by) and parse_rfc3339(by) <= now * 1_000_000


def rotate_into(
    keys: KeyAdministration, shown: Members, overlap: str | None, place: SecretSink, reason: str
) -> Rotated:
    """Rotate a key, put the new secret in its place, and let the old one end by the overlap.

    The old key works on until the new secret is in its place. If that fails the successor is
    revoked; if the program is killed, the next run goes on from what is in the place, or the
    gateway revokes the successor after an hour.
    """
    pending = shown.get("pending_successor")
    if pending and (found := _finish(keys, shown["id"], pending, place, reason)) is not None:
        return found
    made = keys.rotate(shown["id"], overlap, reason, hold=True)
    try:
        place.put(made["key"])
    except BaseException:
        # It is in use if it was placed all the same.
        if keys.show(made["id"]).get("confirm_by"):
            keys.revoke(made["id"], _REASON, with_descendants=False)
        raise
    keys.confirm(made["id"], reason)
    return Rotated(shown["id"], made["id"])


def _finish(
    keys: KeyAdministration, key_id: str, pending: str, place: SecretSink, reason: str
) -> Rotated | None:
    """Finish a rotation that an earlier run has begun, if its secret is in its place; None if it
    was given up."""
    if keys.show(pending)["state"] in ("revoked", "expired"):
        return None
    held = place.held_key()
    if held == pending:
        keys.confirm(pending, reason)
        return Rotated(key_id, pending)
    if held is None:
        raise Conflict(
            f"the successor {pending} waits to be confirmed, and nobody can tell whether its "
            "secret was placed: confirm or revoke it, or wait until it is given up",
            code="rotation_pending",
        )
    keys.revoke(pending, _REASON, with_descendants=False)
    return None
