"""Ports to provisioning keys and roles, and to notes about them.

One store implements all of them (`KeyStore`); users ask for the ports that they need.

Atomicity: one call is one change. Durability: a change has survived when the call returns; a note
survives the process, and the machine a moment later. Another process may change keys, roles and
notes at any time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.access.grants.role import Role
from gateway.access.keys.change import Change
from gateway.access.keys.key import Key
from gateway.access.keys.operator import Actor
from gateway.histogram import Histogram

# Raises if a role must not be changed. It is given every role that was put, and the keys that name
# the one to be changed, as they are when it is: no key gets the role in between.
RoleCheck = Callable[[Mapping[str, Role], Sequence[Key]], None]


def allow_any(roles: Mapping[str, Role], having: Sequence[Key]) -> None:
    """Allow every change of a role."""


class KeyChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Changes that are made as one: roles to put, roles to delete with the ids of the keys that
    lose them, keys in place of those with their ids, new keys, and what is recorded of it all."""

    roles: Sequence[Role] = ()
    deleted_roles: Mapping[str, Sequence[str]] = {}
    replaced: Sequence[Key] = ()
    added: Sequence[Key] = ()
    records: Sequence[Change] = ()


# Decides on changes by all roles that were put, and all keys, as they are when they are made.
DecidingTogether = Callable[[Mapping[str, Role], Sequence[Key]], KeyChanges]


# Update of a note, from its old content to its new one; None is no note.
Noting = Callable[[bytes | None], bytes | None]
# Keys that are read at a time where all are read.
PART_KEYS = 250


class StoredKeys(Protocol):
    """Provisioning keys. Every change gets a revision higher than all before it.

    Each change of a key or role is kept in the same transaction until it was written into the log,
    so that none goes unrecorded.
    """

    async def create(self, key: Key) -> None:
        """Add a key. Raises `Conflict` if its id is taken or its issuer is revoked,
        `InvalidRequest` if it names an unknown role."""

    async def create_first(self, key: Key) -> bool:
        """Add a key if there never was any; False if there was, or another process was first."""

    async def get(self, key_id: str) -> Key | None:
        """The current state of a key."""

    async def all(self) -> list[Key]:
        """All keys, oldest first; for uses that nobody waits for."""

    def parts(self) -> AsyncIterator[list[Key]]:
        """All keys that exist from begin to end, in parts, ordered by id."""

    async def some(self, key_ids: Sequence[str]) -> list[Key]:
        """Those of the keys with these ids that exist, in any order."""

    async def ids(self) -> set[str]:
        """Ids of all keys."""

    async def change(
        self, key_id: str, change: Callable[[Key], Key], *, create: Key | None = None
    ) -> Key | None:
        """Replace a key by the result of `change`, and add another key in the same change.

        None if the key does not exist. If `change` raises, nothing changes.
        """

    async def change_many(
        self,
        change: Callable[[list[Key]], Sequence[Key]],
        *,
        among: Sequence[str] | None = None,
    ) -> list[Key]:
        """Replace several keys in one change: `change` is passed all keys, or those with the ids
        `among`, and returns those that differ. If it raises, nothing changes."""

    async def newest_revision(self) -> int:
        """Revision of the newest change to a key; 0 if there never was one."""

    async def changed_since(self, revision: int) -> tuple[int, list[Key]]:
        """Newest revision, and the keys changed after `revision`.

        A newest one below `revision` says, once, that the store has lost changes, as a failover
        may: known state may be of those, and their revisions are used again.
        """


class StoredRoles(Protocol):
    """Stored roles, without the predefined ones."""

    async def put_role(
        self, role: Role, by: Actor = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str]:
        """Add or replace a role; `by` is a kid, a program's name or an operator. A new role is
        first removed from keys that name it already, in the same change; return their ids. If
        `check` raises, nothing changes."""

    async def delete_role(
        self, name: str, by: Actor = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str] | None:
        """Delete a role and remove it from its keys in one change; return their ids, or None if
        there is no such role. If `check` raises, nothing changes."""

    async def roles(self) -> dict[str, Role]:
        """All stored roles, by name."""

    async def roles_since(self, version: int) -> tuple[int, dict[str, Role | None]]:
        """Version of all roles, which rises with every change, and the roles put or deleted (None)
        after `version`; -1 gives all. Cheap. A result below `version` means the same as for
        `changed_since`."""


class UnrecordedChanges(Protocol):
    """Changes that wait to be written into the log: of keys and roles, and others."""

    async def record_later(self, change: Change) -> None:
        """Add another change to be recorded; durable on return."""

    async def unrecorded(self, limit: int) -> dict[int, Change]:
        """Oldest changes that were not marked as recorded, in order, by number."""

    async def mark_recorded(self, numbers: Sequence[int]) -> None:
        """Mark changes as written into the log."""


class Notes(Protocol):
    """Small documents that all processes share, by kind and name."""

    async def note(self, kind: str, name: str) -> bytes | None:
        """One note."""

    async def watched_note(self, kind: str, name: str) -> bytes | None:
        """One note that live streams depend on; as quick as `roles_since`. Cheap."""

    async def notes(self, kind: str, after: str = "", most: int | None = None) -> dict[str, bytes]:
        """Notes of a kind by name, in a fixed order of names: those behind `after`, at most so
        many."""

    async def update_notes(
        self, kind: str, updates: Mapping[str, Noting], *, erases: bool = False
    ) -> None:
        """Update notes by name, in one change. `erases`: of what stood there before nothing is left
        in SQLite's files; PostgreSQL keeps it until it has no use for it any more."""


class KeysAndRoles(StoredKeys, StoredRoles, UnrecordedChanges, Notes, Protocol):
    """Keys and roles, which together say what keys may do, and the secrets of pseudonyms, a note,
    whose changes are recorded, too."""

    async def change_together(
        self, decide: DecidingTogether, by: Actor = "", at: float = 0.0
    ) -> None:
        """Change several keys and roles in one change, in the order roles, replaced keys, new keys,
        with new revisions for all; nothing else changes from when `decide` is called. `by` and
        `at` are of the records of roles. If `decide` raises, or a key cannot be added, nothing
        changes. It may run on another thread."""


class NotesOfKeys(StoredKeys, Notes, Protocol):
    """Notes about keys; successors may inherit those of their predecessors."""


class SharedTime(Protocol):
    """Wall clock of the store."""

    async def wall_time(self) -> float | None:
        """Wall clock that all users of this store share, in seconds since 1970; None if that is the
        machine's own."""


class KeyStore(KeysAndRoles, NotesOfKeys, SharedTime, Protocol):
    """All ports to keys in one store."""

    @property
    def commit_seconds(self) -> Histogram:
        """Times until changes of keys and roles were durable."""

    @property
    def read_seconds(self) -> Histogram:
        """Times of reads."""

    async def close(self) -> None:
        """Close the store; no call may follow."""
