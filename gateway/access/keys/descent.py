"""Descent of keys: which key issued which, and which took over from which. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence

from gateway.access.credentials.token import is_key_id
from gateway.access.grants.grant import Grant
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_lookup import refuse_unknown
from gateway.access.keys.operator import Actor
from gateway.errors import Conflict, InvalidRequest


def can_issue_keys(grants: Iterable[Grant]) -> bool:
    """Whether a key with these grants may issue others."""
    return any(grant.effect == "allow" and "keys.admin" in grant.actions for grant in grants)


class Descent:
    """Descent of keys that are added one by one; keeps little of each."""

    def __init__(self) -> None:
        self._made: defaultdict[str, list[str]] = defaultdict(list)
        self._took_over: defaultdict[str, list[str]] = defaultdict(list)
        self._living: set[str] = set()

    def add(self, key: Key, now: float) -> None:
        """Add a key; each is added once."""
        self._made[key.created_by].append(key.id)
        if key.predecessor:
            self._took_over[key.predecessor].append(key.id)
        if lifecycle.is_living(key, now):
            self._living.add(key.id)

    def below(self, key_id: str) -> Iterator[str]:
        """Ids of all descendants of a key, each once, the nearest first: keys that it or they
        issued, and successors of those. Its own successor is one only if it issued it itself."""
        found = {key_id}
        waiting = deque([key_id])
        while waiting:
            name = waiting.popleft()
            made, took_over = self._made.get(name, ()), self._took_over.get(name, ())
            for after in (*made, *(took_over if name != key_id else ())):
                if after not in found:
                    found.add(after)
                    waiting.append(after)
                    yield after

    def living(self, key_id: str) -> Generator[None, None, list[str]]:
        """Ids of its living descendants; in steps."""
        living = []
        for name in self.below(key_id):
            if name in self._living:
                living.append(name)
            yield
        return living


def descendants(keys: Iterable[Key], key_id: str) -> list[Key]:
    """Descendants of a key."""
    descent, known = Descent(), {key.id: key for key in keys}
    for key in known.values():
        descent.add(key, 0.0)
    return [known[name] for name in descent.below(key_id)]


def revoke_with_descendants(
    keys: Sequence[Key], key_id: str, now: float, reason: str, by: Actor
) -> list[Key]:
    """The revoked key, followed by its living descendants, revoked. Unreadable ones, which may do
    nothing and which nobody changes, are left out."""
    root = refuse_unknown(next((key for key in keys if key.id == key_id), None))
    below = (key for key in descendants(keys, key_id) if lifecycle.is_living(key, now))
    ending = [root, *(key for key in below if not key.unreadable)]
    return [lifecycle.revoke(key, now, reason, by) for key in ending]


def ended_as_issuer(issuer: Key | None, now: float) -> str | None:
    """Why keys that this one issued may issue none any more; None while they may.

    After its rotation they still may: its successor lives no longer than it would have.
    """
    if issuer is None:
        return "gone"
    if issuer.unreadable:
        return "unreadable"
    if issuer.revoked_at is not None:
        return "revoked"
    if now >= issuer.expires_at:
        return "expired"
    until = issuer.suspended_until
    if issuer.suspended_at is not None and (until is None or now < until):
        return "suspended"
    return None


def check_new_key(key: Key, missing_roles: Collection[str], issuer: Key | None) -> None:
    """Raise if a key must not be added. Called within the change that adds it."""
    for name in missing_roles:
        raise InvalidRequest(f"there is no role {name!r}", code="unknown_role")
    if is_key_id(key.created_by) and issuer is not None and issuer.revoked_at is not None:
        raise Conflict(
            f"the key {issuer.id} that makes this one was revoked at the same time",
            code="maker_revoked",
        )
