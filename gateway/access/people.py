"""Persons as principals: keys without a token that hold the roles of who signs in elsewhere.

A person is found under an id that follows from the identity provider and who it is there, so that
policy, limits, records and streams know persons as they know keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import StoredKeys
from gateway.access.keys.operator import Person
from gateway.errors import Conflict, Forbidden

# So long after they have signed in, a person counts as gone, and so do keys that they made.
STAYS_SECONDS = 90 * 86400
PURPOSE = "signs in to the console"
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 12


def person_id(issuer: str, subject: str) -> str:
    """Id of a person: as long as that of a key, and the same for ever."""
    number = int.from_bytes(hashlib.sha256(f"{issuer}\n{subject}".encode()).digest())
    digits = []
    for _ in range(_ID_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def new_person(person: Person, roles: tuple[str, ...]) -> Key:
    """A person who signs in for the first time, as a key without grants of its own."""
    now = person.signed_in_at
    return Key(
        id=person_id(person.issuer, person.subject), digest=b"", name=person.name,
        owner=person.name, purpose=PURPOSE, roles=roles,
        created_at=now, expires_at=now + STAYS_SECONDS,
        created_by="gateway", changed_at=now, person=person,
    )  # fmt: skip


async def take_person(store: StoredKeys, person: Person, roles: tuple[str, ...]) -> Key:
    """Store that a person has signed in, with these roles; return them as a key.

    Raises `Forbidden` for one who was revoked or suspended.
    """
    key_id, now = person_id(person.issuer, person.subject), person.signed_in_at

    def signed_in(key: Key) -> Key:
        known = key.person
        if known is None or (known.issuer, known.subject) != (person.issuer, person.subject):
            raise Forbidden("somebody else has the id of this person", code="person_kept_out")
        return lifecycle.sign_in(key, person, roles, now + STAYS_SECONDS, now)

    changed = await store.change(key_id, signed_in)
    if changed is None:
        try:
            await store.create(new_person(person, roles))
        except Conflict:
            # They have signed in twice at the same moment.
            changed = await store.change(key_id, signed_in)
        else:
            changed = await store.get(key_id)
    assert changed is not None
    return changed


def known_roles(wanted: Collection[str], existing: Collection[str]) -> tuple[str, ...]:
    """Those of the roles that exist, in order."""
    return tuple(sorted(name for name in set(wanted) if name in existing))
