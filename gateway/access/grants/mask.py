"""Masks: which members of an event a grant hides. Works on the JSON bytes; the rest is not touched.

A masked value is replaced by `"***"`, a dropped member is gone. In the event's own objects and
lists (`actor`, `targets`, ..) values are masked one by one, so that they keep their shape. A value
in `data` is masked whole, because its names are content, too; `data` itself becomes empty. Paths go
through lists: `targets.name` is the name of every target. Masked paths are declared in the event:
`"masked":["actor.name"]`.

The gateway's own records repeat other members in `data`: what hides a member hides its copies.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Annotated, Any

import msgspec

from gateway.cursor import JSON_PREFIX
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.filters.scope import is_reserved
from gateway.json_members import about

MASK = msgspec.Raw(b'"***"')
_NOTHING = msgspec.Raw(b"{}")
# Members that may be hidden, and their own members; None: any.
_MEMBERS: dict[str, tuple[str, ...] | None] = {
    "actor": ("type", "id", "name", "key_id"),
    "source": ("service", "ip", "port", "user_agent"),
    "targets": ("urn", "type", "id", "name"),
    "request": ("id", "trace_id"),
    "reason": (),
    "data": None,
}
MAX_PATHS = 64
_Paths = Annotated[tuple[str, ...], about(minItems=1)]
_KEY_IDS = ("targets.urn", "targets.id")
# In the gateway's own records: members of `data`, and the members that they copy.
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

    mask: _Paths = ()
    drop: _Paths = ()

    def __bool__(self) -> bool:
        return bool(self.mask or self.drop)

    def joined(self, other: Masks) -> Masks:
        """Masks that hide what either hides; dropping wins over masking."""
        drop = {*self.drop, *other.drop}
        mask = {*self.mask, *other.mask} - drop
        return Masks(tuple(sorted(mask)), tuple(sorted(drop)))

    def hides(self, *paths: str) -> bool:
        """Whether one of the paths, or a member that contains it, is hidden."""
        hidden = {*self.mask, *self.drop}
        return bool(hidden) and any(
            not hidden.isdisjoint(accumulate(path.split("."), "{}.{}".format)) for path in paths
        )


def check_paths(paths: tuple[str, ...]) -> None:
    """Raise `InvalidRequest` unless all paths may be hidden."""
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
    """The event with masks applied, as selectors and filters see it, too."""
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
    """`data` of a record of the gateway with masks applied, to be shown elsewhere."""
    if not masks:
        return data
    members = {"data": msgspec.Raw(_encode(data))}
    _hide_all(members, masks.joined(copies_of(masks)))
    shown: dict[str, Any] = msgspec.json.decode(members.get("data", _NOTHING))
    return shown


@lru_cache(1024)
def copies_of(masks: Masks) -> Masks:
    """Masks for the copies, in records of the gateway, of what the masks hide."""
    mask, drop = Masks(mask=masks.mask), Masks(drop=masks.drop)
    return Masks(
        tuple(path for path, of in COPIES.items() if mask.hides(*of)),
        tuple(path for path, of in COPIES.items() if drop.hides(*of)),
    )


def _hide_all(members: dict[str, msgspec.Raw], masks: Masks) -> list[str]:
    """Apply the masks, and return the paths that were masked."""
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
    """Value in place of a masked one."""
    if path == "data":
        return _NOTHING
    return MASK if path.startswith("data.") else _blank_shape(value)


def _blank_shape(value: msgspec.Raw) -> msgspec.Raw:
    """The value with everything in it masked, but for names of members."""
    first = bytes(value).lstrip()[:1]
    if first == b"{":
        return msgspec.Raw(
            _encode({name: _blank_shape(item) for name, item in _OBJECT.decode(value).items()})
        )
    if first == b"[":
        return msgspec.Raw(_encode([_blank_shape(item) for item in _LIST.decode(value)]))
    return MASK
