"""Which keys came of which: makers, and what was made. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.keys import lifecycle
from gateway.keys.grant import Grant
from gateway.keys.key import Key
from gateway.keys.token import is_key_id


def can_mint(grants: Iterable[Grant]) -> bool:
    """Whether a key with these grants may make others."""
    return any(grant.effect == "allow" and "keys.admin" in grant.actions for grant in grants)


def descendants(keys: Iterable[Key], key_id: str) -> list[Key]:
    """The keys that a key has made, and those that they have made or that took over from them, and
    so on; each once. What took over from the key itself is among them only if it made it itself.
    """
    known = {key.id: key for key in keys}
    came_of: dict[str, list[Key]] = defaultdict(list)
    took_over: dict[str, list[Key]] = defaultdict(list)
    for key in known.values():
        came_of[key.created_by].append(key)
        took_over[key.predecessor].append(key)
    found: dict[str, Key] = {}
    waiting = [key_id]
    while waiting:
        name = waiting.pop(0)
        after = came_of[name] + (took_over[name] if name != key_id else [])
        for key in after:
            if key.id not in found and key.id != key_id:
                found[key.id] = key
                waiting.append(key.id)
    return list(found.values())


def living(keys: Iterable[Key], now: float) -> list[Key]:
    """Those that work, or may work again."""
    return [key for key in keys if key.state(now) not in ("revoked", "expired")]


def revoke_with_descendants(
    keys: Sequence[Key], key_id: str, now: float, reason: str, by: str
) -> list[Key]:
    """The key revoked, and with it all that came of it and lives; the key itself comes first.

    Not among them are those that cannot be read: they may do nothing, and nobody changes them.
    """
    root = next((key for key in keys if key.id == key_id), None)
    if root is None:
        raise NotFound("there is no key with this id", code="unknown_key")
    below = living(descendants(keys, key_id), now)
    ending = [root, *(key for key in below if not key.unreadable)]
    return [lifecycle.revoke(key, now, reason, by) for key in ending]


def ended_as_maker(maker: Key | None, now: float) -> str | None:
    """Why a key, as the maker of others, lends them no right to make more; None while it does.

    One that was rotated out lends it on: what took over from it lives no longer than it would.
    """
    if maker is None:
        return "gone"
    if maker.unreadable:
        return "unreadable"
    if maker.revoked_at is not None:
        return "revoked"
    if now >= maker.expires_at:
        return "expired"
    until = maker.suspended_until
    if maker.suspended_at is not None and (until is None or now < until):
        return "suspended"
    return None


def refuse_new(key: Key, missing_roles: Collection[str], maker: Key | None) -> None:
    """Raise if a key must not be added, in the same change that would add it."""
    for name in missing_roles:
        raise InvalidRequest(f"there is no role {name!r}", code="unknown_role")
    if is_key_id(key.created_by) and maker is not None and maker.revoked_at is not None:
        raise Conflict(
            f"the key {maker.id} that makes this one was revoked at the same time",
            code="maker_revoked",
        )
