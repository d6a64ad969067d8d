"""Rotation chains, along which successors inherit what is known of a key, and issuers of keys."""

from __future__ import annotations

from gateway.access.credentials.token import is_key_id
from gateway.access.keys.descent import ended_as_issuer
from gateway.access.keys.key import Key
from gateway.access.keys.key_lookup import KeyLookup
from gateway.access.keys.key_store import NotesOfKeys

_MOST_ROTATIONS = 50
_MOST_ORIGINS = 200


async def rotation_chain_of(keys: KeyLookup, key: Key) -> tuple[Key, ...]:
    """Keys of a rotation chain, the given one included, oldest first; of a long chain the
    nearest."""
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


async def lineage_of(keys: KeyLookup, key: Key) -> str:
    """Id of the first key of a rotation chain, which all keys of the chain have in common."""
    seen = {key.id}
    while key.predecessor and key.predecessor not in seen:
        before = await keys.get(key.predecessor)
        if before is None:
            break
        seen.add(before.id)
        key = before
    return key.id


async def key_and_predecessors(keys: KeyLookup, key_id: str) -> list[str]:
    """Ids of a key and its predecessors, newest first."""
    line = [key_id]
    for _ in range(_MOST_ROTATIONS):
        key = await keys.get(line[-1])
        if key is None or not key.predecessor:
            break
        line.append(key.predecessor)
    return line


async def predecessor_note(store: NotesOfKeys, kind: str, predecessor: str) -> bytes | None:
    """Note of a key's predecessor, or of the newest one before that which has a note."""
    for key_id in await key_and_predecessors(store, predecessor):
        document = await store.note(kind, key_id)
        if document is not None:
            return document
    return None


async def has_conflict_of_interest(keys: KeyLookup, reviewer: Key, about: Key) -> bool:
    """Whether the reviewer's key and the other one are of the same rotations, or the other is an
    origin of the reviewer's, or, unless the reviewer's was made by no key, descends from it."""
    if reviewer.id == about.id:
        return True
    mine, theirs = await _origins(keys, reviewer), await _origins(keys, about)
    line = await key_and_predecessors(keys, reviewer.id)
    if about.id in mine or reviewer.id in await key_and_predecessors(keys, about.id):
        return True
    delegated = not mine.issubset(line)
    return delegated and not theirs.isdisjoint(line)


async def is_own_case(keys: KeyLookup, reviewer: Key, about: Key) -> bool:
    """Whether the reviewer's key may not judge the other: they have the owner or rotations in
    common, it made the other or a predecessor, or it has a conflict of interest otherwise."""
    if about.owner.strip() and about.owner.strip().lower() == reviewer.owner.strip().lower():
        return True
    mine = {key.id for key in await rotation_chain_of(keys, reviewer)}
    for key in await rotation_chain_of(keys, about):
        if key.id in mine or key.created_by in mine:
            return True
    return await has_conflict_of_interest(keys, reviewer, about)


async def is_delegated(keys: KeyLookup, key: Key) -> bool:
    """Whether another key issued this one, or a predecessor of it."""
    return not (await _origins(keys, key)).issubset(await key_and_predecessors(keys, key.id))


async def _origins(keys: KeyLookup, key: Key) -> set[str]:
    """Ids of a key, its predecessors and issuers, and theirs; of many the nearest."""
    found = {key.id}
    waiting = [key]
    while waiting and len(found) <= _MOST_ORIGINS:
        last = waiting.pop(0)
        for key_id in (last.predecessor, last.created_by):
            if is_key_id(key_id) and key_id not in found:
                found.add(key_id)
                before = await keys.get(key_id)
                if before is not None:
                    waiting.append(before)
    return found


async def ended_issuer(keys: KeyLookup, key: Key, now: float) -> tuple[str, str] | None:
    """Id and end of the nearest issuer of a key that has ended or is suspended; None if all live.

    Issuers of issuers count as well. Rings, which no gateway makes, give no right.
    """
    seen = {key.id}
    while is_key_id(key.created_by):
        issuer_id = key.created_by
        if issuer_id in seen or len(seen) > _MOST_ORIGINS:
            return issuer_id, "too far away"
        seen.add(issuer_id)
        issuer = await keys.get(issuer_id)
        how = ended_as_issuer(issuer, now)
        if how is not None or issuer is None:
            return issuer_id, how or "gone"
        key = issuer
    return None
