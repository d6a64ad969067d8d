"""Events under many masks: each is taken apart once, and every mask joins what it shows of it.

The template of an event is its JSON with a placeholder for each value that masks keep, replace or
drop as a whole. Events with equal templates differ in these values alone: masking the template, by
decoding it, tells which values a mask shows and what stands between them. This is worked out when a
template has been seen so often that it pays, and kept.

An event that is spelled in another way than it would be encoded has no template, nor has one with
too many values, nor one with copies of its members: they are masked by decoding.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from operator import add, itemgetter
from typing import Any

import msgspec

from gateway.access.grants.copies import copies_in
from gateway.access.grants.mask import Hiding, Versions
from gateway.access.grants.mask_tree import Tree, decode_list, decode_object, encode
from gateway.event import Event

# With fewer masks it takes no longer to decode.
FEWEST_MASKS = 4
# What a template shows takes as long to work out as so many events to decode.
PAYS_AFTER = 16
MOST_VALUES = 64
# Bounds of what is kept; and events after which masks that may be in use no more are forgotten.
_MOST_MASKS, _MOST_TEMPLATES, _MOST_BYTES, _MOST_SHOWN = 256, 256, 4096, 8192
_FORGET_AFTER = 100_000
# Part of a text that no event holds, as nobody can know it.
_SECRET = secrets.token_hex(16)
_PLACEHOLDERS = [msgspec.Raw(f'"{_SECRET}{i:02}"'.encode()) for i in range(MOST_VALUES)]
_PLACEHOLDER = re.compile(f'"{_SECRET}([0-9]{{2}})"'.encode())

# Takes what a mask shows from the values of an event and the constants of its template, in order;
# None: the event as it is.
Shown = Callable[[list[bytes]], tuple[bytes, ...]] | None
_UNKNOWN: Any = object()
_NEVER = -(1 << 62)
# Bound here, as each is called for every event and mask.
_join, _replace = b"".join, msgspec.structs.replace


class _NoTemplate(Exception):
    """The event is not understood well enough to be taken apart."""


class _Reach:
    """How far masks reach in a value: which members they name, whether they go `into` it, and
    whether that is as far as it goes (`whole`)."""

    __slots__ = ("into", "members", "whole")

    def __init__(self) -> None:
        self.into = self.whole = False
        self.members: dict[str, _Reach] = {}

    def add(self, tree: Tree) -> None:
        """Reach what the tree reaches, too."""
        for name in (*tree.gone, *(name for name, _, _ in tree.replaced)):
            self.members.setdefault(name, _Reach())
        for name, path, inner in tree.inner:
            below = self.members.setdefault(name, _Reach())
            below.into = True
            # What is masked in its shape is masked value by value.
            below.whole = below.whole or bool(path)
            below.add(inner)


_NOWHERE = _Reach()


class _Template:
    """What masks show of the events with one template."""

    __slots__ = ("behind", "constants", "seen", "shown", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.seen = 0
        # What stands behind each value in the event itself.
        self.behind = _PLACEHOLDER.split(text)[2::2]
        # Constants, with their places behind the values.
        self.constants: dict[bytes, int] = {}
        self.shown: dict[Hiding, Shown] = {}

    @property
    def size(self) -> int:
        """Number of parts of an event, as far as masks are known."""
        return 2 * len(self.behind) + len(self.constants)

    def parts(self, values: list[bytes]) -> list[bytes]:
        """All that versions of an event are joined of: its values, each with what stands behind it,
        and constants."""
        return [*values, *map(add, values, self.behind), *self.constants]

    def work_out(self, hiding: Hiding, event: Event, values: list[bytes]) -> None:
        """Find what the masks show by masking the text; `event` and `values` are to try it with.
        Raises `_NoTemplate` if decoding the event gives anything else."""
        blank = _replace(event, json=self.text)
        masked = Versions(blank).without_copies().under(hiding)
        expected = Versions(event).without_copies().under(hiding)
        shown: Shown = None
        if masked is not blank:
            shown = itemgetter(*self._places(masked.json))
        joined = event.json if shown is None else b"".join(shown(self.parts(values)))
        if joined != expected.json or (shown is None) is not (expected is event):
            raise _NoTemplate
        self.shown[hiding] = shown

    def _places(self, masked: bytes) -> list[int]:
        """Places, among the parts, of what a version of the text consists of."""
        first, *others = _PLACEHOLDER.split(masked)
        places = [self._place(first)]
        for number, constant in zip(map(int, others[::2]), others[1::2], strict=True):
            behind = self.behind[number]
            if constant.startswith(behind):
                places.append(len(self.behind) + number)
                constant = constant[len(behind) :]
            else:
                places.append(number)
            if constant:
                places.append(self._place(constant))
        return places

    def _place(self, constant: bytes) -> int:
        return self.constants.setdefault(constant, self.size)


class MaskTemplates:
    """Templates of the events of one log, for the masks of its live streams."""

    def __init__(self) -> None:
        self._forget_masks()

    def _forget_masks(self) -> None:
        self.masks: set[Hiding] = set()
        self._reach = _Reach()
        self._events = 0
        self._forget_templates()

    def _forget_templates(self) -> None:
        self._templates: dict[bytes, _Template] = {}
        self._shown = 0

    def learn(self, hiding: Hiding) -> None:
        """Let the templates of further events reach as far as these masks do."""
        if hiding in self.masks:
            return
        if len(self.masks) >= _MOST_MASKS:
            if self._events < _FORGET_AFTER:
                return
            self._forget_masks()
        self.masks.add(hiding)
        self._reach.add(hiding.in_events)
        self._forget_templates()

    def of(self, event: Event) -> tuple[_Template, list[bytes]] | None:
        """The template of an event and its values, if it has one that pays."""
        self._events += 1
        if len(self.masks) < FEWEST_MASKS or copies_in(event) is not None:
            return None
        values: list[bytes] = []
        try:
            text = encode(_apart(event.json, self._reach, False, values))
        except (_NoTemplate, msgspec.MsgspecError, RecursionError):
            return None
        template = self._templates.get(text)
        if template is None:
            if len(text) > _MOST_BYTES:
                return None
            if len(self._templates) >= _MOST_TEMPLATES:
                self._forget_templates()
            template = self._templates[text] = _Template(text)
        template.seen += 1
        return (template, values) if template.seen > PAYS_AFTER else None

    def work_out(
        self, template: _Template, hiding: Hiding, event: Event, values: list[bytes]
    ) -> None:
        """Find what the masks show of the events of a template. Raises `_NoTemplate`."""
        if hiding not in self.masks or self._templates.get(template.text) is not template:
            # It was made when it was not known how far these masks reach.
            self.learn(hiding)
            raise _NoTemplate
        if self._shown >= _MOST_SHOWN:
            self._forget_templates()
        self._shown += 1
        try:
            template.work_out(hiding, event, values)
        except _NoTemplate:
            template.seen = _NEVER
            raise


class Version(msgspec.Struct, gc=False):
    """What masks show of an event, joined of its parts when it is sent: until then it takes little
    memory, however many masks there are."""

    event: Event
    shown: Callable[[list[bytes]], tuple[bytes, ...]]
    parts: list[bytes]

    @property
    def offset(self) -> int:
        return self.event.offset

    @property
    def cursor(self) -> bytes:
        return self.event.cursor

    @property
    def json(self) -> bytes:
        return _join(self.shown(self.parts))


def lines_of(events: Iterable[Event | Version]) -> list[bytes]:
    """The JSON of each, in one loop, as live streams under masks spend their time in it."""
    return [
        _join(event.shown(event.parts)) if type(event) is Version else event.json
        for event in events
    ]


class TemplatedVersions(Versions):
    """An event under different masks, by its template if it has one."""

    __slots__ = ("_found", "_parts", "_templates")

    def __init__(self, event: Event, templates: MaskTemplates) -> None:
        super().__init__(event)
        self._templates = templates
        self._found: tuple[_Template, list[bytes]] | None = _UNKNOWN
        self._parts: list[bytes] = []

    @property
    def template(self) -> _Template | None:
        """The template of the event, if it has one that pays."""
        if self._found is _UNKNOWN:
            self._found = self._templates.of(self._event)
        return None if self._found is None else self._found[0]

    @property
    def parts(self) -> list[bytes]:
        """All that the template joins what it shows of. Others are added as it learns."""
        assert self._found is not None
        template, values = self._found
        if len(self._parts) != template.size:
            self._parts = template.parts(values)
        return self._parts

    def under(self, hiding: Hiding | None) -> Event:
        version = self.version(hiding)
        if type(version) is Event:
            return version
        assert hiding is not None
        event = self._known[hiding] = _replace(hiding.columns(self._event), json=version.json)
        return event

    def version(self, hiding: Hiding | None) -> Event | Version:
        """The event as `under` gives it, but not joined where a template tells what is shown."""
        event = self._known.get(hiding)
        if event is not None:
            return event
        assert hiding is not None
        if hiding.domain is not None:
            # Pseudonyms differ with the values, which templates leave out.
            return super().under(hiding)
        template = self.template
        if template is None:
            self._templates.learn(hiding)
            return super().under(hiding)
        shown = template.shown.get(hiding, _UNKNOWN)
        if shown is _UNKNOWN:
            assert self._found is not None
            try:
                self._templates.work_out(template, hiding, self._event, self._found[1])
            except _NoTemplate:
                self._found = None
                return super().under(hiding)
            shown = template.shown[hiding]
        return self._event if shown is None else Version(self._event, shown, self.parts)


class Run:
    """Events in a row under the same masks, one mask after the other over all of them."""

    __slots__ = ("_events", "_first", "_parts", "_sought", "_template", "_templates", "_versions")

    def __init__(
        self,
        events: Sequence[Event],
        templates: MaskTemplates,
        first: TemplatedVersions | None = None,
    ) -> None:
        """`first`: versions of the first event, if there are any yet."""
        self._events, self._templates, self._first = events, templates, first
        self._versions: list[TemplatedVersions] = []
        # The one template of all events, and what they have for it.
        self._template: _Template | None = None
        self._sought = False
        self._parts: list[list[bytes]] = []

    def under(self, hiding: Hiding | None) -> Sequence[Event | Version]:
        """What `TemplatedVersions.version` gives of each."""
        if hiding is None:
            return self._events
        if not self._versions:
            self._versions = [TemplatedVersions(event, self._templates) for event in self._events]
            if self._first is not None:
                self._versions[0] = self._first
        if hiding.domain is not None:
            return [one.version(hiding) for one in self._versions]
        if not self._sought:
            self._find_template()
        template = self._template
        shown = _UNKNOWN if template is None else template.shown.get(hiding, _UNKNOWN)
        if template is None or shown is _UNKNOWN:
            versions = [one.version(hiding) for one in self._versions]
            # It may be in use no more.
            self._find_template()
            return versions
        if shown is None:
            return self._events
        if not self._parts or len(self._parts[0]) != template.size:
            self._parts = [one.parts for one in self._versions]
        pairs = zip(self._events, self._parts, strict=True)
        return [Version(event, shown, parts) for event, parts in pairs]

    def _find_template(self) -> None:
        self._sought = True
        found = {one.template for one in self._versions}
        self._template = found.pop() if len(found) == 1 else None


def _apart(value: Any, reach: _Reach, whole: bool, values: list[bytes]) -> Any:
    """The value with placeholders for what `reach` does not go into, which is added to `values`.
    Raises `_NoTemplate` if encoding it gives other bytes than it has."""
    first = memoryview(value)[0]
    if first == ord("{"):
        members = decode_object(value)
        if encode(members) != memoryview(value):
            raise _NoTemplate
        apart: dict[str, Any] = {}
        together: dict[str, msgspec.Raw] = {}
        for name, member in members.items():
            below = reach.members.get(name)
            if below is None and not whole:
                together[name] = member
                continue
            if together:
                _keep_together(together, apart, values)
                together = {}
            below = below or _NOWHERE
            if whole or below.into:
                apart[name] = _apart(member, below, whole or below.whole, values)
            else:
                apart[name] = _placeholder(bytes(member), values)
        if together:
            _keep_together(together, apart, values)
        return apart
    if first == ord("["):
        items = decode_list(value)
        if encode(items) != memoryview(value):
            raise _NoTemplate
        return [_apart(item, reach, whole, values) for item in items]
    return _placeholder(bytes(value), values)


def _keep_together(
    members: dict[str, msgspec.Raw], apart: dict[str, Any], values: list[bytes]
) -> None:
    """Add members that no mask names as one: the first, with all others behind its value."""
    name = next(iter(members))
    text = encode(members)[len(encode(name)) + 2 : -1] if len(members) > 1 else members[name]
    apart[name] = _placeholder(bytes(text), values)


def _placeholder(value: bytes, values: list[bytes]) -> msgspec.Raw:
    if len(values) == MOST_VALUES:
        raise _NoTemplate
    values.append(value)
    return _PLACEHOLDERS[len(values) - 1]
