"""Masks: which members of an event a grant hides. Works on the JSON bytes; the rest is not touched.

A masked value is replaced by `"***"`, a dropped member is gone. In the event's own objects and
lists (`actor`, `targets`, ..) values are masked one by one, so that they keep their shape. A value
in `data` is masked whole, because its names are content, too; `data` itself becomes empty. Paths go
through lists: `targets.name` is the name of every target. Masked paths are declared in the event:
`"masked":["actor.name"]`.

The gateway's own records repeat other members in `data`: what hides a member hides its copies.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import accumulate
from operator import is_
from typing import Annotated, Any

import msgspec

from gateway.cursor import JSON_PREFIX
from gateway.errors import InvalidRequest
from gateway.event import MAX_DEPTH, Event
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
decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode


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


class Hiding:
    """Masks as trees of the members that they hide, in events and in records of the gateway."""

    __slots__ = ("actor", "in_events", "in_records", "resources")

    def __init__(self, masks: Masks) -> None:
        if not {path.partition(".")[0] for path in (*masks.mask, *masks.drop)} <= _MEMBERS.keys():
            raise ValueError("masks of members that are never hidden")
        self.in_events = _tree(masks)
        self.in_records = _tree(masks.joined(copies_of(masks)))
        self.actor = masks.hides("actor.id")
        self.resources = masks.hides("targets.urn")

    def columns(self, event: Event) -> Event:
        """The event as selectors see it: without the actor or the resources, if hidden."""
        if not self.actor and not self.resources:
            return event
        return msgspec.structs.replace(
            event,
            actor="" if self.actor else event.actor,
            resources="" if self.resources else event.resources,
        )


@lru_cache(1024)
def hiding_of(masks: Masks) -> Hiding:
    """`Hiding(masks)`, cached, as many events go under the same masks."""
    return Hiding(masks)


class Versions:
    """An event under different masks. It is decoded once for all of them, as far as any reaches;
    what a mask does not touch is copied as it stands."""

    __slots__ = ("_content", "_event", "_known", "_members", "_reserved", "_whole")

    def __init__(self, event: Event) -> None:
        self._event = event
        self._known: dict[Hiding | None, Event] = {None: event}
        self._content: _Content | None = None

    def under(self, hiding: Hiding | None) -> Event:
        """The event with its hidden members masked or dropped; itself if it has none of them."""
        known = self._known
        event = known.get(hiding)
        if event is not None:
            return event
        assert hiding is not None
        event = self._event
        content = self._content
        if content is None:
            content = self._content = _Content()
            self._members, self._whole = _members_of(event.json)
            self._reserved = is_reserved(event.category)
        declared: list[str] = []
        tree = hiding.in_records if self._reserved else hiding.in_events
        members = content.edit(self._members, tree, declared)
        if members is not self._members or not self._whole:
            if declared:
                declared.sort()
                members["masked"] = declared
            if hiding.actor or hiding.resources:
                event = hiding.columns(event)
            json = encode(members)
            assert json.startswith(JSON_PREFIX)
            event = msgspec.structs.replace(event, json=json)
        known[hiding] = event
        return event


def masked(event: Event, masks: Masks) -> Event:
    """The event with masks applied, as selectors and filters see it, too."""
    return Versions(event).under(hiding_of(masks)) if masks else event


def masked_data(data: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """`data` of a record of the gateway with masks applied, to be shown elsewhere."""
    if not masks:
        return data
    record = msgspec.Raw(encode({"data": data}))
    left = _Content().hide(record, hiding_of(masks).in_records, [])
    shown: dict[str, Any] = msgspec.json.decode(encode(left)).get("data", {})
    return shown


@lru_cache(1024)
def copies_of(masks: Masks) -> Masks:
    """Masks for the copies, in records of the gateway, of what the masks hide."""
    mask, drop = Masks(mask=masks.mask), Masks(drop=masks.drop)
    return Masks(
        tuple(path for path, of in COPIES.items() if mask.hides(*of)),
        tuple(path for path, of in COPIES.items() if drop.hides(*of)),
    )


class Tree:
    """What happens to the members of an object: some are dropped (`gone`), some replaced, and in
    others there is something hidden, or they are masked in their shape, if there is a path."""

    __slots__ = ("gone", "inner", "replaced")

    def __init__(
        self, paths: Iterable[str], mask: frozenset[str], drop: frozenset[str], within: str = ""
    ) -> None:
        self.gone: list[str] = []
        self.replaced: list[tuple[str, msgspec.Raw, str]] = []
        self.inner: list[tuple[str, str, Tree]] = []
        by_name: dict[str, list[str]] = {}
        for path in paths:
            by_name.setdefault(path[len(within) :].partition(".")[0], []).append(path)
        for name, reached in by_name.items():
            path = within + name
            if path in drop:
                self.gone.append(name)
            elif path in mask and path.partition(".")[0] == "data":
                self.replaced.append((name, _NOTHING if path == "data" else MASK, path))
            elif path.count(".") < MAX_DEPTH:
                deeper = Tree([one for one in reached if one != path], mask, drop, path + ".")
                self.inner.append((name, path if path in mask else "", deeper))


def _tree(masks: Masks) -> Tree:
    paths = (*masks.mask, *masks.drop)
    return Tree(paths, frozenset(masks.mask), frozenset(masks.drop))


class _Content:
    """Objects and lists of one event, decoded once each. Nothing in it is ever changed."""

    __slots__ = ("_decoded",)

    def __init__(self) -> None:
        # By the id of the value, which is kept with it.
        self._decoded: dict[int, tuple[msgspec.Raw, Any, Any]] = {}

    def hide(self, value: msgspec.Raw, tree: Tree, declared: list[str]) -> Any:
        """The value without what the tree hides, to be encoded; the paths that were masked are
        declared. It is the value itself if nothing was there, and encoding would not change it."""
        decoded = self._decoded.get(id(value))
        if decoded is None:
            decoded = self._decoded[id(value)] = _decode(value)
        _, content, whole = decoded
        if type(content) is dict:
            shown = self.edit(content, tree, declared)
            return whole if shown is content else shown
        if type(content) is list:
            items = [self.hide(item, tree, declared) for item in content]
            declared[:] = dict.fromkeys(declared)
            return whole if all(map(is_, items, content)) else items
        return value

    def edit(
        self, members: dict[str, msgspec.Raw], tree: Tree, declared: list[str]
    ) -> dict[str, Any]:
        """The members without what the tree hides; themselves if nothing was there."""
        edited: dict[str, Any] = members
        for name, instead, path in tree.replaced:
            if name in members:
                if edited is members:
                    edited = members.copy()
                edited[name] = instead
                declared.append(path)
        for name in tree.gone:
            if name in members:
                if edited is members:
                    edited = members.copy()
                del edited[name]
        for name, path, inner in tree.inner:
            value = members.get(name)
            if value is None:
                continue
            shown = self.hide(value, inner, declared)
            if path:
                shown = _blank_shape(shown)
                declared.append(path)
            elif shown is value:
                continue
            if edited is members:
                edited = members.copy()
            edited[name] = shown
        return edited


def _decode(value: msgspec.Raw) -> tuple[msgspec.Raw, Any, Any]:
    """The value, its content if it is an object or a list, and what stands for all of it: the
    content if it was spelled in another way, as blanks must not tell whether something was
    dropped."""
    first = memoryview(value)[0]
    content: Any = None
    if first == ord("{"):
        content = decode_object(value)
    elif first == ord("["):
        content = decode_list(value)
    if content is None or encode(content) == memoryview(value):
        return value, content, value
    return value, content, content


def _members_of(json: bytes) -> tuple[dict[str, msgspec.Raw], bool]:
    """Members of an event, of which those before the first that may be hidden are joined to one, as
    fewer are encoded sooner; and whether they are encoded to the same bytes."""
    members = decode_object(json)
    hidden = {name: value for name, value in members.items() if name in _MEMBERS}
    end = json.find(b',"%b":' % next(iter(hidden), "").encode())
    joined = {"cursor": msgspec.Raw(json[len(b'{"cursor":') : end]), **hidden}
    if end > 0 and encode(joined) == json:
        return joined, True
    return members, encode(members) == json


def _blank_shape(value: Any) -> Any:
    """The value with everything in it masked, but for names of members."""
    if isinstance(value, msgspec.Raw):
        value = _decode(value)[1]
    if isinstance(value, dict):
        return {name: _blank_shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_blank_shape(item) for item in value]
    return MASK
