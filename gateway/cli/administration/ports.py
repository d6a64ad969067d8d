"""Ports of the administrative commands, with one implementation over the stores of the gateway and
one over its HTTP interface.

Answers are members as JSON has them, the same of both; errors are those of `gateway.errors`, with
the same codes. Each method is one look or one change. Looks are recorded before they answer. A
change is decided, made and recorded as one, by `gateway.access.administration` on either side; it
is durable when the method returns, and a running gateway heeds it within a second. Over HTTP a
connection that is lost raises `Unavailable`, after which it is not known whether the change was
made. `reason` is recorded with who made the change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

Members = dict[str, Any]


class KeyAdministration(Protocol):
    """Keys. Lists are in the order of their making."""

    def create(self, body: Members, reason: str) -> Members:
        """Make a key; the answer has its secret, which nothing shows again."""

    def all(self) -> list[Members]:
        """All keys, oldest first."""

    def show(self, key_id: str) -> Members:
        """One key, and when it was used last. Raises `NotFound`."""

    def change(self, key_id: str, patch: Members, reason: str) -> Members:
        """Change members of a key by a merge patch, whatever it is by then."""

    def rotate(
        self, key_id: str, overlap: str | None, reason: str, *, hold: bool = False
    ) -> Members:
        """Make a successor; the answer has its secret, which nothing shows again. With `hold` the
        overlap begins only once it is confirmed."""

    def confirm(self, key_id: str, reason: str) -> Members:
        """Confirm that the secret of a successor is where it is used; the old key drains."""

    def suspend(self, key_id: str, reason: str) -> Members:
        """Suspend a key until it is resumed."""

    def resume(self, key_id: str, reason: str) -> Members:
        """End a suspension."""

    def revoke(self, key_id: str, reason: str, *, with_descendants: bool) -> Members:
        """End a key for good, all or nothing with what came of it."""

    def document(self, key_id: str, kind: str) -> str:
        """What a key can see, as `markdown`, `html` or `json`."""

    def explain(self, key_id: str, question: Members) -> Members:
        """Why a key may or may not do something."""

    def simulate(self, key_id: str, proposal: Members) -> Members:
        """What other grants and roles would change for a key."""

    def history(self, key_id: str, since: str | None) -> Iterator[bytes]:
        """Records about a key as JSON, in the order of the log."""

    def usage(self, key_id: str, window: str, step: str) -> Members:
        """How much a key was used."""

    def stored(self) -> tuple[list[Members], list[Members]]:
        """All keys, and the roles that are not predefined, with the problems that the version that
        reads them finds in their grants."""


class RoleAdministration(Protocol):
    """Roles. A change of one is a change of all keys that have it, at once."""

    def all(self) -> list[Members]:
        """All roles, the predefined ones first."""

    def show(self, name: str) -> Members:
        """One role. Raises `NotFound`."""

    def put(self, name: str, body: Members, reason: str) -> Members:
        """Add a role, or replace the one of that name."""

    def delete(self, name: str, reason: str) -> list[str]:
        """Delete a role; the ids of the keys that had it."""


class DestinationCommands(Protocol):
    """Destinations. Lists are by name, dead letters in the order of the log."""

    def create(self, body: Members, reason: str) -> Members:
        """Make a destination, which begins to deliver."""

    def all(self) -> list[Members]:
        """All destinations with their health."""

    def show(self, name: str) -> Members:
        """One destination with its health. Raises `NotFound`."""

    def test(self, name: str) -> Members:
        """Send one event that is not in the log, from where the implementation runs."""

    def pause(self, name: str, reason: str) -> None:
        """Stop after the request that is under way."""

    def resume(self, name: str, reason: str) -> None:
        """Go on from the position."""

    def replay(self, name: str, body: Members) -> None:
        """Deliver a part of the log, or dead letters, a second time. The body has the reason."""

    def cancel_replay(self, name: str, reason: str) -> None:
        """End the replay that goes on."""

    def dead_letters(self, name: str, after: str, limit: int) -> list[Members]:
        """Pointers to events that the receiver did not take."""

    def set_secret(self, name: str, secret: str, body: Members, reason: str) -> None:
        """Set or rotate a secret. The body has its value, which nothing shows again."""

    def delete(self, name: str, reason: str) -> None:
        """Delete a destination with its position, secrets and dead letters."""


class AccessReviews(Protocol):
    """Reviews of access."""

    def report(self, kind: str, conditions: Sequence[tuple[str, str]]) -> bytes:
        """The report as `markdown`, `html`, `csv` or `json`, of keys that meet conditions, and
        since when: names of parameters of `GET /v1/review`, and their values."""


class FindingCommands(Protocol):
    """Findings, newest first."""

    def all(self, wanted: dict[str, str], limit: int) -> list[Members]:
        """Findings with these values of `key`, `signal` and `state`."""

    def mark(self, finding_id: str, reason: str, *, expected: bool) -> Members:
        """Silence the signal of a finding for what it is about, or let it be heard again. Refused
        to whom the finding is about."""


class StreamCommands(Protocol):
    """Live streams, which running processes alone know."""

    def all(self, query: dict[str, str]) -> Members:
        """Streams, and which processes did not answer."""

    def end(self, stream_id: str, reason: str) -> Members:
        """End a stream; its client comes back after a pause."""


class HealthCommands(Protocol):
    """Health of a gateway."""

    def status(self) -> Members:
        """What `GET /v1/status` answers; of a folder what is known without its processes, with
        `delivery` null unless it is certainly down."""

    def doctor(self) -> Members:
        """What `GET /v1/doctor` answers; of a folder the checks whose facts its stores have."""


class DeclarationCommands(Protocol):
    """Declared sets of roles, keys and destinations, as `gateway.declarations` reads them."""

    def plan(self, body: Members, *, prune: bool, make: bool = False) -> Members:
        """What applying the set would change. With `make` a folder without keys gets a store of
        them, as it is applied next; else it is an error, since its name may be mistyped."""

    def apply(self, body: Members, *, prune: bool, expect: str, reason: str) -> Members:
        """Apply the set if its plan has the digest `expect`: keys and roles in one change, then
        destinations. The answer has the secrets of keys that were made, which nothing shows
        again, and which wait to be confirmed."""
