"""Sessions of the console: opened by a key, found by a cookie, ended everywhere within a second."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from gateway.access.credentials.session import (
    KIND,
    MOST_OF_KEY,
    NOTED_SECONDS,
    Confirmation,
    Session,
    decoded,
    encoded,
    new_secret,
    session_id,
)
from gateway.access.keys.key_store import Notes, Noting
from gateway.clock import Clock

# A session ended by another process is refused here after so many seconds at most.
_KNOWN_SECONDS = 0.5
_MOST_KNOWN = 4096
_AT_A_TIME = 500


class _Known(NamedTuple):
    """What the store said of a session, and when (monotonic seconds)."""

    session: Session | None
    at: float


class Sessions:
    """All sessions of a gateway, in the notes of its key store.

    Atomicity: opening and ending are one change each. Durability: that of notes. Another process
    that ends a session is heard within half a second.
    """

    def __init__(self, store: Notes, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._listeners: list[Callable[[str], None]] = []

    def on_end(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the id of each session that this process has ended."""
        self._listeners.append(listener)

    async def open(
        self, key_id: str, address: str, client: str, confirmed: Confirmation | None = None
    ) -> tuple[str, Session]:
        """Open a session of a key; return the secret for its cookie, and the session."""
        now, secret = self._clock.now(), new_secret()
        opened = session_id(secret)
        assert opened is not None
        session = Session(opened, key_id, now, now, address, client, confirmed)
        of_key = [one for one in await self.all() if one.key_id == key_id]
        of_key.sort(key=lambda one: one.used_at)
        surplus = of_key[: max(len(of_key) - MOST_OF_KEY + 1, 0)]
        await self._store.update_notes(
            KIND, {session.id: _set_to(encoded(session)), **_gone(one.id for one in surplus)}
        )
        self._forget(one.id for one in surplus)
        return secret, session

    async def find(self, secret: str) -> Session | None:
        """The session of a cookie that has not ended; None if there is none."""
        found = session_id(secret)
        return None if found is None else await self.get(found)

    async def get(self, found: str) -> Session | None:
        """The session of that id that has not ended; known for half a second at most."""
        now, known = self._clock.monotonic(), self._known.get(found)
        if known is None or now - known.at >= _KNOWN_SECONDS:
            note = await self._store.note(KIND, found)
            known = _Known(None if note is None else decoded(note), now)
            if known.session is None:
                self._known.pop(found, None)
                return None
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[found] = known
        session = known.session
        return None if session is None or session.is_over(self._clock.now()) else session

    async def use(self, session: Session) -> None:
        """Note that a person has done something with a session, which then goes on for longer."""
        now = self._clock.now()
        if now - session.used_at < NOTED_SECONDS:
            return

        def used(note: bytes | None) -> bytes | None:
            before = None if note is None else decoded(note)
            # It may have been ended meanwhile.
            if before is None:
                return note
            return encoded(msgspec.structs.replace(before, used_at=max(now, before.used_at)))

        await self._store.update_notes(KIND, {session.id: used})
        self._known.pop(session.id, None)

    async def claim(self, session: Session) -> Session | None:
        """Note that this process has its person confirmed; None if another does, or it is over."""
        now, claimed = self._clock.now(), []

        def claim(note: bytes | None) -> bytes | None:
            before = None if note is None else decoded(note)
            if before is None or before.confirmed is None or not before.confirmed.is_due(now):
                return note
            tried = msgspec.structs.replace(before.confirmed, tried_at=now)
            claimed.append(msgspec.structs.replace(before, confirmed=tried))
            return encoded(claimed[-1])

        await self._store.update_notes(KIND, {session.id: claim})
        return claimed[-1] if claimed else None

    async def confirm(self, session_id: str, confirmed: Confirmation) -> None:
        """Note that the identity provider has confirmed the person of a session."""

        def confirm(note: bytes | None) -> bytes | None:
            before = None if note is None else decoded(note)
            # It may have been ended meanwhile.
            if before is None:
                return note
            return encoded(msgspec.structs.replace(before, confirmed=confirmed))

        await self._store.update_notes(KIND, {session_id: confirm})
        self._known.pop(session_id, None)

    async def end(self, ids: Iterable[str]) -> None:
        """End sessions; those that are over already are passed over."""
        ended = list(ids)
        await self._store.update_notes(KIND, _gone(ended))
        self._forget(ended)

    async def all(self) -> list[Session]:
        """All sessions that have not ended, oldest first; those that are over are removed."""
        now, found, over, after = self._clock.now(), [], [], ""
        while True:
            notes = await self._store.notes(KIND, after, _AT_A_TIME)
            for name, note in notes.items():
                session = decoded(note)
                if session is None or session.is_over(now):
                    over.append(name)
                else:
                    found.append(session)
                after = name
            if len(notes) < _AT_A_TIME:
                break
        if over:
            await self.end(over)
        return sorted(found, key=lambda one: (one.created_at, one.id))

    def _forget(self, ids: Iterable[str]) -> None:
        for ended in ids:
            self._known.pop(ended, None)
            for listener in self._listeners:
                listener(ended)


def _gone(ids: Iterable[str]) -> dict[str, Noting]:
    return {one: lambda _: None for one in ids}


def _set_to(content: bytes) -> Noting:
    return lambda _: content
