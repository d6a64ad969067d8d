"""Plan of a declared set: the changes that make what is there what is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec

from gateway.access.grants.role import Role
from gateway.access.keys.key import Key
from gateway.clock import Moment
from gateway.delivery.definition import Definition
from gateway.json_members import about

Mark = Literal["+", "~", "-", "=", "↻", "!"]
Kind = Literal["role", "key", "destination"]
_MARK = about(
    "`+` made, `~` changed, `-` ended or deleted, `=` as declared, `↻` made anew as it has ended, "
    "`!` made by the set, which does not name it any more: stays without `prune`."
)
_WIDENS = about("Whether somebody may do or see more by it.")
_MEMBERS = about("What differs, each as `{old, new}`.")
# Changes that are encoded in one step.
_AT_ONCE = 100
_ENCODE = msgspec.json.Encoder(order="sorted").encode


class Drift(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of a declared object that no declaration made: who made the newest one, and when."""

    by: str
    at: Moment = ""


class AffectedStream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A live stream that would narrow or end."""

    id: str
    key: str
    name: Annotated[str, about("Of its key.")] = ""
    effect: Literal["narrows", "ends"]


class PlannedChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a plan. Sentences say what is new, and what is not any more."""

    mark: Annotated[Mark, _MARK]
    kind: Kind
    name: str
    id: Annotated[str, about("Of a key that is there.")] = ""
    widens: Annotated[bool, _WIDENS] = False
    newly: list[str] = []
    no_more: list[str] = []
    members: Annotated[dict[str, Any], _MEMBERS] = {}
    drift: Drift | None = None
    reason: str = ""
    holders: Annotated[list[str], about("Ids of keys that have the role, at most 20.")] = []
    holders_count: int = 0


class DestinationAct(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done about a destination: `definition` is what it becomes, None for one that
    is deleted; `key` names a declared key, whose id stands in the definition if it is known."""

    name: str
    definition: Definition | None
    key: str = ""
    new: bool = False
    secrets: dict[str, str] = {}


class DeclarationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of a plan, and what they are made of: roles to put and to delete, keys to change, to
    revoke and to make (by name), acts on destinations. `seen` are the revisions of keys and roles
    that were read; `digest` tells plans apart, of equal sets over equal stores they are equal."""

    set: str
    prune: bool
    changes: list[PlannedChange]
    digest: str
    roles: list[Role] = []
    deleted_roles: list[str] = []
    keys: list[tuple[Key, Key]] = []
    revoked: list[Key] = []
    made: list[str] = []
    destinations: list[DestinationAct] = []
    # Ids of keys whose rights narrow, and of keys that end.
    narrowed: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()

    @property
    def empty(self) -> bool:
        """Whether nothing would be changed."""
        return all(one.mark in "=!" for one in self.changes)


def counts_of(changes: Iterable[PlannedChange]) -> dict[str, int]:
    """Numbers of changes by mark."""
    counts: dict[str, int] = {}
    for one in changes:
        counts[one.mark] = counts.get(one.mark, 0) + 1
    return counts


def digest_of_plan(
    name: str, prune: bool, changes: list[PlannedChange], seen: dict[str, str]
) -> Generator[None, None, str]:
    """Digest of a plan and of the revisions that it was made from, in steps."""
    digest = hashlib.sha256(_ENCODE([name, prune, len(changes)]))
    revisions = sorted(seen.items())
    parts: tuple[Sequence[object], ...] = (changes, revisions)
    for part in parts:
        for start in range(0, len(part), _AT_ONCE):
            yield
            digest.update(_ENCODE(part[start : start + _AT_ONCE]))
    return digest.hexdigest()


def in_order(changes: Iterable[PlannedChange]) -> list[PlannedChange]:
    """Changes, what widens first; then what is left as it is."""
    kinds = ("role", "key", "destination")

    def place(one: PlannedChange) -> tuple[int, bool, int, str, str]:
        late = {"!": 1, "=": 2}.get(one.mark, 0)
        return late, not one.widens, kinds.index(one.kind), one.name, one.id

    return sorted(changes, key=place)
