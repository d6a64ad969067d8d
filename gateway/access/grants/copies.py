"""Copies: members of `data` that repeat others, so that what hides these hides their copies.

The gateway's own records have them, and events that were made of records of others: each source
declares which members of its records it took. Events of most sources are known by the first word of
their category. Those of sources whose categories are anybody's are known by the record that stands
under `data`: by the names in it first, which is quick, and by the test of the source then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from gateway.event import Event
from gateway.filters.scope import RESERVED

# Paths of `data`, and the members that they copy.
Copies = Mapping[str, tuple[str, ...]]
# Says whether decoded `data` is a record of one kind. It can be sent to another process.
RecordTest = Callable[[dict[str, Any]], bool]
_KEY_IDS = ("targets.urn", "targets.id")
OWN_COPIES: Copies = {
    "data.address": ("source.ip",),
    "data.networks": ("source.ip",),
    "data.client": ("source.user_agent",),
    "data.clients": ("source.user_agent",),
    "data.whose.address": ("source.ip",),
    "data.whose.key": ("actor.id", "actor.key_id", *_KEY_IDS),
    "data.key": _KEY_IDS,
    "data.name": (*_KEY_IDS, "targets.name"),
    "data.role": _KEY_IDS,
    "data.about": _KEY_IDS,
    "data.claimed": _KEY_IDS,
    "data.predecessor": _KEY_IDS,
    "data.successor": _KEY_IDS,
    "data.pending_successor": _KEY_IDS,
    "data.keys": _KEY_IDS,
    "data.created_by": ("actor.id", "actor.key_id", *_KEY_IDS),
    "data.operator": ("actor.id",),
    "data.command_line": ("actor.id",),
    "data.destination": ("targets.urn",),
    "data.consumer": ("targets.urn",),
    # The id of a finding names whom it is about.
    "data.finding": ("source.ip", "actor.id", *_KEY_IDS),
}


class RecordCopies(msgspec.Struct, frozen=True):
    """Copies in events whose `data` is a record of one source, whatever their category.

    `names`: of the outermost names of a record, those of one of these groups are there whenever
    `test` holds; in any case of letters if `any_case`.
    """

    source: str
    copies: Copies
    test: RecordTest
    names: tuple[tuple[str, ...], ...]
    any_case: bool = False

    def hold(self, data: dict[str, Any]) -> bool:
        """Whether `data` is such a record, or may be the rest of one that was cut, and anything
        of it may be a copy."""
        there = {name.lower() for name in data} if self.any_case else data.keys()
        outermost = {path.split(".")[1] for path in self.copies if path != "data"}
        if "data" not in self.copies and outermost.isdisjoint(data.keys() | there):
            return False
        if self.test(data):
            return True
        mark = data.get(_CUT)
        if type(mark) is not dict:
            return False
        cut = {str(path).removeprefix("data.") for path in mark.get("cut") or ()}
        cut |= {name.lower() for name in cut} if self.any_case else set()
        return "more" in mark or any(
            all(name in there or name in cut for name in group) for group in self.names
        )


class DeclaredCopies(NamedTuple):
    """What another process has to be told that masks the same: copies by the first word of
    categories, the tests of the records that these are usually about, and copies by record."""

    by_root: Mapping[str, Copies] = {}
    usual: Mapping[str, tuple[RecordTest, ...]] = {}
    by_record: tuple[RecordCopies, ...] = ()


class CopySet:
    """The copies in events of one kind. Equal to itself alone, so that trees are kept by it."""

    __slots__ = ("paths",)

    def __init__(self, paths: Copies) -> None:
        self.paths = paths


# The member of `data` that tells what was cut.
_CUT = "truncated"
_OWN = CopySet(OWN_COPIES)
_DATA = b'"data":'


class _Quick:
    """Search of the outermost names of `data` for those that records with copies have."""

    __slots__ = ("_all", "_any_case", "_firsts", "_groups")

    def __init__(self, by_record: Iterable[RecordCopies]) -> None:
        self._any_case = any(one.any_case for one in by_record)
        self._groups = {names for one in by_record for names in one.names} | {(_CUT,)}
        # One name of each group, the longest, as longer ones are rarer.
        self._firsts = frozenset(max(names, key=len) for names in self._groups if names)
        self._all = () in self._groups

    def finds(self, json: bytes) -> bool:
        """Whether `data` has to be looked at."""
        # All members before it have names of their own.
        begin = json.find(_DATA)
        if begin < 0 or self._all:
            return self._all
        try:
            # It is the last member.
            names: Iterable[str] = _names(memoryview(json)[begin:][len(_DATA) : -1])
        except (msgspec.MsgspecError, RecursionError):
            return True
        if self._any_case:
            names = {*names, *(name.lower() for name in names)}
        if self._firsts.isdisjoint(names):
            return False
        return any(all(name in names for name in group) for group in self._groups)


_names = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Data(msgspec.Struct):
    data: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Data).decode


class _Known:
    """What was declared, made ready for the search."""

    def __init__(self, declared: DeclaredCopies) -> None:
        self.declared = declared
        self.by_root = {root: CopySet(copies) for root, copies in declared.by_root.items()}
        self.by_root[RESERVED] = _OWN
        self.finds = _Quick(declared.by_record).finds
        self._joined: dict[tuple[str, ...], CopySet] = {}

    def by_record(self, root: str, event: Event) -> CopySet | None:
        """Copies in an event in which the names of records were found."""
        of_root, by_record = self.by_root.get(root), self.declared.by_record
        if of_root is _OWN:
            return of_root
        try:
            data = _decode(event.json).data
        except (msgspec.MsgspecError, RecursionError):
            # Numbers may be larger than decoders take.
            found = by_record
        else:
            if any(test(data) for test in self.declared.usual.get(root, ())):
                return of_root
            found = tuple([one for one in by_record if one.hold(data)])
        if not found:
            return of_root
        kind = (root if of_root else "", *(one.source for one in found))
        joined = self._joined.get(kind)
        if joined is None:
            paths: dict[str, tuple[str, ...]] = dict(of_root.paths) if of_root else {}
            for one in found:
                for path, members in one.copies.items():
                    paths[path] = (*paths.get(path, ()), *members)
            joined = self._joined[kind] = CopySet(paths)
        return joined


_known = _Known(DeclaredCopies())


def declare_copies(declared: DeclaredCopies) -> None:
    """Set the copies in events of sources. For the one place that composes a program, before it
    masks anything."""
    global _known
    _known = _Known(declared)


def declared_copies() -> DeclaredCopies:
    """What `declare_copies` has to be told in another process that masks the same."""
    return _known.declared


def copies_in(event: Event) -> CopySet | None:
    """The copies in an event; None if it has none."""
    root = event.category.partition(".")[0]
    known = _known
    return known.by_record(root, event) if known.finds(event.json) else known.by_root.get(root)


def own_copies() -> CopySet:
    """The copies in the gateway's own records."""
    return _OWN
