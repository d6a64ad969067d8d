"""Life of a key: pure functions from a key to the key after a change.

    active -> suspended -> active      suspend, resume (or its end)
    active -> draining -> expired      rotate: the successor takes over within the overlap
    active -> active                   rotate and hold: until the successor is confirmed, or revoked
    any    -> revoked                  revoke; for good

Each changed key says what the change was and who made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from gateway.access.credentials.pepper import pepper_id
from gateway.access.credentials.token import digest, new_token
from gateway.access.keys.key import Key
from gateway.access.keys.operator import Actor, Person, actor_name, operator_of
from gateway.clock import format_time, parse_duration
from gateway.errors import ChangedMeanwhile, Conflict, Forbidden, InvalidRequest
from gateway.sanitize import clean

Changing = Callable[[Key], Key]

MAX_REASON = 256
# How long a held rotation waits for its confirmation.
CONFIRM_SECONDS = 3600
NOT_CONFIRMED = "not confirmed in time"
# A predecessor whose successor is in use ends once it was idle for so long (seconds).
IDLE_WHEN_REPLACED = 900
# What nobody changes of a person but the identity provider.
_OF_PROVIDER = ("name", "owner", "grants", "roles", "expires_at", "rotate")


def check_reason(reason: object, member: str = "reason") -> str:
    """Check and clean the reason for a change. Tokens are cut out rather than refused, as a
    revocation of a leaked key is urgent."""
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise InvalidRequest(f"{member}: a string of at most {MAX_REASON} characters")
    return clean(reason)


def check_overlap(text: object, most: int) -> int:
    """Parse an overlap such as `1h` into seconds, at most `most`."""
    if not isinstance(text, str):
        raise InvalidRequest("overlap: a duration such as 1h is needed")
    try:
        overlap = parse_duration(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"overlap: {error.detail}") from None
    if overlap > most:
        raise InvalidRequest(f"overlap: at most {most // 3600} hours (setting keys.max_overlap)")
    return overlap


def revoke(key: Key, now: float, reason: str, by: Actor = "") -> Key:
    """Revoke for good; the first reason is kept."""
    if key.revoked_at is not None:
        return key
    revoked = msgspec.structs.replace(key, revoked_at=now, revoked_reason=reason)
    return _changed(revoked, "revoked", now, by)


def suspend(
    key: Key, now: float, reason: str, until: float | None = None, *, by: Actor = ""
) -> Key:
    """Suspend until `resume`, or until a time."""
    _refuse_ended(key, now, "suspended")
    suspended = msgspec.structs.replace(
        key, suspended_at=now, suspended_until=until, suspended_reason=reason
    )
    return _changed(suspended, "suspended", now, by)


def throttle(key: Key, now: float, until: float, *, by: Actor = "") -> Key:
    """Lower the limits of a key until a time."""
    _refuse_ended(key, now, "throttled")
    throttled = msgspec.structs.replace(key, throttled_until=until)
    return _changed(throttled, "throttled", now, by)


def resume(key: Key, now: float, by: Actor = "") -> Key:
    """End a suspension."""
    if key.state(now) != "suspended":
        raise Conflict(f"key {key.id} is {key.state(now)}, not suspended", code="not_suspended")
    resumed = msgspec.structs.replace(
        key, suspended_at=None, suspended_until=None, suspended_reason=""
    )
    return _changed(resumed, "resumed", now, by)


def review(key: Key, now: float, note: str, by: Actor = "") -> Key:
    """Mark as reviewed; the newest review is kept."""
    reviewed = msgspec.structs.replace(
        key, reviewed_at=now, reviewed_by=actor_name(by), reviewed_note=note
    )
    return _changed(reviewed, "reviewed", now, by)


def edit(key: Key, after: Key, now: float, by: Actor = "") -> Key:
    """Change what a key is for and may do; the key itself if nothing differs."""
    _refuse_ended(key, now, "changed")
    if key.person is not None and any(
        getattr(after, name) != getattr(key, name) for name in _OF_PROVIDER
    ):
        raise Conflict(
            f"{key.id} is a person, whose name and roles come from the identity provider: change "
            "their groups there, or suspend or revoke them here",
            code="is_person",
        )
    return key if after == key else _changed(after, "changed", now, by)


def rotate(
    key: Key,
    now: float,
    *,
    overlap: int,
    max_life: int,
    pepper: bytes,
    by: Actor = "",
    hold: bool = False,
) -> tuple[Key, Key, str]:
    """`(predecessor, successor, token)` of a rotation.

    The successor has the same rights, and lives as long as the key was issued for, at most
    `max_life` seconds. The predecessor drains for `overlap` seconds at most; with `hold` only
    from when the successor is confirmed.
    """
    if key.state(now) != "active":
        raise Conflict(
            f"key {key.id} is {key.state(now)}; only an active key is rotated", code="not_active"
        )
    refuse_person(key, "to rotate")
    if key.break_glass:
        raise Conflict(
            f"key {key.id} was made for an emergency and has no successor: make another one by "
            "`audit-gateway keys break-glass`, with its own reason",
            code="break_glass",
        )
    key_id, token = new_token()
    life = min(key.expires_at - key.created_at, max_life)
    successor = msgspec.structs.replace(
        key,
        id=key_id,
        digest=digest(pepper, token),
        pepper=pepper_id(pepper),
        created_at=now,
        expires_at=now + life,
        predecessor=key.id,
        pseudonym_domain=key.domain,
        suspended_at=None,
        suspended_until=None,
        suspended_reason="",
        throttled_until=None,
        reviewed_at=None,
        reviewed_by="",
        reviewed_note="",
        pending_successor="",
        confirm_by=now + CONFIRM_SECONDS if hold else None,
        held_overlap=overlap if hold else 0,
        revision=0,
    )
    predecessor = (
        msgspec.structs.replace(key, pending_successor=key_id)
        if hold
        else msgspec.structs.replace(
            key, successor=key_id, drains_until=now + overlap, pending_successor=""
        )
    )
    return (
        _changed(predecessor, "rotation_held" if hold else "rotated", now, by),
        _changed(successor, "created", now, by),
        token,
    )


def waits(key: Key, now: float) -> bool:
    """Whether a successor waits to be confirmed."""
    return key.confirm_by is not None and is_living(key, now)


def refuse_waiting(key: Key, now: float) -> None:
    """Raise for a successor that waits: another rotation would leave it behind."""
    if waits(key, now):
        raise Conflict(
            f"the successor {key.id} waits to be confirmed until "
            f"{format_time(key.confirm_by or now)}: confirm it, revoke it, or wait",
            code="rotation_pending",
        )


def confirm(keys: Iterable[Key], key_id: str, now: float, by: Actor = "") -> list[Key]:
    """The keys of a held rotation once its successor, of that id, is confirmed: the predecessor
    drains. None if it was confirmed already. Raises `Conflict` if it has ended."""
    known = {key.id: key for key in keys}
    successor = known[key_id]
    _refuse_ended(successor, now, "confirmed")
    if successor.confirm_by is None:
        return []
    confirmed = msgspec.structs.replace(successor, confirm_by=None, held_overlap=0)
    changed = [_changed(confirmed, "confirmed", now, by)]
    before = known.get(successor.predecessor)
    if before is not None and before.pending_successor == key_id and is_living(before, now):
        drains = msgspec.structs.replace(
            before, pending_successor="", successor=key_id,
            drains_until=now + successor.held_overlap,
        )  # fmt: skip
        changed.append(_changed(drains, "rotated", now, by))
    return changed


def give_up(keys: Iterable[Key], key_id: str, now: float, reason: str, by: Actor = "") -> list[Key]:
    """The keys of a held rotation that has failed: its successor, of that id, is revoked, and the
    predecessor works on. None if it was confirmed, or given up before."""
    known = {key.id: key for key in keys}
    successor = known[key_id]
    if not waits(successor, now):
        return []
    changed = [revoke(successor, now, reason, by)]
    before = known.get(successor.predecessor)
    if before is not None and before.pending_successor == key_id:
        kept = msgspec.structs.replace(before, pending_successor="")
        changed.append(_changed(kept, "rotation_failed", now, by))
    return changed


def rehash(key: Key, was: Key, now: float, *, pepper: bytes, token: str) -> Key:
    """Store the digest of `token`, the token of `was`, under another pepper."""
    if (key.digest, key.pepper) != (was.digest, was.pepper):
        # Another process was first.
        return key
    rehashed = msgspec.structs.replace(key, digest=digest(pepper, token), pepper=pepper_id(pepper))
    return _changed(rehashed, "rehashed", now, "gateway")


def unless_changed(key: Key, replacement: Key) -> Changing:
    """Change to `replacement`, refused if the key has changed since it was read."""

    def change(current: Key) -> Key:
        if current.revision != key.revision:
            raise ChangedMeanwhile(f"key {key.id} was changed at the same time; look again")
        return replacement

    return change


def sign_in(key: Key, person: Person, roles: tuple[str, ...], until: float, now: float) -> Key:
    """Note that a person has signed in, with these roles. Raises if they are kept out."""
    if key.state(now) in ("revoked", "suspended", "unreadable"):
        raise Forbidden(
            f"{person.name} is {key.state(now)} here: ask who answers for the gateway",
            code="person_kept_out",
        )
    named = msgspec.structs.replace(
        key, person=person, name=person.name, owner=person.name, expires_at=until
    )
    if key.roles == roles:
        return _changed(named, "signed_in", now, "gateway")
    return take_roles(named, roles, now)


def take_roles(key: Key, roles: tuple[str, ...], now: float) -> Key:
    """The roles that the identity provider gives a person now; they are to be reviewed anew."""
    if key.roles == roles:
        return key
    given = msgspec.structs.replace(
        key, roles=roles, reviewed_at=None, reviewed_by="", reviewed_note=""
    )
    return _changed(given, "roles_given", now, "gateway")


def without_role(key: Key, name: str, now: float, by: Actor) -> Key:
    """Remove a deleted role from a key, as a later role of that name is another one."""
    if name not in key.roles:
        return key
    roles = tuple(role for role in key.roles if role != name)
    return _changed(msgspec.structs.replace(key, roles=roles), "role_removed", now, by)


def end_draining(key: Key, now: float) -> Key:
    """End the overlap of an idle key whose successor is in use."""
    ended = msgspec.structs.replace(key, drains_until=min(now, key.ends_at))
    return _changed(ended, "drained", now, "gateway")


def _changed(key: Key, change: str, now: float, by: Actor) -> Key:
    return msgspec.structs.replace(
        key,
        change=change,
        changed_by=actor_name(by),
        changed_from=operator_of(by),
        changed_at=now,
    )


def _refuse_ended(key: Key, now: float, what: str) -> None:
    state = key.state(now)
    if state in ("revoked", "expired"):
        raise Conflict(f"key {key.id} is {state} and cannot be {what}", code="key_ended")


def refuse_person(key: Key, what: str) -> None:
    """Raise for a person, as whom nothing is done without them."""
    if key.person is not None:
        raise Conflict(
            f"{key.id} is a person, who signs in by the identity provider and has no key {what}",
            code="is_person",
        )


def is_living(key: Key, now: float) -> bool:
    """Whether a key works, or may work again."""
    return key.state(now) not in ("revoked", "expired")


def living_by_pepper(keys: Iterable[Key], now: float) -> dict[str, list[Key]]:
    """Living keys by the id of their pepper."""
    found: dict[str, list[Key]] = {}
    for key in keys:
        # Persons have no digest.
        if is_living(key, now) and key.person is None:
            found.setdefault(key.pepper, []).append(key)
    return found
