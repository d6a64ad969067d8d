"""Signals of stored keys and roles with defects, and of keys for emergencies: at the start, and
when they change.

Another version, or a restored backup, may write such a key or role at any time, and the command
line a key for an emergency.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from gateway.access.grants.grant import defects_in
from gateway.access.grants.role import BUILTIN, Role
from gateway.access.keyring import Changes
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import PART_KEYS, KeysAndRoles
from gateway.clock import format_time
from gateway.oversight.detection.finding import (
    BREAK_GLASS,
    INVALID_GRANT,
    ROTATION_FAILED,
    UNREADABLE,
)
from gateway.oversight.detection.signals import Signal
from gateway.scheduling.loop_work import Stretch

# Problems of one key.
_MOST_PROBLEMS = 20
# A rotation that failed while no gateway ran is told at its start, if not longer ago.
_FAILED_SECONDS = 3600
_Data = dict[str, Any]


class StoredDefects:
    """Listener to changes of the key store. Each defect of a key gives one signal per process."""

    def __init__(self, store: KeysAndRoles) -> None:
        self._store = store
        # Keys to be checked; None: all.
        self._waiting: dict[str, None] | None = None
        self._named: dict[str, dict[str, _Data]] = {}
        # Changed roles, and those with defects.
        self._changed_roles: set[str] = set()
        self._wrong_roles: set[str] = set()
        # Revoked successors whose failed rotations were told.
        self._failed: set[str] = set()
        # When keys for emergencies end.
        self._break_glass: dict[str, float] = {}

    def break_glass_until(self, now: float) -> float | None:
        """When the last of the living keys for emergencies ends; None if there is none."""
        return max((at for at in self._break_glass.values() if at > now), default=None)

    def take(self, changes: Changes) -> None:
        """Take in changes of the key store."""
        self._changed_roles |= changes.roles
        if self._waiting is not None:
            self._waiting.update(dict.fromkeys(key.id for key in changes.keys))

    async def poll(self, now: float) -> list[tuple[str, Signal]]:
        """Signals of changed keys; of all keys at first, and after the store was away."""
        waiting, changed = self._waiting, self._changed_roles
        if waiting is not None and not waiting and not changed:
            return []
        named = dict(self._named)
        # Later changes are checked by the next poll.
        self._waiting, self._changed_roles = {}, set()
        try:
            roles = {**BUILTIN, **await self._store.roles()}
            many = self._concerns_many(set(roles) if waiting is None else changed, roles)
            signals = []
            async for part in self._parts(None if many else waiting):
                stretch = Stretch()
                for key in part:
                    await stretch.rest()
                    signals += [(key.id, signal) for signal in self._signals(key, roles, now)]
                    signals += self._failed_rotation(key, now)
        except BaseException:
            # What was found until then was not returned.
            self._waiting, self._named = None, named
            raise
        return signals

    def _parts(self, waiting: Iterable[str] | None) -> AsyncIterator[list[Key]]:
        return self._store.parts() if waiting is None else self._some(list(waiting))

    async def _some(self, waiting: list[str]) -> AsyncIterator[list[Key]]:
        for begin in range(0, len(waiting), PART_KEYS):
            yield await self._store.some(waiting[begin : begin + PART_KEYS])

    def _concerns_many(self, changed: set[str], roles: Mapping[str, Role]) -> bool:
        """Whether the keys of changed roles have to be checked. Few roles ever have defects, and
        reading all keys takes long."""
        wrong = {name for name in changed if name in roles and _is_wrong(roles[name])}
        concerned = bool(wrong or changed & self._wrong_roles)
        self._wrong_roles = (self._wrong_roles - changed) | wrong
        return concerned

    def _signals(self, key: Key, roles: Mapping[str, Role], now: float) -> list[Signal]:
        before = self._named.get(key.id, {})
        ended = key.state(now) in ("revoked", "expired")
        found = {} if ended else _defects(key, roles)
        self._break_glass.pop(key.id, None)
        if key.break_glass and not ended:
            self._break_glass[key.id] = key.ends_at
            found[BREAK_GLASS] = {
                "reason": key.purpose, "by": key.created_by, "roles": list(key.roles),
                "expires_at": format_time(key.expires_at),
            }  # fmt: skip
        if found:
            self._named[key.id] = found
        else:
            self._named.pop(key.id, None)
        return [
            Signal(signal, now, data=data)
            for signal, data in found.items()
            if before.get(signal) != data
        ]

    def _failed_rotation(self, key: Key, now: float) -> list[tuple[str, Signal]]:
        """Signal of the predecessor of a successor that was revoked before it was confirmed, once
        per process, and not of long ago."""
        at = key.revoked_at
        if key.confirm_by is None or at is None or now - at > _FAILED_SECONDS:
            self._failed.discard(key.id)
            return []
        if key.id in self._failed:
            return []
        self._failed.add(key.id)
        data = {"successor": key.id, "reason": key.revoked_reason, "by": key.changed_by}
        return [(key.predecessor, Signal(ROTATION_FAILED, at, data=data))]


def _is_wrong(role: Role) -> bool:
    return bool(role.unreadable or defects_in(role.grants))


def _defects(key: Key, roles: Mapping[str, Role]) -> dict[str, _Data]:
    """Defects of a stored key, by their signal."""
    having = [roles[name] for name in key.roles if name in roles]
    unreadable = [role.name for role in having if role.unreadable]
    found: dict[str, _Data] = {}
    if key.unreadable or unreadable:
        why = key.unreadable or next(role.unreadable for role in having if role.unreadable)
        found[UNREADABLE] = {"reason": why, **({"roles": unreadable} if unreadable else {})}
    wrong = defects_in(key.grants)
    for role in having:
        wrong += defects_in(role.grants, f"{role.name}: grants")
    if wrong:
        found[INVALID_GRANT] = {"problems": wrong[:_MOST_PROBLEMS]}
    return found
