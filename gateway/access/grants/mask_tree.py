"""Trees of hidden members, and how they are applied to the content of an event. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from operator import is_
from typing import Any, NamedTuple

import msgspec

from gateway.access.grants.pseudonymizer import MASK, Pseudonymizer
from gateway.event import MAX_DEPTH

_NOTHING = msgspec.Raw(b"{}")
decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
encode = msgspec.json.Encoder().encode


class _Sets(NamedTuple):
    mask: frozenset[str]
    drop: frozenset[str]
    pseudonymize: frozenset[str]


class Tree:
    """What happens to the members of an object: some are dropped (`gone`), some replaced, in others
    there is something hidden, or they are masked in their shape, if there is a path (`inner`), and
    in some all values get pseudonyms (`named`). `text`: path of the object, if it is masked as a
    whole where it is JSON within a text."""

    __slots__ = ("gone", "inner", "named", "replaced", "text")

    def __init__(
        self, paths: Iterable[str], masks: _Sets, within: str = "", in_text: bool = False
    ) -> None:
        self.text = within[:-1] if in_text and within.startswith("data.") else ""
        self.gone: list[str] = []
        self.replaced: list[tuple[str, msgspec.Raw, str]] = []
        self.inner: list[tuple[str, str, Tree]] = []
        self.named: list[tuple[str, str, Tree]] = []
        by_name: dict[str, list[str]] = {}
        for path in paths:
            by_name.setdefault(path[len(within) :].partition(".")[0], []).append(path)
        for name, reached in by_name.items():
            path = within + name
            if path in masks.drop:
                self.gone.append(name)
            elif path in masks.mask and path.partition(".")[0] == "data":
                self.replaced.append((name, _NOTHING if path == "data" else MASK, path))
            elif path.count(".") < MAX_DEPTH:
                others = [one for one in reached if one != path]
                hidden = path in masks.mask or path in masks.pseudonymize
                # What is hidden is not pseudonymized, once more, below.
                below = masks._replace(pseudonymize=frozenset()) if hidden else masks
                deeper = Tree(others, below, path + ".", in_text)
                if path in masks.mask or not hidden:
                    self.inner.append((name, path if hidden else "", deeper))
                else:
                    self.named.append((name, path, deeper))

    @property
    def empty(self) -> bool:
        """Whether nothing is hidden."""
        return not (self.gone or self.replaced or self.inner or self.named)

    @classmethod
    def of(
        cls,
        mask: Iterable[str],
        drop: Iterable[str],
        pseudonymize: Iterable[str],
        in_text: bool = False,
    ) -> Tree:
        """Tree of paths of whole events; `in_text`: also where `data` has JSON within texts."""
        sets = _Sets(frozenset(mask), frozenset(drop), frozenset(pseudonymize))
        return cls((*mask, *drop, *pseudonymize), sets, in_text=in_text)


class Content:
    """Objects and lists of one event, decoded once each. Nothing in it is ever changed."""

    __slots__ = ("_decoded",)

    def __init__(self) -> None:
        # By the id of the value, which is kept with it.
        self._decoded: dict[int, tuple[msgspec.Raw, Any, Any]] = {}

    def hide(
        self,
        value: msgspec.Raw,
        tree: Tree,
        declared: list[str],
        pseudonymizer: Pseudonymizer | None,
    ) -> Any:
        """The value without what the tree hides, to be encoded; the paths that were masked are
        declared. It is the value itself if nothing was there, and encoding would not change it."""
        decoded = self._decoded.get(id(value))
        if decoded is None:
            decoded = self._decoded[id(value)] = _decode(value)
        _, content, whole = decoded
        if type(content) is dict:
            shown = self.edit(content, tree, declared, pseudonymizer)
            return whole if shown is content else shown
        if type(content) is list:
            items = [self.hide(item, tree, declared, pseudonymizer) for item in content]
            declared[:] = dict.fromkeys(declared)
            return whole if all(map(is_, items, content)) else items
        if tree.text and _holds_json(value):
            declared.append(tree.text)
            return MASK
        return value

    def edit(
        self,
        members: dict[str, msgspec.Raw],
        tree: Tree,
        declared: list[str],
        pseudonymizer: Pseudonymizer | None,
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
            shown = self.hide(value, inner, declared, pseudonymizer)
            if path:
                shown = _blank_shape(shown)
                declared.append(path)
            elif shown is value:
                continue
            if edited is members:
                edited = members.copy()
            edited[name] = shown
        if tree.named and pseudonymizer is not None:
            for name, path, inner in tree.named:
                value = members.get(name)
                if value is None:
                    continue
                if not inner.empty:
                    value = self.hide(value, inner, declared, pseudonymizer)
                shown = pseudonymizer.replace(value, path)
                if shown is not members[name]:
                    if edited is members:
                        edited = members.copy()
                    edited[name] = shown
        return edited


def _holds_json(value: msgspec.Raw) -> bool:
    """Whether a value is a text that looks like an object or a list in JSON."""
    if memoryview(value)[0] != ord('"'):
        return False
    text = str(msgspec.json.decode(value)).lstrip()
    if text[:1] != "[":
        return text[:1] == "{"
    # Lines of logs begin like this, too.
    try:
        decode_list(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


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


def _blank_shape(value: Any) -> Any:
    """The value with everything in it masked, but for names of members."""
    if isinstance(value, msgspec.Raw):
        value = _decode(value)[1]
    if isinstance(value, dict):
        return {name: _blank_shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_blank_shape(item) for item in value]
    return MASK
