"""Masks: which members of an event a grant hides. Works on the JSON bytes; the rest is not touched.

A masked value is replaced by `"***"`, a dropped member is gone. In the event's own objects and
lists (`actor`, `targets`, ..) values are masked one by one, so that they keep their shape. A value
in `data` is masked whole, because its names are content, too; `data` itself becomes empty. Paths go
through lists: `targets.name` is the name of every target. Masked paths are declared in the event:
`"masked":["actor.name"]`.

Strings and numbers of a pseudonymized member are replaced one by one, also in `data`, and declared
under `pseudonymized`. Without a domain, or the secret of the time, the member is masked instead,
and so is one with very many values, as each takes time and room.

The gateway's own records, and events that were made of records of others, repeat other members in
`data`: what hides a member hides its copies, and what pseudonymizes it masks them. Where a copy may
stand in JSON within a text, all of the text is masked.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import Annotated, Any, Self

import msgspec

from gateway.access.grants.copies import CopySet, copies_in, own_copies
from gateway.access.grants.mask_tree import Content, Tree, decode_object, encode
from gateway.access.grants.pseudonym import PseudonymDomain, Pseudonyms
from gateway.access.grants.pseudonymizer import Pseudonymizer
from gateway.cursor import JSON_PREFIX
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.json_members import about

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
# Kinds of events with copies for which masks keep their tree.
_MOST_TREES = 64
_UNKNOWN: Any = object()
_Paths = Annotated[tuple[str, ...], about(minItems=1)]


class Masks(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Paths to mask, to drop and to pseudonymize, sorted. Equal masks hide the same."""

    mask: _Paths = ()
    drop: _Paths = ()
    pseudonymize: _Paths = ()

    def __bool__(self) -> bool:
        return bool(self.mask or self.drop or self.pseudonymize)

    def joined(self, other: Masks) -> Masks:
        """Masks that hide what either hides: dropping wins over masking, and masking over
        pseudonyms. One domain at most is in both."""
        drop = {*self.drop, *other.drop}
        mask = {*self.mask, *other.mask} - drop
        named = {*self.pseudonymize, *other.pseudonymize} - drop - mask
        joined = Masks(tuple(sorted(mask)), tuple(sorted(drop)), tuple(sorted(named)))
        domain = domain_of(self) or domain_of(other)
        return joined if domain is None else joined.within(domain)

    def within(self, domain: PseudonymDomain) -> Masks:
        """These masks with the domain of a reader, for pseudonyms if there are any."""
        if not self.pseudonymize:
            return self
        return DomainMasks(self.mask, self.drop, self.pseudonymize, domain)

    def blanked(self) -> Masks:
        """Masks that mask what these pseudonymize, without a domain."""
        mask = {*self.mask, *self.pseudonymize}.difference(self.drop)
        return Masks(tuple(sorted(mask)), self.drop)

    def hides(self, *paths: str) -> bool:
        """Whether one of the paths, or a member that contains it, is hidden, be it by a
        pseudonym."""
        return _reach({*self.mask, *self.drop, *self.pseudonymize}, paths)

    def conceals(self, *paths: str) -> bool:
        """Whether one of the paths, or a member that contains it, is masked or dropped."""
        return _reach({*self.mask, *self.drop}, paths)


class DomainMasks(Masks, frozen=True):
    """Masks of a reader with the domain of its pseudonyms; never on the wire."""

    domain: PseudonymDomain | None = None


def domain_of(masks: Masks) -> PseudonymDomain | None:
    """Domain of the pseudonyms of masks, if they have one."""
    return masks.domain if isinstance(masks, DomainMasks) else None


def _reach(hidden: set[str], paths: tuple[str, ...]) -> bool:
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


def check_pseudonymized(paths: tuple[str, ...]) -> None:
    """Raise `InvalidRequest` unless pseudonyms may stand at all paths, which may be hidden."""
    for path in paths:
        if path == "data":
            raise InvalidRequest(
                "fields: data as a whole cannot be pseudonymized; name what is in it, such as "
                "data.user, or mask it"
            )
        if "\0" in path:
            raise InvalidRequest(f"fields: {path!r} holds a NUL character")


class Hiding:
    """Masks as trees of the members that they hide, in events and in records of the gateway."""

    __slots__ = ("_masks", "_names", "_trees", "actor", "domain", "in_events", "resources")

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self.domain = domain_of(masks)
        if self.domain is None and masks.pseudonymize:
            masks = masks.blanked()
        paths = (*masks.mask, *masks.drop, *masks.pseudonymize)
        if not {path.partition(".")[0] for path in paths} <= _MEMBERS.keys():
            raise ValueError("masks of members that are never hidden")
        self.in_events = _tree(masks)
        self._trees: dict[CopySet, Tree] = {}
        self.actor = masks.hides("actor.id")
        self.resources = masks.hides("targets.urn")
        # Whether pseudonyms stand in these two columns.
        self._names = not masks.conceals("actor.id"), not masks.conceals("targets.urn")

    def tree_of(self, copies: CopySet | None) -> Tree:
        """Members that are hidden in events with these copies; None: they have none."""
        if copies is None:
            return self.in_events
        tree = self._trees.get(copies)
        if tree is None:
            if len(self._trees) >= _MOST_TREES:
                self._trees.clear()
            masks = self._masks if self.domain is not None else self._masks.blanked()
            hidden = masks.joined(copies_of(masks, copies))
            tree = self._trees[copies] = _tree(hidden, in_text=True)
        return tree

    def blanked(self) -> Hiding:
        """Hiding of what this one pseudonymizes, by masks."""
        return hiding_of(self._masks.blanked())

    def pseudonyms(self, event: Event) -> Pseudonyms | None:
        """Pseudonyms for an event; None if there is no secret for its time."""
        assert self.domain is not None
        try:
            return self.domain.at(event.recorded_at())
        except ValueError:
            return None

    def columns(self, event: Event) -> Event:
        """The event as selectors see it: without the actor or the resources, if they are hidden, or
        with their pseudonyms."""
        if not self.actor and not self.resources:
            return event
        actor, resources = event.actor, event.resources
        of = None if self.domain is None else self.pseudonyms(event)
        by_actor, by_resources = self._names
        if self.actor:
            actor = of.of("id", event.tenant, actor) if of and by_actor and actor else ""
        if self.resources:
            urns = resources.split("\n") if of and by_resources and resources else ()
            resources = "\n".join([of.of("urn", event.tenant, urn) for urn in urns if of])
        return msgspec.structs.replace(event, actor=actor, resources=resources)


@lru_cache(1024)
def hiding_of(masks: Masks) -> Hiding:
    """`Hiding(masks)`, cached, as many events go under the same masks."""
    return Hiding(masks)


class Versions:
    """An event under different masks. It is decoded once for all of them, as far as any reaches;
    what a mask does not touch is copied as it stands."""

    __slots__ = ("_content", "_copies", "_event", "_known", "_members", "_whole")

    def __init__(self, event: Event) -> None:
        self._event = event
        self._known: dict[Hiding | None, Event] = {None: event}
        self._content: Content | None = None
        self._copies: CopySet | None = _UNKNOWN

    @property
    def copies(self) -> CopySet | None:
        """The copies in the event."""
        if self._copies is _UNKNOWN:
            self._copies = copies_in(self._event)
        return self._copies

    def without_copies(self) -> Self:
        """Itself, of an event that is known to have none."""
        self._copies = None
        return self

    def under(self, hiding: Hiding | None) -> Event:
        """The event with its hidden members masked or dropped; itself if it has none of them."""
        known = self._known
        event = known.get(hiding)
        if event is not None:
            return event
        assert hiding is not None
        event = self._event
        pseudonymizer = None
        if hiding.domain is not None:
            pseudonyms = hiding.pseudonyms(event)
            if pseudonyms is None:
                shown = known[hiding] = self.under(hiding.blanked())
                return shown
            pseudonymizer = Pseudonymizer(pseudonyms, event.tenant)
        content = self._content
        if content is None:
            content = self._content = Content()
            self._members, self._whole = _members_of(event.json)
        declared: list[str] = []
        tree = hiding.tree_of(self.copies)
        members = content.edit(self._members, tree, declared, pseudonymizer)
        if pseudonymizer is not None:
            declared += pseudonymizer.masked
        if members is not self._members or not self._whole:
            if declared:
                declared.sort()
                members["masked"] = declared
            if pseudonymizer is not None and pseudonymizer.declared:
                members["pseudonymized"] = sorted(pseudonymizer.declared)
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
    left = Content().hide(record, hiding_of(masks.blanked()).tree_of(own_copies()), [], None)
    shown: dict[str, Any] = msgspec.json.decode(encode(left)).get("data", {})
    return shown


@lru_cache(1024)
def copies_of(masks: Masks, copies: CopySet | None = None) -> Masks:
    """Masks for the copies of what the masks hide, in the gateway's own records or in events that
    have these copies."""
    paths = (copies or own_copies()).paths
    mask, drop = Masks(mask=masks.mask, pseudonymize=masks.pseudonymize), Masks(drop=masks.drop)
    return Masks(
        tuple(path for path, of in paths.items() if mask.hides(*of)),
        tuple(path for path, of in paths.items() if drop.hides(*of)),
    )


def _tree(masks: Masks, in_text: bool = False) -> Tree:
    return Tree.of(masks.mask, masks.drop, masks.pseudonymize, in_text)


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
