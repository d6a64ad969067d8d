"""The ports to provisioning keys and roles, and to what is remembered about them.

One store implements all of them (`KeyStore`); whoever uses it asks for the ports that it needs.

Atomicity: one call is one change. Durability: a change has survived when the call returns; a note
survives the process, and the machine a moment later. Another process may change keys, roles and
notes at any time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from gateway.access.grants.role import Role
from gateway.access.keys.change import Change
from gateway.access.keys.key import Key
from gateway.access.keys.operator import Actor
from gateway.histogram import Histogram

# Raises if a role must not be changed. It is given every role that was put, and the keys that name
# the one to be changed, as they are when it is: no key gets the role in between.
RoleCheck = Callable[[Mapping[str, Role], Sequence[Key]], None]


def allow_any(roles: Mapping[str, Role], having: Sequence[Key]) -> None:
    """For who may do everything."""


# Makes a note of the one there was before; None: there was none, or there shall be none.
Noting = Callable[[bytes | None], bytes | None]
# So many keys are read at a time where all of them are.
PART_KEYS = 250


class StoredKeys(Protocol):
    """Provisioning keys. Every change gets a revision higher than all before it.

    Changes of keys, and of roles, are kept in the same transaction until somebody has written them
    into the log: none goes unrecorded, whoever makes it.
    """

    async def create(self, key: Key) -> None:
        """Add a key. Raises `Conflict` if its id is taken or its issuer is revoked,
        `InvalidRequest` if it names a role that is not there."""

    async def create_first(self, key: Key) -> bool:
        """Add a key if there never was any; False if there was, or another process is first."""

    async def get(self, key_id: str) -> Key | None:
        """The key as it is now."""

    async def all(self) -> list[Key]:
        """Every key, oldest first; for where nobody waits meanwhile."""

    def parts(self) -> AsyncIterator[list[Key]]:
        """Every key that is there from begin to end, some at a time, by their ids."""

    async def some(self, key_ids: Sequence[str]) -> list[Key]:
        """The keys with these ids that there are, as they are now, in whatever order."""

    async def ids(self) -> set[str]:
        """The ids of all keys."""

    async def change(
        self, key_id: str, change: Callable[[Key], Key], *, create: Key | None = None
    ) -> Key | None:
        """Replace a key by what `change` makes of it, and add another key in the same change.

        None if there is none such. What `change` raises leaves everything as it was.
        """

    async def change_many(self, change: Callable[[list[Key]], Sequence[Key]]) -> list[Key]:
        """Replace several keys in one change: `change` is given all keys, and gives those that
        shall be other. What it raises leaves everything as it was."""

    async def newest_revision(self) -> int:
        """The revision of the newest change to a key; 0 if there never was one."""

    async def changed_since(self, revision: int) -> tuple[int, list[Key]]:
        """The newest revision, and the keys changed after `revision`.

        One below `revision` says, once, that the store has lost changes, as a failover may: what
        was known may be of those, and revisions that were known are used again.
        """


class StoredRoles(Protocol):
    """The roles that were put: the predefined ones are not among them."""

    async def put_role(
        self, role: Role, by: Actor = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str]:
        """Add a role, or replace the one of that name. `by`: a kid, a program's name, or who runs
        the command line. Keys that name a role which was not there lose its name first, in the
        same change: their ids. What `check` raises leaves everything as it was."""

    async def delete_role(
        self, name: str, by: Actor = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str] | None:
        """Remove a role, and its name from the keys that have it, in one change: their ids. None if
        there is none such. What `check` raises leaves everything as it was."""

    async def roles(self) -> dict[str, Role]:
        """Every role that was put, by name."""

    async def roles_since(self, version: int) -> tuple[int, dict[str, Role | None]]:
        """The version of all roles, which rises with every change to one, and those that were put
        or deleted (None) after `version`. Cheap to ask for; -1 gives all of them. One below
        `version` says the same as with `changed_since`."""


class KeysAndRoles(StoredKeys, StoredRoles, Protocol):
    """What tells what keys may do."""


class UnrecordedChanges(Protocol):
    """Changes that wait to be written into the log: of keys and roles, and what is handed over."""

    async def record_later(self, change: Change) -> None:
        """Let another change wait to be recorded; durable when this returns."""

    async def unrecorded(self, limit: int) -> dict[int, Change]:
        """The oldest changes that were not marked as recorded, in order, by number."""

    async def mark_recorded(self, numbers: Sequence[int]) -> None:
        """These changes are in the log."""


class Notes(Protocol):
    """What all processes remember together, by kind and name."""

    async def note(self, kind: str, name: str) -> bytes | None:
        """One note."""

    async def notes(self, kind: str) -> dict[str, bytes]:
        """All notes of a kind, by name."""

    async def update_notes(self, kind: str, updates: Mapping[str, Noting]) -> None:
        """Replace notes, by name; nobody else changes notes in between."""


class NotesOfKeys(StoredKeys, Notes, Protocol):
    """What is remembered of keys, which may have it of the keys that they took over from."""


class SharedTime(Protocol):
    """The wall clock of the store."""

    async def wall_time(self) -> float | None:
        """The wall clock that all who use this store share, in seconds since 1970; None where that
        is the machine's own."""


class KeyStore(KeysAndRoles, UnrecordedChanges, NotesOfKeys, SharedTime, Protocol):
    """All of them, in one store."""

    @property
    def commit_seconds(self) -> Histogram:
        """How long changes of keys and roles took to be durable."""

    @property
    def read_seconds(self) -> Histogram:
        """How long reads took."""

    async def close(self) -> None:
        """End cleanly; nothing may be called afterwards."""
