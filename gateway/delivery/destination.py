"""Stored destination: its definition, sealed secrets and state, and how they change. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from gateway.delivery.definition import Definition
from gateway.errors import Conflict

# `failing` is derived from the last attempts, and not stored.
State = Literal["active", "paused", "disabled"]
# `http` for calls and the command line, `config`, or its declaration as `<set>/<name>`.
ManagedBy = str
# Reasons for which the gateway itself disables one.
KEY_REVOKED, KEY_EXPIRED, KEY_SUSPENDED = "key_revoked", "key_expired", "key_suspended"
# Ends of replays beside these.
DONE, CANCELLED, OTHER_LOG = "done", "cancelled", "other_log"
# Secret of the client certificate, of all types that connect.
TLS_KEY = "tls_key"
GONE, SECRET_MISSING, TOO_MANY_REJECTED = "gone", "secret_missing", "too_many_rejected"
# Of their rows among those of consumers; no id of a key has a colon.
OWNER = "gateway:destinations"
# More dead letters disable a destination.
MOST_DEAD_LETTERS = 10_000
_LOGGER = logging.getLogger(__name__)


class SealedSecret(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Secret as it is stored, sealed under the pepper of that id. `until`: when it ends, for one
    that was replaced; 0 if it was not."""

    pepper: str
    sealed: bytes
    set_at: float
    fingerprint: str
    until: float = 0.0


class Replay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A second pass behind `begin` up to `until`, over all events or over dead letters by their
    cursors. `outcome` is `done`, `cancelled`, or why it was given up; it is empty while it goes on.
    """

    begin: str
    until: str
    dead_letters: tuple[str, ...] = ()
    by: str
    reason: str = ""
    started_at: float
    ended_at: float = 0.0
    outcome: str = ""
    cursor: str = ""
    delivered: int = 0
    rejected: int = 0


class Destination(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One destination. `secrets` are the values of each name, newest first."""

    definition: Definition
    secrets: dict[str, tuple[SealedSecret, ...]] = {}
    state: State = "active"
    reason_code: str = ""
    # What the person said who paused or resumed it.
    reason: str = ""
    since: float
    by: str = ""
    created_at: float
    created_by: str = ""
    managed_by: ManagedBy = "http"
    # Digest of the declared members as they were applied last, and the newest change of them.
    declared: str = ""
    changed_by: str = ""
    changed_at: float = 0.0
    replay: Replay | None = None
    # Version of all destinations when it was changed last.
    revision: int = 0

    @property
    def name(self) -> str:
        return self.definition.name


_decode = msgspec.json.Decoder(Destination).decode


def decode_destination(document: bytes) -> Destination:
    """Destination from its stored document. Raises `Conflict` for one of a newer version."""
    try:
        return _decode(document)
    except msgspec.ValidationError as error:
        raise Conflict(
            f"a newer version of the gateway has written this destination ({error}); use that one",
            code="unreadable_destination",
        ) from None


def decode_destinations(documents: Iterable[bytes]) -> list[Destination]:
    """Destinations from their documents, without those of a newer version: they are left to it,
    and hold up no others."""
    found = []
    for document in documents:
        try:
            found.append(decode_destination(document))
        except Conflict as error:
            _LOGGER.warning("a destination is not delivered: %s", error.detail)
    return found


def paused(destination: Destination, now: float, by: str, reason: str) -> Destination:
    """The destination after a person has paused it."""
    if destination.state == "paused":
        raise Conflict("it is paused already", code="already_paused")
    return replace(destination, state="paused", reason_code="", reason=reason, since=now, by=by)


def resumed(destination: Destination, now: float, by: str, reason: str) -> Destination:
    """The destination after a person has had it go on, whoever stopped it."""
    if destination.state == "active":
        raise Conflict("it is neither paused nor disabled", code="not_paused")
    return replace(destination, state="active", reason_code="", reason=reason, since=now, by=by)


def same_replay(one: Replay | None, other: Replay) -> bool:
    """Whether both are one replay, however far each says that it is."""
    if one is None:
        return False
    return (one.started_at, one.begin, one.until) == (other.started_at, other.begin, other.until)


def without_replay(destination: Destination, now: float) -> Destination:
    """The destination after its replay was cancelled."""
    replay = destination.replay
    if replay is None or replay.outcome:
        raise Conflict("no replay goes on", code="no_replay")
    return replace(destination, replay=replace(replay, outcome=CANCELLED, ended_at=now))


def replaying(known: Destination, replay: Replay) -> Callable[[Destination], Destination]:
    """Change that begins a replay of what the key may see for which it was permitted."""

    def begin(destination: Destination) -> Destination:
        check_same_key(destination, known)
        running = destination.replay is not None and not destination.replay.outcome
        if running:
            raise Conflict(
                "a replay is going on; GET shows how far it is, and DELETE .../replay cancels it",
                code="replay_running",
            )
        if destination.state != "active":
            raise Conflict(f"it is {destination.state}; resume it first", code="not_active")
        return replace(destination, replay=replay)

    return begin


def disabled(destination: Destination, now: float, reason_code: str) -> Destination:
    """The destination after the gateway has disabled it; a person's pause stays."""
    if destination.state != "active":
        return destination
    return replace(
        destination, state="disabled", reason_code=reason_code, reason="", since=now, by=""
    )


def with_secret(
    destination: Destination, name: str, secret: SealedSecret, overlap: float, now: float
) -> Destination:
    """The destination with a new value of a secret; the old one ends after the overlap."""
    before = destination.secrets.get(name, ())
    kept = (replace(before[0], until=now + overlap),) if before and overlap > 0 else ()
    return replace(destination, secrets={**destination.secrets, name: (secret, *kept)})


def without_ended_secrets(destination: Destination, now: float) -> Destination:
    """The destination without replaced values whose overlap is over; itself if it has none."""
    kept = {name: valid_secrets(destination, name, now) for name in destination.secrets}
    return destination if kept == destination.secrets else replace(destination, secrets=kept)


def valid_secrets(destination: Destination, name: str, now: float) -> tuple[SealedSecret, ...]:
    """Values of a secret that count now, newest first."""
    found = destination.secrets.get(name, ())
    return tuple(one for one in found if not one.until or now < one.until)


def changeable(destination: Destination) -> Destination:
    """The destination, if people may change it."""
    if destination.managed_by == "config":
        raise Conflict(
            f"{destination.name} is defined in the configuration of the gateway; change it there",
            code="managed_by_config",
        )
    return destination


def same_definition(one: Destination, other: Destination) -> bool:
    """Whether both are one destination, with all that people define of it, whatever its state, and
    whether replaced values of secrets are there still."""
    mine, theirs = (
        (it.definition, {name: values[0] for name, values in it.secrets.items()}, it.created_at)
        for it in (one, other)
    )
    return mine == theirs


def redefined(known: Destination, changed: Destination) -> Callable[[Destination], Destination]:
    """Change of definition and secrets, if they still are as they were known. State and replay
    stay as they are now: the gateway itself moves them, and a pause meanwhile loses nothing."""

    def change(before: Destination) -> Destination:
        if not same_definition(before, known):
            raise _changed_meanwhile(known)
        return replace(
            before, definition=changed.definition, secrets=changed.secrets,
            managed_by=changed.managed_by, declared=changed.declared,
            changed_by=changed.changed_by, changed_at=changed.changed_at,
        )  # fmt: skip

    return change


def check_same_key(destination: Destination, known: Destination) -> None:
    """Raise `Conflict` if it delivers for another key than when a change was permitted."""
    if destination.definition.key != known.definition.key:
        raise _changed_meanwhile(known)


def _changed_meanwhile(known: Destination) -> Conflict:
    return Conflict(
        f"{known.name} was changed meanwhile; look at it, and try again", code="changed_meanwhile"
    )
