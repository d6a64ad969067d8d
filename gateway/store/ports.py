"""The ports to durable state: what every adapter promises, and no more.

One contract suite (`tests/contract`) runs over all adapters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from gateway.errors import GatewayError, Unavailable
from gateway.event import Draft, Event
from gateway.keys.change import Change
from gateway.keys.key import Key
from gateway.keys.operator import Operator
from gateway.keys.role import Role
from gateway.match.scope import Scope

# Raises if a role must not be changed. It is given every role that was put, and the keys that name
# the one to be changed, as they are when it is: no key gets the role in between.
RoleCheck = Callable[[Mapping[str, Role], Sequence[Key]], None]


def allow_any(roles: Mapping[str, Role], having: Sequence[Key]) -> None:
    """For who may do everything."""


# The code of the trouble that does not pass: what is there is another log than the one opened.
REPLACED = "log_replaced"


class Appended(msgspec.Struct, frozen=True):
    """What became of one batch. `first` and `last` are the lowest and highest
    offset of the batch's events, duplicates counted where they already stood;
    0 for an empty batch, and the head where nothing else may be told. `conflicts`
    counts the events that stand under another id, since theirs was taken."""

    accepted: int
    duplicates: int
    first: int
    last: int
    conflicts: int = 0

    @classmethod
    def at(
        cls, accepted: int, duplicates: int, places: Sequence[int], head: int, conflicts: int = 0
    ) -> Appended:
        """Of events at those places; there are none where duplicates may not be told of."""
        first, last = (min(places), max(places)) if places else (head, head)
        return cls(accepted, duplicates, first, last, conflicts)


class Page(msgspec.Struct, frozen=True):
    """Events of one read, and how far it looked: everything with
    `after < offset <= reached` that may be wanted is in `events`, in order."""

    events: list[Event]
    reached: int


class Narrowing(msgspec.Struct, frozen=True):
    """A hint of what is wanted: events in `wanted` and in one of `allowed`.

    A store may use it to read less, and `read` may return more than it asks for:
    the caller checks every event itself. `complete` says that an event is wanted
    if and only if it is in these scopes, which is what `read_lines` needs.
    """

    wanted: Scope
    allowed: tuple[Scope, ...]
    complete: bool = False


class Lines(msgspec.Struct, frozen=True):
    """The native JSON of the events of one read, a line each, and how far it looked."""

    text: bytes
    count: int
    reached: int

    @classmethod
    def of(cls, lines: list[bytes], reached: int) -> Lines:
        return cls(b"\n".join(lines), len(lines), reached)

    @property
    def lines(self) -> list[bytes]:
        return self.text.split(b"\n") if self.count else []


class Overtaken(Exception):
    """Retention has deleted events behind the position that was to be read."""


class Log(Protocol):
    """The append-only log.

    Ordering: offsets are 1, 2, 3 ... without gaps, in one total order that
    never changes; whoever reads up to `head` has seen every event there will
    ever be up to it. `recorded_at` never decreases with the offset.
    Atomicity: a batch is appended whole or not at all. An event whose tenant
    has one of the same id and content is a duplicate and is not appended again;
    where either has no content, the id alone decides. With other content it is
    appended under an id that is made of both.
    Durability: when `append` returns, the batches survive the death of process
    and machine; `head` never names an event that could still be lost.
    """

    @property
    def epoch(self) -> str:
        """The name of this life of the log."""

    @property
    def head(self) -> int:
        """The newest offset; 0 if there never was an event."""

    @property
    def floor(self) -> int:
        """The newest offset that retention has deleted; 0 if none."""

    @property
    def trouble(self) -> Unavailable | None:
        """Why nothing can be appended now, as far as that is known without trying. With the code
        `REPLACED` nothing can be read either, until the log is opened again."""

    def on_append(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop after `head` has moved.

        Only a hint to look: calls may be merged, and one may be lost.
        """

    async def append(self, batches: Sequence[Sequence[Draft]]) -> list[Appended]:
        """Store batches durably; the result has one entry per batch.

        Raises `Unavailable` when nothing of it was stored, or, with the code
        `outcome_unknown`, when whoever was to store it is gone.
        """

    async def catch_up(self) -> None:
        """Move `head` to where the log stands now, where other processes append to it, too:
        what any of them has acknowledged before this call can be read after it."""

    async def read(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing | None = None
    ) -> Page:
        """Events with `after < offset <= until`, at most `limit` and a bounded
        number of bytes. May stop early with `reached < until`, but always
        advances. Raises `Overtaken` if `after < floor`.
        """

    def gives_lines(self, narrowing: Narrowing) -> bool:
        """Whether `read_lines` can answer this narrowing exactly."""

    async def read_lines(
        self, after: int, until: int, *, limit: int, narrowing: Narrowing
    ) -> Lines:
        """Like `read`, but exactly what is wanted and as JSON alone, without an object
        per event: nobody checks it again. Only where `gives_lines` says so.
        """

    async def find(self, event_id: str, tenant: str | None, after: int = 0) -> list[Event]:
        """The retained events behind `after` that stand under that id, at most one per tenant: the
        first FOUND_EVENTS of them."""

    async def last_before(self, micros: int) -> int:
        """The newest offset recorded before that time (microseconds since 1970);
        `floor` if none is."""

    async def trim(self, before_micros: int | None, max_bytes: int | None) -> int:
        """Delete from the oldest end what was recorded before `before_micros` and
        what exceeds `max_bytes` of stored JSON. Returns the number deleted, which
        is bounded: call again while it is not 0."""

    async def close(self) -> None:
        """End cleanly; nothing may be called afterwards."""


class Horizon(msgspec.Struct, frozen=True):
    """What new rows of a followed table wait for: since how many seconds, and for the transaction
    of which process and program, open for how long, where that is known."""

    seconds: float
    pid: int | None
    user: str | None
    application: str | None
    open_seconds: float | None


class Followed(Protocol):
    """A table of somebody else, whose rows are brought into the log in the background."""

    @property
    def name(self) -> str:
        """As SQL writes it."""

    @property
    def rows(self) -> int:
        """Rows that this process has brought in."""

    @property
    def marked(self) -> int:
        """How many of them made no event but one that says so."""

    @property
    def prefix(self) -> str:
        """What the ids of its rows begin with, unless a column holds them."""

    @property
    def trouble(self) -> GatewayError | None:
        """Why it cannot be followed now."""

    @property
    def waits(self) -> Horizon | None:
        """What its newest rows wait for, as of about a second ago."""


# Makes a note of the one there was before; None: there was none, or there shall be none.
Noting = Callable[[bytes | None], bytes | None]


# So many events of one id are found at a time: there may be one in each of very many tenants.
FOUND_EVENTS = 16
# So many keys are read at a time where all of them are.
PART_KEYS = 250


class KeyStore(Protocol):
    """Where provisioning keys live, and what is remembered about them.

    Ordering: every change gets a revision higher than all before it.
    Atomicity: one call is one change. Durability: a change has survived when
    the call returns; a note survives the process, and the machine a moment
    later. Another process may change keys and notes at any time.

    Changes of keys and roles are kept, in the same transaction, until somebody
    has written them into the log: none goes unrecorded, whoever makes it.
    Changes of what is kept elsewhere wait beside them, if they are handed over.
    """

    async def create(self, key: Key) -> None:
        """Add a key. Raises `Conflict` if its id is taken or its maker is revoked, `InvalidRequest`
        if it names a role that is not there."""

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

    async def revoke(self, key_id: str, at: float, reason: str) -> Key | None:
        """Mark a key revoked (the first reason stands); None if there is none such."""

    async def change(
        self, key_id: str, change: Callable[[Key], Key], *, create: Key | None = None
    ) -> Key | None:
        """Replace a key by what `change` makes of it, and add another key in the same change.

        None if there is none such. What `change` raises leaves everything as it was.
        """

    async def change_many(self, change: Callable[[list[Key]], Sequence[Key]]) -> list[Key]:
        """Replace several keys in one change: `change` is given all keys, and gives those that
        shall be other. What it raises leaves everything as it was."""

    async def put_role(
        self, role: Role, by: str | Operator = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str]:
        """Add a role, or replace the one of that name. `by`: a kid, a program's name, or who runs
        the command line. Keys that name a role which was not there lose its name first, in the
        same change: their ids. What `check` raises leaves everything as it was."""

    async def delete_role(
        self, name: str, by: str | Operator = "", at: float = 0.0, *, check: RoleCheck = allow_any
    ) -> list[str] | None:
        """Remove a role, and its name from the keys that have it, in one change: their ids. None if
        there is none such. What `check` raises leaves everything as it was."""

    async def roles(self) -> dict[str, Role]:
        """Every role that was put, by name."""

    async def roles_since(self, version: int) -> tuple[int, dict[str, Role | None]]:
        """The version of all roles, which rises with every change to one, and those that were put
        or deleted (None) after `version`. Cheap to ask for; -1 gives all of them. One below
        `version` says the same as with `changed_since`."""

    async def newest_revision(self) -> int:
        """The revision of the newest change to a key; 0 if there never was one."""

    async def changed_since(self, revision: int) -> tuple[int, list[Key]]:
        """The newest revision, and the keys changed after `revision`.

        One below `revision` says, once, that the store has lost changes, as a failover may: what
        was known may be of those, and revisions that were known are used again.
        """

    async def record_later(self, change: Change) -> None:
        """Let another change wait to be recorded; durable when this returns."""

    async def unrecorded(self, limit: int) -> dict[int, Change]:
        """The oldest changes that were not marked as recorded, in order, by number."""

    async def mark_recorded(self, numbers: Sequence[int]) -> None:
        """These changes are in the log."""

    async def note(self, kind: str, name: str) -> bytes | None:
        """One note."""

    async def notes(self, kind: str) -> dict[str, bytes]:
        """All notes of a kind, by name."""

    async def update_notes(self, kind: str, updates: Mapping[str, Noting]) -> None:
        """Replace notes, by name; nobody else changes notes in between."""

    async def wall_time(self) -> float | None:
        """The wall clock that all who use this store share, in seconds since 1970; None where that
        is the machine's own."""

    async def close(self) -> None:
        """End cleanly; nothing may be called afterwards."""
