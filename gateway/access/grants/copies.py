"""Copies: members of `data` that repeat others, so that what hides these hides their copies.

The gateway's own records have them, and events that were made of records of others: each source
declares which members of its records it took. Events are known by the first word of their category.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.filters.scope import RESERVED

# Paths of `data`, and the members that they copy.
Copies = Mapping[str, tuple[str, ...]]
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
    "data.keys": _KEY_IDS,
    "data.created_by": ("actor.id", "actor.key_id", *_KEY_IDS),
    "data.operator": ("actor.id",),
    "data.command_line": ("actor.id",),
}
_by_root: dict[str, Copies] = {RESERVED: OWN_COPIES}


def declare_copies(by_root: Mapping[str, Copies]) -> None:
    """Set the copies in events of sources, by the first word of their categories. For the one place
    that composes a program, before it masks anything."""
    _by_root.clear()
    _by_root.update({**by_root, RESERVED: OWN_COPIES})


def declared_copies() -> Mapping[str, Copies]:
    """What `declare_copies` has to be told in another process that masks the same."""
    return {root: copies for root, copies in _by_root.items() if root != RESERVED}


def root_of_copies(category: str) -> str | None:
    """First word of a category whose events have copies; None if these have none."""
    root = category.partition(".")[0]
    return root if root in _by_root else None


def copies_in(root: str) -> Copies:
    """The copies in events of a root."""
    return _by_root.get(root, {})
