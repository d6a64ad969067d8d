"""Compiler from a checked syntax tree to Python closures.

Each node is compiled as its context needs: `value` gives its value or ERROR (`reads`), `test` tests
whether it is true, or false (`shapes`). Constant parts are computed at compile time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from gateway.errors import InvalidFilter
from gateway.filters.cel import reads as reads
from gateway.filters.cel import shapes as shapes
from gateway.filters.cel.functions import (
    BINARY,
    CONVERSIONS,
    MAX_PROGRAM,
    UNARY,
    Search,
    compile_pattern,
)
from gateway.filters.cel.reads import Read
from gateway.filters.cel.shapes import Test
from gateway.filters.cel.tree import (
    Binary,
    Call,
    Choice,
    Constant,
    Has,
    ListOf,
    Logic,
    Name,
    Node,
    Quantifier,
    Scalar,
    Select,
    Subscript,
    Unary,
    children,
    first_column,
    walk,
)
from gateway.filters.cel.types import EVENT
from gateway.filters.cel.values import (
    BUDGET,
    ERROR,
    NUMBERS,
    ORDERINGS,
    Frame,
    add,
    contained,
    divide,
    equal,
    indexed,
    multiply,
    negate,
    ordering,
    remainder,
    subtract,
)

_UNKNOWN: Final = object()  # result of `_constant` for a node that needs the event
_SCALARS: Final = frozenset({str, bool, type(None), *NUMBERS})
_COUNTED: Final[dict[str, Callable[[Any, Any, Frame], Any]]] = (
    {"+": add, "==": equal, "!=": equal, "in": contained}
    | {sign: ordering(sign) for sign in ORDERINGS}
    | BINARY
)
_UNCOUNTED: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}
_MIRRORED: Final = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_OPPOSITE: Final = {"==": "!=", "!=": "=="}
_AFFIXES: Final = {"startsWith": str.startswith, "endsWith": str.endswith}
# Values of absent objects and lists of the event, so that has(actor.name) and
# targets.exists(...) are then false, and not errors.
_EMPTY: Final[dict[str, Any]] = {
    name: {} if kind.is_map else []
    for name, kind in (EVENT.members or {}).items()
    if kind.is_map or kind.kind == "list"
}
_Way = TypeVar("_Way", Read, Test)


def compile_tree(root: Node) -> tuple[Test, Frame]:
    """Test of a filter, and the frame that every evaluation copies.

    The frame is empty if nothing is charged to the budget. Raises `InvalidFilter` for a bad
    pattern, and for a constant that cannot be converted.
    """
    compiler = _Compiler()
    test = compiler.test(root, True)
    return test, [BUDGET] + [None] * compiler.slots if compiler.counts else []


class _Compiler:
    def __init__(self) -> None:
        self.counts = False  # whether anything uses the frame
        self.slots = 0
        self._variables: dict[str, int] = {}
        self._constants: dict[int, Any] = {}
        self._room = MAX_PROGRAM

    def test(self, node: Node, wanted: bool) -> Test:
        """Test of whether a node is just `wanted`: true, or false."""
        test: Test | None = None
        match node:
            case Logic(operator=operator, operands=operands):
                join = shapes.every if (operator == "&&") is wanted else shapes.some
                test = join([self.test(operand, wanted) for operand in operands])
            case Unary(operator="!", operand=operand):
                test = self.test(operand, not wanted)
            case Choice(condition=condition, then=then, otherwise=otherwise):
                tests = self.test(then, wanted), self.test(otherwise, wanted)
                test = shapes.either(self.value(condition), *tests)
            case Quantifier(kind="exists" | "all" as kind):
                items = self._items(node, lambda body: self.test(body, wanted))
                test = shapes.of_items(*items, some=(kind == "exists") is wanted)
            case Binary(operator="in", left=left, right=right):
                test = self._membership(left, right, wanted)
            case Binary(operator=operator, left=left, right=right) if wanted:
                test = self._relation(operator, left, right)
            case Binary(operator="==" | "!=" as operator, left=left, right=right):
                test = self._relation(_OPPOSITE[operator], left, right)
            case Call(arguments=(text, part)) if wanted:
                test = self._string_test(node, text, part)
        if test:
            return test
        value = self.value(node)
        return lambda event, frame: value(event, frame) is wanted

    def _relation(self, sign: str, left: Node, right: Node) -> Test | None:
        """Test of a relation with a constant; None if neither side is one."""
        if sign in _MIRRORED and self._constant(right) is _UNKNOWN:
            sign, left, right = _MIRRORED[sign], right, left
        constant = self._constant(right)
        if type(constant) not in _SCALARS:
            return None
        read, names = self.value(left), self._names(left)
        if sign == "==":
            return shapes.equals(read, names, constant)
        if sign == "!=":
            return shapes.differs(read, constant)
        if sign in ORDERINGS and constant is not None and type(constant) is not bool:
            return shapes.compares(read, names, sign, constant)
        return None

    def _membership(self, left: Node, right: Node, wanted: bool) -> Test | None:
        items: list[Scalar] = self._constant(right)
        if type(items) is not list or any(type(item) not in _SCALARS for item in items):
            return None
        return shapes.is_among(self.value(left), self._names(left), items, wanted)

    def _string_test(self, node: Call, text: Node, part: Node) -> Test | None:
        if node.function == "matches":
            return shapes.finds(self.value(text), self._pattern(part))
        constant, holds = self._constant(part), _AFFIXES.get(node.function)
        if holds is None or type(constant) is not str:
            return None
        return shapes.has_affix(self.value(text), holds, constant)

    def value(self, node: Node) -> Read:
        constant = self._constant(node)
        if constant is not _UNKNOWN:
            return lambda event, frame: constant
        return self._computed(node)

    def _computed(self, node: Node) -> Read:
        match node:
            case Name(name=name):
                if name in self._variables:
                    return reads.variable(self._variables[name])
                return reads.member(name, _EMPTY.get(name, ERROR))
            case Select() | Subscript(key=Constant(value=str())):
                return self._member(node)
            case Subscript(operand=operand, key=key):
                return self._binary(indexed, operand, key)
            case Has(operand=None, field=field):
                return lambda event, frame: field in event
            case Has(operand=holder, field=field) if holder is not None:
                return reads.has(self.value(holder), field)
            case ListOf(items=items):
                return reads.list_of([self.value(item) for item in items])
            case Unary(operator="!", operand=operand):
                return reads.opposite(self.value(operand))
            case Unary(operand=operand):
                value = self.value(operand)
                return lambda event, frame: negate(value(event, frame))
            case Binary(operator=operator, left=left, right=right):
                if operator in _UNCOUNTED:
                    return self._binary(_UNCOUNTED[operator], left, right)
                read = self._counted(_COUNTED[operator], left, right)
                return reads.opposite(read) if operator == "!=" else read
            case Logic(operator=operator, operands=operands):
                return reads.logic([self.value(part) for part in operands], operator == "||")
            case Choice(condition=condition, then=then, otherwise=otherwise):
                branches = self.value(then), self.value(otherwise)
                return reads.choice(self.value(condition), *branches)
            case Call(arguments=arguments):
                return self._call(node, *arguments)
            case Quantifier(kind="exists_one"):
                return reads.exactly_one(*self._items(node, self.value))
            case Quantifier(kind=kind):
                return reads.quantified(*self._items(node, self.value), kind == "exists")
        raise AssertionError(node)  # a Constant needs no computing

    def _member(self, node: Select | Subscript) -> Read:
        names = self._names(node)
        if names:
            return reads.inner_member(*names)
        name = node.field if isinstance(node, Select) else self._constant(node.key)
        return reads.member_of(self.value(node.operand), name)

    def _names(self, node: Node) -> tuple[str, ...]:
        """Path of a member one or two levels deep in the event; else empty."""
        match node:
            case Name(name=name) if name not in self._variables:
                return (name,)
            case (
                Select(operand=Name(name=outer), field=name)
                | Subscript(operand=Name(name=outer), key=Constant(value=str(name)))
            ) if outer not in self._variables:
                return (outer, name)
        return ()

    def _binary(self, apply: Callable[[Any, Any], Any], left: Node, right: Node) -> Read:
        one, other = self.value(left), self.value(right)
        return lambda event, frame: apply(one(event, frame), other(event, frame))

    def _counted(self, apply: Callable[[Any, Any, Frame], Any], left: Node, right: Node) -> Read:
        self.counts = True
        one, other = self.value(left), self.value(right)
        return lambda event, frame: apply(one(event, frame), other(event, frame), frame)

    def _call(self, node: Call, first: Node, *others: Node) -> Read:
        if node.function == "matches":
            text, found = self.value(first), self._pattern(others[0])
            return lambda event, frame: (
                found(value, frame) if type(value := text(event, frame)) is str else ERROR
            )
        if others:
            return self._counted(_COUNTED[node.function], first, others[0])
        self.counts = True
        argument, apply = self.value(first), UNARY[node.function]
        return lambda event, frame: apply(argument(event, frame), frame)

    def _pattern(self, node: Node) -> Search:
        pattern = self._constant(node)
        if type(pattern) is not str:
            detail = "matches() takes its pattern as a literal, so that it is compiled once"
            raise InvalidFilter(detail, column=first_column(node))
        self.counts = True
        search, size = compile_pattern(pattern, first_column(node), self._room)
        self._room -= size
        return search

    def _items(self, node: Quantifier, way: Callable[[Node], _Way]) -> tuple[Read, int, _Way, int]:
        """Range, slot of the variable, body compiled with `way`, and its cost for one item."""
        items = self.value(node.range)
        outer = self._variables
        slot = 1 + max(outer.values(), default=0)
        self.counts, self.slots = True, max(self.slots, slot)
        self._variables = outer | {node.variable: slot}
        body = way(node.body)
        self._variables = outer
        return items, slot, body, 1 + sum(1 for _ in walk(node.body))

    def _constant(self, node: Node) -> Any:
        """Value of a node that does not depend on the event, else `_UNKNOWN`."""
        if id(node) not in self._constants:  # the tree outlives this compiler, so ids stay unique
            self._constants[id(node)] = self._folded(node)
        return self._constants[id(node)]

    def _folded(self, node: Node) -> Any:
        if isinstance(node, Constant):
            return node.value
        foldable = isinstance(node, ListOf | Unary | Binary | Logic | Choice | Call)
        if not foldable or (isinstance(node, Call) and node.function == "matches"):
            return _UNKNOWN
        if any(self._constant(child) is _UNKNOWN for child in children(node)):
            return _UNKNOWN
        result = self._computed(node)({}, [BUDGET])
        if result is not ERROR:
            return result
        if isinstance(node, Call) and node.function in CONVERSIONS:
            detail = f"{node.function}() cannot convert this"
            raise InvalidFilter(detail, column=first_column(node.arguments[0]))
        return _UNKNOWN  # an error at every event, which || may still absorb
