"""Events under many masks: each is taken apart once, and every mask joins what it shows of it.

The template of an event is its JSON with a placeholder for each value that masks keep, replace or
drop as a whole. Events with equal templates differ in these values alone: masking the template, by
decoding it, tells which values a mask shows and what stands between them. This is worked out when a
template has been seen so often that it pays, and kept.

An event that is spelled in another way than it would be encoded has no template, nor has one with
too many values, nor a record of the gateway: they are masked by decoding.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from operator import add, itemgetter
from typing import Any

import msgspec

from gateway.access.grants.mask import Hiding, Tree, Versions, decode_list, decode_object, encode
from gateway.event import Event
from gateway.filters.scope import is_reserved

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

    def parts(self, values: list[bytes]) -> list[bytes]:
        """All that versions of an event are joined of: its values, each with what stands behind it,
        and constants."""
        return [*values, *map(add, values, self.behind), *self.constants]

    def work_out(self, hiding: Hiding, event: Event, values: list[bytes]) -> None:
        """Find what the masks show by masking the text; `event` and `values` are to try it with.
        Raises `_NoTemplate` if decoding the event gives anything else."""
        blank = _replace(event, json=self.text)
        masked, expected = Versions(blank).under(hiding), Versions(event).under(hiding)
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
        return self.constants.setdefault(constant, 2 * len(self.behind) + len(self.constants))


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
        if len(self.masks) < FEWEST_MASKS or is_reserved(event.category):
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


class TemplatedVersions(Versions):
    """An event under different masks, by its template if it has one."""

    __slots__ = ("_found", "_parts", "_shown", "_templates")

    def __init__(self, event: Event, templates: MaskTemplates) -> None:
        super().__init__(event)
        self._templates = templates
        self._found: tuple[_Template, list[bytes]] | None = None
        # What its template shows, as far as that is known.
        self._shown: dict[Hiding, Shown] = {}

    def under(self, hiding: Hiding | None) -> Event:
        known = self._known
        event = known.get(hiding)
        if event is not None:
            return event
        assert hiding is not None
        shown = self._shown.get(hiding, _UNKNOWN)
        if shown is _UNKNOWN:
            return self._under_new(hiding)
        event = self._event
        if shown is not None:
            json = _join(shown(self._parts))
            if hiding.actor or hiding.resources:
                event = hiding.columns(event)
            event = _replace(event, json=json)
        known[hiding] = event
        return event

    def _under_new(self, hiding: Hiding) -> Event:
        """The event under masks of which its template does not know what they show."""
        if len(self._known) == 1 and (found := self._templates.of(self._event)) is not None:
            self._found = found
            self._shown, self._parts = found[0].shown, found[0].parts(found[1])
            if hiding in self._shown:
                return self.under(hiding)
        if self._found is None:
            self._templates.learn(hiding)
            return super().under(hiding)
        template, values = self._found
        try:
            self._templates.work_out(template, hiding, self._event, values)
        except _NoTemplate:
            self._found, self._shown = None, {}
            return super().under(hiding)
        self._parts = template.parts(values)
        return self.under(hiding)


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
