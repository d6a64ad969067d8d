"""Keys that took over from each other by rotation: what is known of one counts for the next."""

from __future__ import annotations

from typing import Protocol

from gateway.keys.key import Key
from gateway.store.ports import KeyStore

_MOST_ROTATIONS = 50


class Keys(Protocol):
    """The key store, or what has its keys in memory."""

    async def get(self, key_id: str) -> Key | None:
        """The key with that id."""


async def line_of(keys: Keys, key: Key) -> tuple[Key, ...]:
    """The keys that took over from each other by rotation, the given one among them, the oldest
    first; of very many the nearest."""
    before, after = key, key
    line = [key]
    for _ in range(_MOST_ROTATIONS):
        found = await keys.get(before.predecessor) if before.predecessor else None
        if found is None:
            break
        before = found
        line.insert(0, found)
    for _ in range(_MOST_ROTATIONS):
        found = await keys.get(after.successor) if after.successor else None
        if found is None:
            break
        after = found
        line.append(found)
    return tuple(line)


async def line_back(keys: Keys, key_id: str) -> list[str]:
    """The id of a key, and of those that it took over from, the newest first."""
    line = [key_id]
    for _ in range(_MOST_ROTATIONS):
        key = await keys.get(line[-1])
        if key is None or not key.predecessor:
            break
        line.append(key.predecessor)
    return line


async def note_before(store: KeyStore, kind: str, predecessor: str) -> bytes | None:
    """What is noted of a key's predecessor, or of the newest before that of which there is any."""
    for key_id in await line_back(store, predecessor):
        document = await store.note(kind, key_id)
        if document is not None:
            return document
    return None
