"""Definitions of sources as TOML; `deploy/sources.md` is the reference. Pure.

Parsing checks all of it: unknown members, paths that cannot be, and values outside the alphabet of
a member are refused with the line and the nearest valid name.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gateway.errors import InvalidSetting
from gateway.event import OUTCOMES
from gateway.filters.scope import RESERVED, is_reserved
from gateway.ingest.mapping.definition import (
    GROUPS,
    OPTION,
    OPTIONS,
    READERS,
    SINGLE,
    TARGET,
    ConstantValue,
    FunctionCall,
    Join,
    Origin,
    SourceDefinition,
    TargetValue,
    Template,
    Value,
    paths_of,
)
from gateway.ingest.mapping.path import (
    Condition,
    Each,
    InvalidPath,
    Member,
    Path,
    parse_condition,
    parse_path,
)
from gateway.ingest.mapping.template_text import parse_template
from gateway.ingest.mapping.toml_lines import line_of
from gateway.ingest.mapping.values import CONVERSIONS, action, category, tenant

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_EVENT = (*SINGLE, *GROUPS, "targets", "copies")
_TOP = (
    "name", "title", "aliases", "documentation", "version", "when", "skip", "envelopes", "parts",
    "reader", "native", "ignore_case", "root", "known_by", "event", "notes",
)  # fmt: skip
# What the reference says of a source beside what its definition tells.
_NOTES = ("outcome", "severity", "lost", "recipe", "run")
_ORIGINS = ("path", "const", "template", "join", "any", "function")
_VALUE = (*_ORIGINS, "with", "as", "table", "present", "absent", "default")
_REQUIRED = ("category", "action")
# Members that masks can hide, which copies repeat.
_COPIED = (
    *GROUPS,
    *(f"{group}.{name}" for group, names in GROUPS.items() for name in names),
    "targets",
    *(f"targets.{name}" for name in TARGET),
    "reason",
)


def parse_definition(
    text: str, file: str, functions: Iterable[str], check_envelope: Callable[[str], object]
) -> SourceDefinition:
    """Definition of a TOML text. Raises `InvalidSetting`, which names `file` and the line.

    `functions` are the names that `function` may have; `check_envelope` raises `InvalidPath`.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{file}: not valid TOML: {error}") from None
    try:
        return _Reading(set(functions), check_envelope).definition(content)
    except _Fault as fault:
        raise InvalidSetting(f"{file}, line {line_of(text, fault.keys)}: {fault}") from None


def definition_of(
    content: Mapping[str, Any],
    place: str,
    functions: Iterable[str],
    check_envelope: Callable[[str], object],
) -> SourceDefinition:
    """Definition of decoded TOML, such as a table of the settings at `place`."""
    try:
        return _Reading(set(functions), check_envelope).definition(content)
    except _Fault as fault:
        raise InvalidSetting(f"{place}.{fault}") from None


class _Fault(Exception):
    def __init__(self, keys: tuple[str, ...], reason: str) -> None:
        super().__init__(f"{'.'.join(keys)}: {reason}" if keys else reason)
        self.keys = keys


Keys = tuple[str, ...]


class _Reading:
    """Checks of one definition."""

    def __init__(self, functions: set[str], check_envelope: Callable[[str], object]) -> None:
        self._functions = functions
        self._check_envelope = check_envelope

    def definition(self, content: Mapping[str, Any]) -> SourceDefinition:
        _check_names((), content, _TOP)
        name = _text((), content, "name", required=True)
        if not NAME.fullmatch(name):
            raise _Fault(("name",), f"{name!r}: a-z, 0-9 and _ are needed, at most 32")
        event = _table(("event",), content.get("event"))
        _check_names(("event",), event, _EVENT)
        members = dict(self._members(event))
        for member in _REQUIRED:
            if member not in members:
                raise _Fault(("event",), f"{member} is needed")
        copies = self._copies(event)
        root = _text((), content, "root")
        if root and (category(root) != root or "." in root or is_reserved(root)):
            raise _Fault(("root",), f"{root!r}: the first word of categories is needed")
        if reader := _text((), content, "reader"):
            _check_known(("reader",), reader, READERS)
        _check_notes(content)
        given = event.get("targets", [])
        native = self._value(("event", "targets"), given) if isinstance(given, str) else None
        return SourceDefinition(
            name=name,
            title=_text((), content, "title") or name,
            aliases=_texts((), content, "aliases"),
            documentation=_text((), content, "documentation"),
            version=str(content.get("version", "")),
            when=_condition(content, "when"),
            needs=_text((), content, "when"),
            skip=_condition(content, "skip"),
            envelopes=self._envelopes(content),
            parts=_parts(content),
            reader=reader,
            native=_text((), content, "native"),
            ignore_case=content.get("ignore_case") is True,
            members=members,
            targets=() if native else tuple(self._targets(given)),
            native_targets=native,
            root=root,
            known_by=_condition(content, "known_by"),
            copies=copies,
        )

    def _envelopes(self, content: Mapping[str, Any]) -> tuple[str, ...]:
        found = _texts((), content, "envelopes")
        for envelope in found:
            try:
                self._check_envelope(envelope)
            except InvalidPath as error:
                raise _Fault(("envelopes",), str(error)) from None
        return found

    def _members(self, event: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
        for member in SINGLE:
            if member in event:
                yield member, self._value(("event", member), event[member], member)
        for group, names in GROUPS.items():
            if group in event:
                keys = ("event", group)
                table = _table(keys, event[group])
                _check_names(keys, table, names)
                for name, given in table.items():
                    yield f"{group}.{name}", self._value((*keys, name), given)

    def _targets(self, given: Any) -> Iterator[TargetValue]:
        keys = ("event", "targets")
        for item in given if isinstance(given, list) else [given]:
            table = _table(keys, item)
            if "function" in table:
                _check_names(keys, table, ("function",))
                yield TargetValue({}, function=self._function(keys, table["function"]))
                continue
            _check_names(keys, table, (*TARGET, "each"))
            each = _path((*keys, "each"), table["each"]) if "each" in table else None
            if each is not None and not each.is_many:
                raise _Fault((*keys, "each"), "a path with [] is needed")
            members = {
                name: self._value((*keys, name), table[name], in_item=each is not None)
                for name in TARGET
                if name in table
            }
            yield TargetValue(members, each)

    def _copies(self, event: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
        keys = ("event", "copies")
        found: dict[str, tuple[str, ...]] = {}
        for member, paths in _table(keys, event.get("copies", {})).items():
            _check_known((*keys, member), member, _COPIED)
            for path in paths if isinstance(paths, list) else [paths]:
                if not isinstance(path, str) or (path != "data" and not path.startswith("data.")):
                    raise _Fault((*keys, member), f"{path!r}: a path that begins with data.")
                _path((*keys, member), path)
            found[member] = tuple(paths) if isinstance(paths, list) else (paths,)
        return found

    def _value(self, keys: Keys, given: Any, member: str = "", *, in_item: bool = False) -> Value:
        if not isinstance(given, dict):
            value = Value(tuple(self._origins(keys, given)))
        else:
            _check_names(keys, given, _VALUE)
            value = Value(
                tuple(self._origins(keys, given)),
                given.get("as"),
                self._known_values(keys, given, member),
                self._result(keys, given, "present", member),
                self._result(keys, given, "absent", member),
            )
        if not value.origins:
            raise _Fault(keys, "at least one path is needed")
        if value.convert is not None:
            _check_known((*keys, "as"), value.convert, tuple(CONVERSIONS))
        for path in paths_of(value):
            first = path.steps[0] if path.steps else None
            if isinstance(first, Member) and first.name.startswith(OPTION):
                _check_known(keys, first.name.removeprefix(OPTION), OPTIONS)
            if path.in_item and not in_item:
                raise _Fault(keys, "`@` stands for an item of `each`, which is missing here")
        for origin in value.origins:
            if isinstance(origin, ConstantValue):
                _check_result(keys, member, origin.value)
        return value

    def _origins(self, keys: Keys, given: Any) -> Iterator[Origin]:
        if isinstance(given, list):
            for item in given:
                if isinstance(item, list):
                    raise _Fault(keys, "paths and tables are needed")
                if isinstance(item, dict):
                    yield self._value(keys, item, keys[-1], in_item=True)
                else:
                    yield from self._origins(keys, item)
            return
        if isinstance(given, str) and "{" in given:
            yield _template(keys, given)
            return
        if isinstance(given, str):
            path = _path(keys, given)
            if path.is_many:
                raise _Fault(keys, f"{given!r} has several values; use join")
            yield path
            return
        table = _table(keys, given)
        named = [name for name in _ORIGINS if name in table]
        if len(named) != 1:
            raise _Fault(keys, f"one of {', '.join(_ORIGINS)} is needed")
        name, content = named[0], table[named[0]]
        keys = (*keys, name)
        if name == "path":
            yield from self._origins(keys[:-1], content)
        elif name == "const":
            if not isinstance(content, str | int) or isinstance(content, bool):
                raise _Fault(keys, "a text or a whole number is needed")
            yield ConstantValue(content)
        elif name == "template":
            yield _template(keys, content)
        elif name == "join":
            paths = content if isinstance(content, list) else [content]
            if not paths:
                raise _Fault(keys, "at least one path is needed")
            yield Join(tuple(_path(keys, path) for path in paths), str(table.get("with", " ")))
        elif name == "function":
            yield FunctionCall(self._function(keys, content))
        else:
            if not isinstance(content, list):
                raise _Fault(keys, "a list is needed")
            yield from self._origins(keys[:-1], content)

    def _function(self, keys: Keys, name: Any) -> str:
        _check_known(keys, name, tuple(self._functions))
        return str(name)

    def _known_values(
        self, keys: Keys, given: Mapping[str, Any], member: str
    ) -> dict[str, str | int] | None:
        if "table" not in given and not {"present", "absent", "default"} & set(given):
            return None
        keys = (*keys, "table")
        table = _table(keys, given.get("table", {}))
        for key, result in table.items():
            _check_result((*keys, key), member, result)
        return dict(table)

    def _result(
        self, keys: Keys, given: Mapping[str, Any], name: str, member: str
    ) -> str | int | None:
        name = name if name in given else "default"
        if name in given:
            _check_result((*keys, name), member, given[name])
        result: str | int | None = given.get(name)
        return result


def _check_notes(content: Mapping[str, Any]) -> None:
    notes = _table(("notes",), content.get("notes", {}))
    _check_names(("notes",), notes, _NOTES)
    for name in notes:
        _text(("notes",), notes, name)


def _template(keys: Keys, text: Any) -> Template:
    if not isinstance(text, str):
        raise _Fault(keys, "a text is needed")
    try:
        return parse_template(text)
    except InvalidPath as error:
        raise _Fault(keys, str(error)) from None


def _parts(content: Mapping[str, Any]) -> str:
    if not (text := _text((), content, "parts")):
        return ""
    steps = _path(("parts",), text).steps
    if len(steps) != 2 or not isinstance(steps[0], Member) or not isinstance(steps[1], Each):
        raise _Fault(("parts",), f"{text!r}: the name of a list is needed, such as events[]")
    return steps[0].name


def _condition(content: Mapping[str, Any], name: str) -> Condition:
    text = _text((), content, name)
    try:
        return parse_condition(text) if text else ()
    except InvalidPath as error:
        raise _Fault((name,), str(error)) from None


def _path(keys: Keys, text: Any) -> Path:
    if not isinstance(text, str):
        raise _Fault(keys, f"a path is needed, not {text!r}")
    try:
        return parse_path(text)
    except InvalidPath as error:
        raise _Fault(keys, str(error)) from None


def _table(keys: Keys, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise _Fault(keys, "a table is needed")
    return content


def _text(keys: Keys, content: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = content.get(name, "")
    if not isinstance(value, str) or (required and not value):
        raise _Fault((*keys, name), "a text is needed")
    return value


def _texts(keys: Keys, content: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = content.get(name, [])
    if not isinstance(found, list):
        raise _Fault((*keys, name), "a list is needed")
    for text in found:
        if not isinstance(text, str):
            raise _Fault((*keys, name), f"a text is needed, not {text!r}")
    return tuple(found)


def _check_names(keys: Keys, content: Mapping[str, Any], known: Iterable[str]) -> None:
    for name in content:
        _check_known((*keys, name), name, tuple(known))


def _check_known(keys: Keys, name: Any, known: tuple[str, ...]) -> None:
    if name not in known:
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"
        raise _Fault(keys, f"{name!r} is not known{hint}")


def _check_result(keys: Keys, member: str, value: Any) -> None:
    """Refuse a value that the member cannot have."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise _Fault(keys, f"a text or a number is needed, not {value!r}")
    if member == "outcome" and value not in OUTCOMES:
        _check_known(keys, value, OUTCOMES)
    if member == "severity" and not (isinstance(value, int) and 1 <= value <= 6):
        raise _Fault(keys, f"{value!r}: a severity is a number from 1 to 6")
    cleaned = {"category": category, "action": action, "tenant": tenant}.get(member)
    if cleaned is None:
        return
    if not cleaned(str(value)):
        raise _Fault(keys, f"no event has this {member}")
    if (member == "category" and is_reserved(category(str(value)))) or (
        member == "tenant" and value == RESERVED
    ):
        raise _Fault(keys, f"`{RESERVED}` is reserved for the gateway's own records")
