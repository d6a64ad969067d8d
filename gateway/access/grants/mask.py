"""Masks: what of an event a grant hides. Works on the JSON bytes; what stays is not touched.

A masked value is replaced by `"***"`, a dropped member is gone. Of the event's own
objects and lists (`actor`, `targets`, ..) the values are masked one by one, so that
they keep their shape; what lies in `data` is masked whole, because its names are
content, too, and masked itself it is empty. Lists are gone through: `targets.name`
means the name of every target. What was masked is declared in the event:
`"masked":["actor.name"]`.

The gateway's own records repeat in `data` what stands in their other members:
whatever hides one of those hides its copies, too.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Any

import msgspec

from gateway.cursor import JSON_PREFIX
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.filters.scope import is_reserved

MASK = msgspec.Raw(b'"***"')
_NOTHING = msgspec.Raw(b"{}")
# The members that may be hidden, and what is in them; None: anything.
_MEMBERS: dict[str, tuple[str, ...] | None] = {
    "actor": ("type", "id", "name", "key_id"),
    "source": ("service", "ip", "port", "user_agent"),
    "targets": ("urn", "type", "id", "name"),
    "request": ("id", "trace_id"),
    "reason": (),
    "data": None,
}
MAX_PATHS = 64
_KEY_IDS = ("targets.urn", "targets.id")
# Of the gateway's own records: the members of `data`, and of which others they are copies.
COPIES = {
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
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


class Masks(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Paths to mask and to drop, sorted. Equal masks hide the same."""

    mask: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.mask or self.drop)

    def joined(self, other: Masks) -> Masks:
        """Everything that either hides; dropping wins over masking."""
        drop = {*self.drop, *other.drop}
        mask = {*self.mask, *other.mask} - drop
        return Masks(tuple(sorted(mask)), tuple(sorted(drop)))

    def hides(self, *paths: str) -> bool:
        """Whether one of the paths, or a member that it lies in, is hidden."""
        hidden = {*self.mask, *self.drop}
        return bool(hidden) and any(
            not hidden.isdisjoint(accumulate(path.split("."), "{}.{}".format)) for path in paths
        )


def check_paths(paths: tuple[str, ...]) -> None:
    """Raise `InvalidRequest` unless all are paths of members that may be hidden."""
    if len(paths) > MAX_PATHS:
        raise InvalidRequest(f"fields: at most {MAX_PATHS} paths")
    for path in paths:
        root, _, rest = path.partition(".")
        inner = _MEMBERS.get(root)
        if root not in _MEMBERS or (inner is not None and rest and rest not in inner):
            raise InvalidRequest(
                f"fields: {path!r} cannot be hidden; what can is in "
                + ", ".join(_MEMBERS)
                + ", such as actor.name or data.payload"
            )
        if "" in path.split("."):
            raise InvalidRequest(f"fields: {path!r} has an empty part")


def masked(event: Event, masks: Masks) -> Event:
    """The event as it is seen through the masks; selectors and filters look at this one, too."""
    if not masks:
        return event
    if is_reserved(event.category):
        masks = masks.joined(copies_of(masks))
    members = _OBJECT.decode(event.json)
    declared = _hide_all(members, masks)
    if declared:
        members["masked"] = msgspec.Raw(_encode(declared))
    json = _encode(members)
    assert json.startswith(JSON_PREFIX)
    return msgspec.structs.replace(
        event,
        json=json,
        actor="" if masks.hides("actor.id") else event.actor,
        resources="" if masks.hides("targets.urn") else event.resources,
    )


def masked_data(data: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """The `data` of a record of the gateway's own, shown elsewhere, without what the masks hide."""
    if not masks:
        return data
    members = {"data": msgspec.Raw(_encode(data))}
    _hide_all(members, masks.joined(copies_of(masks)))
    shown: dict[str, Any] = msgspec.json.decode(members.get("data", _NOTHING))
    return shown


@lru_cache(1024)
def copies_of(masks: Masks) -> Masks:
    """The copies, in records of the gateway's own, of what the masks hide."""
    mask, drop = Masks(mask=masks.mask), Masks(drop=masks.drop)
    return Masks(
        tuple(path for path, of in COPIES.items() if mask.hides(*of)),
        tuple(path for path, of in COPIES.items() if drop.hides(*of)),
    )


def _hide_all(members: dict[str, msgspec.Raw], masks: Masks) -> list[str]:
    """Hide it, and say which paths were masked."""
    declared: list[str] = []
    for path in masks.drop:
        _hide(members, path.split("."), None, declared, path)
    for path in masks.mask:
        _hide(members, path.split("."), MASK, declared, path)
    return declared


def _hide(
    members: dict[str, msgspec.Raw],
    parts: list[str],
    instead: msgspec.Raw | None,
    declared: list[str],
    path: str,
) -> None:
    name, rest = parts[0], parts[1:]
    value = members.get(name)
    if value is None:
        return
    if rest:
        members[name] = _within(value, rest, instead, declared, path)
    elif instead is None:
        del members[name]
    else:
        members[name] = _blank(value, path)
        if path not in declared:
            declared.append(path)


def _within(
    value: msgspec.Raw,
    parts: list[str],
    instead: msgspec.Raw | None,
    declared: list[str],
    path: str,
) -> msgspec.Raw:
    content: Any
    first = bytes(value).lstrip()[:1]
    if first == b"{":
        content = _OBJECT.decode(value)
        _hide(content, parts, instead, declared, path)
    elif first == b"[":
        content = [_within(item, parts, instead, declared, path) for item in _LIST.decode(value)]
    else:
        return value
    return msgspec.Raw(_encode(content))


def _blank(value: msgspec.Raw, path: str) -> msgspec.Raw:
    """What stands in the place of a masked value."""
    if path == "data":
        return _NOTHING
    return MASK if path.startswith("data.") else _blank_shape(value)


def _blank_shape(value: msgspec.Raw) -> msgspec.Raw:
    """Every value in it masked; the names of members stay."""
    first = bytes(value).lstrip()[:1]
    if first == b"{":
        return msgspec.Raw(
            _encode({name: _blank_shape(item) for name, item in _OBJECT.decode(value).items()})
        )
    if first == b"[":
        return msgspec.Raw(_encode([_blank_shape(item) for item in _LIST.decode(value)]))
    return MASK
