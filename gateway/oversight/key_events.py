"""Events of the log about keys: changes, with who made them, and expiry.

Changes wait in the key store until they are in the log, so that none is lost, also of those that
another process makes. Each has an event id that follows from it, so that it is stored once,
whichever processes write it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Protocol

import msgspec

from gateway.access.credentials.token import is_key_id
from gateway.access.keyring import Changes
from gateway.access.keys import lifecycle
from gateway.access.keys.change import REQUESTED, Change, key_urn
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import StoredKeys, UnrecordedChanges
from gateway.access.keys.operator import Person
from gateway.clock import Clock, format_time, until_next_poll
from gateway.errors import GatewayError
from gateway.event import Draft
from gateway.ingest.gateway_event import ACCESS, DELIVERY, KEYS, new_gateway_event
from gateway.oversight.access_log.access_log import Appender
from gateway.oversight.detection.operator_profile import Command
from gateway.oversight.detection.profile_store import ProfileStore
from gateway.oversight.expiry import (
    ROTATION_DUE,
    Notice,
    may_end_early,
    notices,
    rotation_notice,
)
from gateway.scheduling.loop_work import Stretch
from gateway.streaming.live.hub import Hub

_POLL_SECONDS = 0.25
_AGAIN_SECONDS = 1.0
# Seconds between polls for changes that are not of keys and roles, which nobody announces.
_UNTOLD_SECONDS = 1.0
_DRAINING_SECONDS = 15.0
_AT_ONCE = 100
# Keys that expired while no gateway ran have events at the next start, if not longer ago.
_TOLD_LATE_SECONDS = 30 * 86400
_SEVERITY = {
    "key.revoked": 2, "key.suspended": 2, "key.throttled": 2, "key.expiring": 2,
    "key.rotation_due": 2, "key.rotation_failed": 2,
    "finding.expected": 2, "pepper.forgotten": 2,
}  # fmt: skip
_LOGGER = logging.getLogger(__name__)


class ChangedKeys(StoredKeys, UnrecordedChanges, Protocol):
    """Keys, and their unrecorded changes."""


class KeyEvents:
    """Writer of key events, one per process. `warnings` are seconds before a key expires."""

    def __init__(
        self,
        store: ChangedKeys,
        writer: Appender,
        hub: Hub,
        profiles: ProfileStore,
        clock: Clock,
        warnings: tuple[int, ...],
    ) -> None:
        self._store = store
        self._writer = writer
        self._hub = hub
        self._profiles = profiles
        self._clock = clock
        self._warnings = warnings
        self._command_listeners: list[Callable[[Command], None]] = []
        self._changed = True
        self._recorded_at = clock.monotonic()
        self._draining: dict[str, Key] = {}
        # Successors that wait to be confirmed.
        self._held: dict[str, Key] = {}
        # When which key is to be rotated, and the notice of that which was written for a key.
        self._rotations: dict[str, Notice] = {}
        self._told: dict[str, str] = {}
        self._draining_at = clock.monotonic()
        # When which key has a notice due; earlier ones are written.
        self._due: list[tuple[float, str]] = []
        self._written_until: float | None = None

    def on_command(self, listener: Callable[[Command], None]) -> None:
        """Call `listener` with each command of the command line, once it is in the log."""
        self._command_listeners.append(listener)

    def take(self, changes: Changes) -> None:
        """Take in changes of the key store."""
        self._changed = self._changed or bool(changes.keys or changes.roles)
        for key in changes.keys:
            self._follow(key)

    async def run(self) -> None:
        """Write events until cancelled."""
        while True:
            try:
                await self.poll()
                wait = until_next_poll(self._clock, _POLL_SECONDS)
            except GatewayError as error:
                _LOGGER.warning("changes of keys cannot be recorded now: %s", error.detail)
                wait = _AGAIN_SECONDS
            await self._clock.sleep(wait)

    async def poll(self) -> None:
        """Write the events that are due."""
        if self._written_until is None:
            await self._begin()
        if self._changed or self._clock.monotonic() - self._recorded_at >= _UNTOLD_SECONDS:
            self._changed = False
            self._recorded_at = self._clock.monotonic()
            try:
                await self.record_changes()
            except GatewayError:
                self._changed = True
                raise
            await self._write_rotations(self._clock.now())
        await self._write_due(self._clock.now())
        if self._clock.monotonic() - self._draining_at >= _DRAINING_SECONDS:
            self._draining_at = self._clock.monotonic()
            await self._end_replaced()
            await self._give_up_held()

    async def record_changes(self) -> None:
        """Write the changes that are not in the log yet."""
        while changes := await self._store.unrecorded(_AT_ONCE):
            made = [
                _event_of_change(change, await self._person(change)) for change in changes.values()
            ]
            await self._writer.append(made)
            for change in changes.values():
                if change.operator is not None:
                    at = change.at or self._clock.now()
                    command = Command(change.operator.person, at)
                    for listener in self._command_listeners:
                        listener(command)
            await self._store.mark_recorded(list(changes))

    async def _person(self, change: Change) -> Person | None:
        """The person who made a change, if it was one."""
        key = await self._store.get(change.by) if is_key_id(change.by) else None
        return None if key is None else key.person

    async def close(self) -> None:
        """Write changes a last time; what remains waits in the key store for the next start."""
        try:
            await self.record_changes()
        except GatewayError as error:
            _LOGGER.warning("changes of keys will be recorded at the next start: %s", error.detail)

    async def _begin(self) -> None:
        """Follow all keys; write notices that became due while no gateway ran."""
        now = self._clock.now()
        self._written_until = now - _TOLD_LATE_SECONDS
        try:
            async for part in self._store.parts():
                stretch = Stretch()
                for key in part:
                    await stretch.rest()
                    self._follow(key)
        except BaseException:
            # Keys that were not read have no other notice.
            self._written_until = None
            raise
        await self._write_due(now)

    def _follow(self, key: Key) -> None:
        if key.drains_until is not None and key.revoked_at is None:
            self._draining[key.id] = key
        else:
            self._draining.pop(key.id, None)
        if key.confirm_by is not None and key.revoked_at is None:
            self._held[key.id] = key
        else:
            self._held.pop(key.id, None)
        rotation = rotation_notice(key)
        if rotation is None:
            self._rotations.pop(key.id, None)
            self._told.pop(key.id, None)
        elif self._told.get(key.id) != rotation.id:
            self._rotations[key.id] = rotation
        self._schedule(key)

    def _schedule(self, key: Key) -> None:
        written_until = self._written_until if self._written_until is not None else 0.0
        coming = [one.at for one in notices(key, self._warnings) if one.at > written_until]
        if coming:
            heappush(self._due, (coming[0], key.id))

    async def _write_due(self, now: float) -> None:
        due: dict[str, float] = {}
        while self._due and self._due[0][0] <= now:
            at, key_id = heappop(self._due)
            due[key_id] = at
        try:
            written = {key_id: await self._due_of(key_id, now) for key_id in due}
            await self._write([notice for of_key in written.values() for notice in of_key])
        except GatewayError:
            for key_id, at in due.items():
                heappush(self._due, (at, key_id))
            raise
        self._written_until = now
        for key_id, of_key in written.items():
            for notice in of_key:
                self._warn_streams(key_id, notice)
            key = await self._store.get(key_id)
            if key is not None:
                self._schedule(key)

    async def _due_of(self, key_id: str, now: float) -> list[Notice]:
        """Notice that is due for a key now: of several warnings the last, or its expiry."""
        key = await self._store.get(key_id)
        if key is None or self._written_until is None:
            return []
        due = [one for one in notices(key, self._warnings) if self._written_until < one.at <= now]
        return due[-1:]

    async def _write(self, due: list[Notice]) -> None:
        for start in range(0, len(due), _AT_ONCE):
            drafts = [
                _event_of_notice(notice, key)
                for notice in due[start : start + _AT_ONCE]
                if (key := await self._store.get(notice.key_id)) is not None
            ]
            await self._writer.append(drafts)

    async def _write_rotations(self, now: float) -> None:
        """Write that keys are to be rotated, also those whose schedule was given them late. An
        event that is in the log already is not written again."""
        due = [one for one in self._rotations.values() if one.at <= now]
        await self._write(due)
        for notice in due:
            self._told[notice.key_id] = notice.id
            self._rotations.pop(notice.key_id, None)

    async def _give_up_held(self) -> None:
        """Revoke successors that were not confirmed in time; their predecessors work on."""
        now = self._clock.now()
        for key in list(self._held.values()):
            if key.confirm_by is not None and now >= key.confirm_by:
                await self._store.change_many(
                    partial(_giving_up, key.id, now), among=[key.id, key.predecessor]
                )
                # Only now, as one that could not be stored has to be tried again.
                self._held.pop(key.id, None)

    def _warn_streams(self, key_id: str, notice: Notice) -> None:
        if notice.action != "key.expiring":
            return
        members = {"code": "key_expiring", "expires_at": format_time(notice.ends_at)}
        for subscription in self._hub.streams_of(key_id):
            self._hub.send_control(subscription, "notice", members)

    async def _end_replaced(self) -> None:
        """End draining keys whose successors are in use and that are idle."""
        now = self._clock.now()
        for key in list(self._draining.values()):
            if key.state(now) != "draining":
                del self._draining[key.id]
            elif not self._hub.streams_of(key.id):
                profiles = [await self._profiles.of(one) for one in (key.id, key.successor)]
                if may_end_early(key, profiles[0], profiles[1], now):
                    await self._store.change(key.id, _ending(now))


def _ending(now: float) -> lifecycle.Changing:
    def ended(key: Key) -> Key:
        return lifecycle.end_draining(key, now) if key.state(now) == "draining" else key

    return ended


def _giving_up(key_id: str, now: float, keys: list[Key]) -> list[Key]:
    return lifecycle.give_up(keys, key_id, now, lifecycle.NOT_CONFIRMED, "gateway")


def _event_of_change(change: Change, person: Person | None) -> Draft:
    data = {"name": change.name, **change.data} if change.name else change.data
    reason = change.reason
    if (operator := change.operator) is not None:
        reason = reason or operator.reason
        who = msgspec.structs.replace(operator, reason="")
        data = {**data, "command_line": msgspec.to_builtins(who)}
    return new_gateway_event(
        id=change.id,
        category=_category(change),
        action=change.action,
        at=change.at,
        severity=_SEVERITY.get(change.action, 1),
        by=change.by,
        person=person,
        about=change.about,
        reason=reason,
        data=data,
    )


def _category(change: Change) -> str:
    if change.action == REQUESTED:
        return ACCESS
    return DELIVERY if change.action.startswith("destination.") else KEYS


def _event_of_notice(notice: Notice, key: Key) -> Draft:
    return new_gateway_event(
        id=notice.id,
        category=KEYS,
        action=notice.action,
        at=notice.at,
        severity=_SEVERITY.get(notice.action, 1),
        by="gateway",
        about=[key_urn(key.id)],
        data={
            "key": key.id,
            "name": key.name,
            "owner": key.owner,
            "expires_at": format_time(notice.ends_at),
            **({"rotate_by": format_time(notice.at)} if notice.action == ROTATION_DUE else {}),
        },
    )
