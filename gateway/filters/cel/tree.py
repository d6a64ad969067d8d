"""Syntax tree of a filter expression, and its canonical text.

Columns count characters of the source from 1. A chain of one `&&` or `||` is
one `Logic` node, however it was bracketed: both are associative in CEL, also
where an operand is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from gateway.filters.cel.values import Uint

Scalar: TypeAlias = str | int | float | bool | None


class Node(msgspec.Struct, frozen=True):
    """Any node; `column` is where its text begins, unless it says otherwise."""

    column: int


class Constant(Node, frozen=True):
    value: Scalar


class Name(Node, frozen=True):
    """A top-level member of the event, or the variable of an enclosing quantifier."""

    name: str


class Select(Node, frozen=True):
    """`operand.field`; the column is the field's."""

    operand: Node
    field: str


class Subscript(Node, frozen=True):
    """`operand[key]`; the column is the bracket's."""

    operand: Node
    key: Node


class Has(Node, frozen=True):
    """`has(operand.field)`; without an operand, `has(member)`; the column is the field's."""

    operand: Node | None
    field: str


class ListOf(Node, frozen=True):
    items: tuple[Node, ...]


class Unary(Node, frozen=True):
    """`!` or `-`."""

    operator: str
    operand: Node


class Binary(Node, frozen=True):
    """A relation, `in`, or arithmetic; the column is the operator's."""

    operator: str
    left: Node
    right: Node


class Logic(Node, frozen=True):
    """`&&` or `||` over two or more operands; the column is the first operator's."""

    operator: str
    operands: tuple[Node, ...]


class Choice(Node, frozen=True):
    """`condition ? then : otherwise`; the column is the question mark's."""

    condition: Node
    then: Node
    otherwise: Node


class Call(Node, frozen=True):
    """`function(arguments)`, or `first.function(others)` where `receiver` is set."""

    function: str
    arguments: tuple[Node, ...]
    receiver: bool


class Quantifier(Node, frozen=True):
    """`range.kind(variable, body)` with kind `exists`, `all` or `exists_one`."""

    kind: str
    range: Node
    variable: str
    body: Node


def children(node: Node) -> list[Node]:
    """Direct children of a node, in the order of the source."""
    members = [getattr(node, name) for name in node.__struct_fields__]
    parts = [part if isinstance(part, tuple) else (part,) for part in members]
    return [one for part in parts for one in part if isinstance(one, Node)]


def walk(root: Node) -> Iterator[tuple[Node, int]]:
    """Every node with its depth (the root's is 1), without recursion."""
    waiting = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        waiting.extend((child, depth + 1) for child in children(node))


def first_column(node: Node) -> int:
    """Column where the text of a node begins, without its opening brackets."""
    return min(part.column for part, _ in walk(node))


_LEVELS = {"||": 2, "&&": 3, "+": 5, "-": 5, "*": 6, "/": 6, "%": 6}
_CHOICE, _RELATION, _UNARY, _MEMBER = 1, 4, 7, 8
_RECEIVERS = frozenset(
    {"contains", "startsWith", "endsWith", "matches", "lowerAscii", "upperAscii"}
)
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_KEYWORDS = frozenset({"true", "false", "null", "in"})
_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x1f\x7f-\x9f]')


def canonical_text(node: Node) -> str:
    """Canonical text of a tree, whatever its spaces, quotes, brackets and number formats were."""
    return _text(node, _CHOICE)


def _text(node: Node, level: int) -> str:
    """Text of `node`, in brackets where it binds less tightly than `level`."""
    text, own = _written(node)
    return text if own >= level else f"({text})"


def _written(node: Node) -> tuple[str, int]:
    """Text of a node, and how tightly it binds."""
    match node:
        case Constant(value=value):
            return _scalar(value), _MEMBER
        case Name(name=name):
            return name, _MEMBER
        case Select(operand=operand, field=field):
            return f"{_text(operand, _MEMBER)}.{field}", _MEMBER
        case Subscript(operand=operand, key=Constant(value=str(key))) if is_selector(key):
            return f"{_text(operand, _MEMBER)}.{key}", _MEMBER
        case Subscript(operand=operand, key=key):
            return f"{_text(operand, _MEMBER)}[{_text(key, _CHOICE)}]", _MEMBER
        case Has(operand=holder, field=field):
            path = field if holder is None else f"{_text(holder, _MEMBER)}.{field}"
            return f"has({path})", _MEMBER
        case ListOf(items=items):
            return f"[{_listed(items)}]", _MEMBER
        case Unary(operator=operator, operand=operand):
            return operator + _text(operand, _UNARY), _UNARY
        case Binary(operator=operator, left=left, right=right):
            own = _LEVELS.get(operator, _RELATION)
            return f"{_text(left, own)} {operator} {_text(right, own + 1)}", own
        case Logic(operator=operator, operands=operands):
            own = _LEVELS[operator]
            return f" {operator} ".join(_text(part, own + 1) for part in operands), own
        case Choice(condition=condition, then=then, otherwise=otherwise):
            parts = _text(condition, 2), _text(then, 2), _text(otherwise, _CHOICE)
            return "{} ? {} : {}".format(*parts), _CHOICE
        case Call(function=function, arguments=(first, *others)) if function in _RECEIVERS:
            return f"{_text(first, _MEMBER)}.{function}({_listed(others)})", _MEMBER
        case Call(function=function, arguments=arguments):
            return f"{function}({_listed(arguments)})", _MEMBER
        case Quantifier(kind=kind, range=over, variable=variable, body=body):
            inside = f"{variable}, {_text(body, _CHOICE)}"
            return f"{_text(over, _MEMBER)}.{kind}({inside})", _MEMBER
    raise AssertionError(node)


def is_selector(text: str) -> bool:
    """Whether `a.text` can stand for `a["text"]`."""
    return bool(_IDENTIFIER.fullmatch(text)) and text not in _KEYWORDS


def _listed(nodes: tuple[Node, ...] | list[Node]) -> str:
    return ", ".join(_text(node, _CHOICE) for node in nodes)


def _scalar(value: Scalar) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + _NEEDS_ESCAPE.sub(_escaped, value) + '"'
    return f"{int(value)}u" if isinstance(value, Uint) else repr(value)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    return "\\" + character if character in '"\\' else f"\\u{ord(character):04x}"
