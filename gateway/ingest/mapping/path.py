"""Paths to members of a record, and conditions over them. Pure.

    path      = ["@" "."] step *( "." step )
    step      = ( name | string ) *( "[" [ "-" ] digits "]" | "[]" | "[?" name "==" string "]" )
    condition = all *( "||" all )
    all       = term *( "&&" term )
    term      = ["!"] path | path ( "==" | "!=" ) string

A name has no dot, bracket, quote or space; others are written as a string: `a."b.c/d"`. `[n]` is
one item of a list, from the end if negative; `[]` is each item, and `[?kind=="user"]` the first one
that has that member. `@` is the item that a target is made for. In a condition's string `*`
stands for any characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import translate
from typing import Any, NamedTuple

_NAME = re.compile(r"""[^\s.\[\]"'|&!=<>(){}?,]+""")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_ITEM = re.compile(r"\[(-?\d{1,4})\]")
_SPACE = re.compile(r"\s*")
_AT_ITEM = re.compile(r"@(?![^\s.|}\]])")
MOST_STEPS = 16


class InvalidPath(ValueError):
    """The text is no path or no condition; the message says where and why."""


class Member(NamedTuple):
    """The member of an object."""

    name: str


class Item(NamedTuple):
    """One item of a list, counted from 0, or from its end if negative."""

    place: int


class Each(NamedTuple):
    """Every item of a list."""


class Pick(NamedTuple):
    """The first item of a list whose `member` is `value`."""

    member: str
    value: str


Step = Member | Item | Each | Pick


class Path(NamedTuple):
    """Path from the record, or from the item of a target (`in_item`)."""

    steps: tuple[Step, ...]
    in_item: bool = False

    @property
    def is_many(self) -> bool:
        """Whether there may be several values at the path."""
        return any(isinstance(step, Each) for step in self.steps)


class Term(NamedTuple):
    """Test of one path: that it is there, or equals `pattern`; `negated`: that it does not."""

    path: Path
    pattern: re.Pattern[str] | None
    negated: bool


Condition = tuple[tuple[Term, ...], ...]


class _Text:
    """A text that is read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, token: str) -> bool:
        self.skip()
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def skip(self) -> None:
        self.match(_SPACE)

    def fail(self, wanted: str) -> InvalidPath:
        return InvalidPath(f"{self.text!r}: {wanted} is needed at character {self.at + 1}")

    def string(self) -> str | None:
        found = self.match(_STRING)
        if found is None:
            return None
        try:
            value: str = json.loads(found[0])
        except ValueError:
            raise self.fail('a string such as "text", escaped as in JSON,') from None
        return value

    @property
    def is_done(self) -> bool:
        self.skip()
        return self.at == len(self.text)


def parse_path(text: str) -> Path:
    """Path of a text. Raises `InvalidPath`."""
    reading = _Text(text)
    path = _path(reading)
    if not reading.is_done:
        raise reading.fail("the end, or a dot and a name,")
    return path


def parse_condition(text: str) -> Condition:
    """Condition of a text. Raises `InvalidPath`."""
    reading = _Text(text)
    condition = [_all(reading)]
    while reading.take("||"):
        condition.append(_all(reading))
    if not reading.is_done:
        raise reading.fail("&&, || or the end")
    return tuple(condition)


def _all(reading: _Text) -> tuple[Term, ...]:
    terms = [_term(reading)]
    while reading.take("&&"):
        terms.append(_term(reading))
    return tuple(terms)


def _term(reading: _Text) -> Term:
    negated = reading.take("!")
    reading.skip()
    path = _path(reading)
    if path.is_many or path.in_item:
        raise reading.fail("a path to one value of the record")
    unequal = False
    if negated or not (reading.take("==") or (unequal := reading.take("!="))):
        return Term(path, None, negated)
    reading.skip()
    value = reading.string()
    if value is None:
        raise reading.fail('a string such as "text"')
    return Term(path, re.compile(translate(re.sub(r"[\[?]", r"[\g<0>]", value))), unequal)


def _path(reading: _Text) -> Path:
    in_item = reading.match(_AT_ITEM) is not None
    steps: list[Step] = []
    if in_item:
        if not reading.text.startswith(".", reading.at):
            return Path((), True)
        reading.at += 1
    steps += _step(reading)
    while reading.text.startswith(".", reading.at):
        reading.at += 1
        steps += _step(reading)
    if len(steps) > MOST_STEPS:
        raise InvalidPath(f"{reading.text!r}: a path has at most {MOST_STEPS} steps")
    return Path(tuple(steps), in_item)


def _step(reading: _Text) -> Iterator[Step]:
    name = reading.string()
    if name is None:
        found = reading.match(_NAME)
        if found is None:
            raise reading.fail("a member's name")
        name = found[0]
    yield Member(name)
    while reading.text.startswith("[", reading.at):
        yield _bracket(reading)


def _bracket(reading: _Text) -> Step:
    if found := reading.match(_ITEM):
        return Item(int(found[1]))
    if reading.take("[]"):
        return Each()
    if reading.take("[?"):
        name = reading.match(_NAME)
        if name is not None and reading.take("=="):
            reading.skip()
            value = reading.string()
            if value is not None and reading.take("]"):
                return Pick(name[0], value)
    raise reading.fail('[0], [], or [?name=="text"]')


# Evaluation


def values_at(value: Any, steps: tuple[Step, ...]) -> list[Any]:
    """All values at the steps from `value`, which is decoded JSON; nulls are none."""
    found = [value]
    for step in steps:
        found = [inner for outer in found for inner in _inner(outer, step)]
    return [inner for inner in found if inner is not None]


def value_at(value: Any, steps: tuple[Step, ...]) -> Any:
    """The first value at the steps, None if there is none."""
    found = values_at(value, steps)
    return found[0] if found else None


def _inner(value: Any, step: Step) -> Iterator[Any]:
    if isinstance(step, Member):
        if type(value) is dict and step.name in value:
            yield value[step.name]
    elif type(value) is not list:
        return
    elif isinstance(step, Item):
        if -len(value) <= step.place < len(value):
            yield value[step.place]
    elif isinstance(step, Each):
        yield from value
    else:
        for item in value:
            if type(item) is dict and item.get(step.member) == step.value:
                yield item
                return
