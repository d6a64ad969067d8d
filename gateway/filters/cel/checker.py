"""Checker of filters: names, types and functions, and which members a filter reads.

A member's path is its names joined by dots, without list positions:
`targets[0].urn` and `targets.exists(t, t.urn == ...)` both read `targets.urn`.
Where a key is computed, or a map is compared, counted or walked over, the whole
map is read: the path is the map's.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from gateway.errors import InvalidFilter
from gateway.filters.cel.parser import QUANTIFIERS
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
    Select,
    Subscript,
    Unary,
    canonical_text,
    first_column,
)
from gateway.filters.cel.types import (
    ARITHMETIC,
    BOOL,
    DOUBLE,
    DYN,
    EVENT,
    FUNCTIONS,
    INT,
    LEFT_OUT,
    STRING,
    Overload,
    Type,
    agree,
    joined,
    type_of_literal,
)


def check(root: Node) -> frozenset[str]:
    """Check a filter; return the paths of the members that it reads. Raises `InvalidFilter`."""
    checker = _Checker()
    result = checker.type_of(root)
    if result.kind not in ("bool", "dyn"):
        detail = f"a filter is true or false, this is {result}; compare it with something"
        raise InvalidFilter(detail, column=first_column(root))
    return frozenset(checker.members)


@dataclass(slots=True)
class _Access:
    """Type and path of an accessed member. A `closed` path does not grow with further names."""

    type: Type
    path: str
    closed: bool = False

    def member(self, name: str, kind: Type) -> _Access:
        return _Access(kind, self.path if self.closed else f"{self.path}.{name}", self.closed)


@dataclass(slots=True)
class _Variable:
    access: _Access
    used: bool = False


class _Checker:
    def __init__(self) -> None:
        self.members: set[str] = set()
        self._variables: dict[str, _Variable] = {}

    def type_of(self, node: Node) -> Type:
        match node:
            case Constant(value=value):
                return type_of_literal(value)
            case Name() | Select() | Subscript():
                return self._read(node)
            case Has():
                return self._has(node)
            case ListOf(items=items):
                return self._list(items)
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)
            case Logic(operator=operator, operands=operands):
                for operand in operands:
                    self._needs_bool(operand, f"{operator} joins what is true or false")
                return BOOL
            case Choice():
                return self._choice(node)
            case Call():
                return self._call(node)
            case Quantifier():
                return self._quantifier(node)
        raise AssertionError(node)

    def _read(self, node: Name | Select | Subscript) -> Type:
        access = self._access(node)
        if isinstance(access, _Access):
            self.members.add(access.path)
            return access.type
        return access

    def _access(self, node: Node) -> _Access | Type:
        """Access of a chain of names and indices; a bare type if it starts at no member."""
        match node:
            case Name(name=name, column=column):
                if name in self._variables:
                    self._variables[name].used = True
                    return self._variables[name].access
                return _Access(self._member(EVENT, name, "an event", column), name)
            case Select(operand=operand, field=field, column=column):
                return self._selected(self._access(operand), field, column)
            case Subscript(operand=operand, key=Constant(value=str(key)), column=column):
                return self._selected(self._access(operand), key, column)
            case Subscript():
                return self._indexed(node)
            case _:
                return self.type_of(node)

    def _selected(self, holder: _Access | Type, field: str, column: int) -> _Access | Type:
        outer = holder.type if isinstance(holder, _Access) else holder
        path = holder.path if isinstance(holder, _Access) else "this"
        if outer.kind == "list":
            detail = f"{path} is a list; write {path}[0].{field} or {path}.exists(x, x.{field} ...)"
            raise InvalidFilter(detail, column=column)
        if not (outer.is_map or outer.is_dyn):
            raise InvalidFilter(f"{path} is {outer} and has no members", column=column)
        kind = self._member(outer, field, path, column) if outer.members else outer.inside
        return holder.member(field, kind) if isinstance(holder, _Access) else kind

    def _member(self, holder: Type, name: str, path: str, column: int) -> Type:
        known = holder.members or {}
        if name in known:
            return known[name]
        near = get_close_matches(name, known, n=1)
        if near:
            advice = f"did you mean {near[0]}?"
        elif holder is EVENT:
            advice = "what producers add is under data; its own are " + ", ".join(sorted(known))
        else:
            advice = "it has " + ", ".join(sorted(known))
        raise InvalidFilter(f"{path} has no member {name}; {advice}", column=column)

    def _indexed(self, node: Subscript) -> _Access | Type:
        holder = self._access(node.operand)
        outer = holder.type if isinstance(holder, _Access) else holder
        key = self.type_of(node.key)
        if outer.kind == "list":
            if not agree(key, INT, numbers=False):
                self._refuse(f"a list is indexed by an int, not by {key}", node.key)
        elif outer.is_map:
            if not agree(key, STRING):
                self._refuse(f"a map is indexed by a string, not by {key}", node.key)
        elif not outer.is_dyn:
            raise InvalidFilter(f"{outer} has no items", column=node.column)
        if isinstance(holder, _Access):
            # only a position is no name of a member
            closed = holder.closed or not (outer.kind == "list" or key.is_number)
            return _Access(outer.inside, holder.path, closed)
        return outer.inside

    def _has(self, node: Has) -> Type:
        if node.operand is None:
            if node.field in self._variables:
                detail = f"{node.field} is always there; has() takes a member, such as has(t.name)"
                raise InvalidFilter(detail, column=node.column)
            self._read(Name(node.column, node.field))
        else:
            self._read(Select(node.column, node.operand, node.field))
        return BOOL

    def _list(self, items: tuple[Node, ...]) -> Type:
        types = [self.type_of(item) for item in items]
        element = types[0] if types else DYN
        for kind in types[1:]:
            element = joined(element, kind)
        return Type("list", element=element)

    def _unary(self, node: Unary) -> Type:
        if node.operator == "!":
            self._needs_bool(node.operand, "! takes what is true or false")
            return BOOL
        kind = self.type_of(node.operand)
        if kind.kind not in ("int", "double", "dyn"):
            raise InvalidFilter(f"- does not take {kind}", column=node.column)
        return kind

    def _needs_bool(self, node: Node, rule: str) -> None:
        kind = self.type_of(node)
        if kind.kind not in ("bool", "dyn"):
            self._refuse(f"{rule}, not {kind}", node)

    def _binary(self, node: Binary) -> Type:
        left, right = self.type_of(node.left), self._in_right(node)
        sign = node.operator
        if sign in ARITHMETIC:
            return self._arithmetic(node, left, right)
        if sign == "in":
            if right.kind == "list":
                accepted = agree(left, right.inside)
            elif right.is_map:
                accepted = agree(left, STRING)
            else:
                accepted = right.is_dyn
        elif sign in ("==", "!="):
            accepted = agree(left, right)
        else:
            ordered = ("dyn", "int", "uint", "double", "string", "bool", "timestamp", "duration")
            accepted = left.kind in ordered and right.kind in ordered and agree(left, right)
        if not accepted:
            self._mismatch(node, left, right)
        return BOOL

    def _in_right(self, node: Binary) -> Type:
        """Type of the right operand. `"name" in actor` reads actor.name, as has() does."""
        container = node.right
        if node.operator != "in" or not isinstance(container, Name | Select | Subscript):
            return self.type_of(container)
        access = self._access(container)
        if not isinstance(access, _Access):
            return access
        read: _Access | Type = access
        match node.left:
            case Constant(value=str(key), column=column) if access.type.is_map:
                read = self._selected(access, key, column)
        self.members.add(read.path if isinstance(read, _Access) else access.path)
        return access.type

    def _mismatch(self, node: Binary, left: Type, right: Type) -> NoReturn:
        sign = node.operator
        one, other = _described(node.left, left), _described(node.right, right)
        if sign in ("==", "!="):
            detail = f"{one} can never equal {other}"
        elif sign != "in":
            detail = f"{sign} does not take {one} and {other}"
        elif right.kind == "list":
            detail = f"{one} can never be in a list of {right.inside.kind}s"
        elif right.is_map:
            detail = f"the keys of a map are strings; {one} can never be one"
        else:
            detail = f"in takes a list or a map on its right, not {other}"
        kinds = {left.kind, right.kind}
        if kinds == {"string", "timestamp"}:
            detail += "; convert the string with timestamp()"
        elif kinds == {"string", "duration"}:
            detail += "; convert the string with duration()"
        elif "null" in kinds:
            detail += "; ask with has() whether a member is there"
        raise InvalidFilter(detail, column=node.column)

    def _arithmetic(self, node: Binary, left: Type, right: Type) -> Type:
        if node.operator == "+" and "list" in (left.kind, right.kind):
            if not agree(left, right, numbers=False):
                self._mismatch(node, left, right)
            return joined(left, right)
        results = _results(ARITHMETIC[node.operator], (left, right))
        if not results:
            if left.is_number and right.is_number and left != right:
                detail = f"{node.operator} does not mix {left} and {right}; convert one of them"
                raise InvalidFilter(detail, column=node.column)
            self._mismatch(node, left, right)
        mixed = (left.is_dyn or right.is_dyn) and node.operator != "%"
        if mixed and any(result.is_number for result in results):
            results |= {DOUBLE}  # an event's number may have a fraction
        return results.pop() if len(results) == 1 else DYN

    def _choice(self, node: Choice) -> Type:
        self._needs_bool(node.condition, "? takes what is true or false on its left")
        then, otherwise = self.type_of(node.then), self.type_of(node.otherwise)
        if not agree(then, otherwise, numbers=False):
            detail = f"both branches of ? : have one type, not {then} and {otherwise}"
            raise InvalidFilter(detail, column=node.column)
        return joined(then, otherwise)

    def _call(self, node: Call) -> Type:
        name = node.function
        function = FUNCTIONS.get(name)
        if function is None:
            if name in LEFT_OUT:
                detail = f"{name}() is not part of filters: {LEFT_OUT[name]}"
                raise InvalidFilter(detail, column=node.column)
            known = [*FUNCTIONS, *QUANTIFIERS, "has"]
            near = get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}()?" if near else "there are " + ", ".join(known)
            raise InvalidFilter(f"there is no function {name}(); {advice}", column=node.column)
        if not (function.receiver if node.receiver else function.plain):
            written = f"{name}(x)" if function.plain else f"x.{name}(...)"
            raise InvalidFilter(f"{name}() is written {written}", column=node.column)
        types = tuple(self.type_of(argument) for argument in node.arguments)
        wanted = len(function.overloads[0][0])
        if len(types) != wanted:
            inside = wanted - 1 if node.receiver else wanted
            some = "no value" if not inside else "one value" if inside == 1 else f"{inside} values"
            raise InvalidFilter(f"{name}() takes {some} in its brackets", column=node.column)
        results = _results(function.overloads, types)
        if not results:
            given = " and ".join(str(kind) for kind in types)
            raise InvalidFilter(f"{name}() does not take {given}", column=node.column)
        return results.pop()  # all overloads of one function give one type

    def _quantifier(self, node: Quantifier) -> Type:
        source = node.range
        while isinstance(source, Select | Subscript):
            source = source.operand
        if not isinstance(source, Name):
            detail = f"{node.kind}() runs over the event's own lists, not over one built here"
            raise InvalidFilter(detail, column=node.column)
        over = self._access(node.range)
        assert isinstance(over, _Access)  # it is an access, because it starts with a name
        if over.type.kind == "list":
            item = over.type.inside
        elif over.type.is_map:
            item = STRING
        elif over.type.is_dyn:
            item = DYN
        else:
            detail = f"{node.kind}() runs over a list or the keys of a map, not {over.type}"
            raise InvalidFilter(detail, column=node.column)
        variable = _Variable(_Access(item, over.path, over.closed))
        hidden = self._variables.get(node.variable)
        self._variables[node.variable] = variable
        self._needs_bool(node.body, f"{node.kind}() takes a condition")
        del self._variables[node.variable]
        if hidden:
            self._variables[node.variable] = hidden
        if not (variable.used and over.type.kind == "list"):
            self.members.add(over.path)  # the count of items or the names of keys is read
        return BOOL

    def _refuse(self, detail: str, node: Node) -> NoReturn:
        raise InvalidFilter(detail, column=first_column(node))


def _results(
    overloads: list[Overload] | tuple[Overload, ...], given: tuple[Type, ...]
) -> set[Type]:
    """Result types of the overloads that the operands fit."""
    return {
        result
        for operands, result in overloads
        if all(
            kind.is_dyn or kind.kind == operand.kind or (kind.is_map and operand.is_map)
            for kind, operand in zip(given, operands, strict=True)
        )
    }


def _described(node: Node, kind: Type) -> str:
    """Node for an error message, such as `severity (an int)`; a long one by its type alone."""
    text = canonical_text(node)
    return f"{text} ({kind})" if len(text) <= 40 and text != str(kind) else str(kind)
