"""Static types for the checker: types, the event's members, functions.

Members of the free-form `data` have the type `dyn`, known only at evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.filters.cel.tree import Scalar
from gateway.filters.cel.values import Uint


@dataclass(frozen=True, slots=True)
class Type:
    """Type: `element` is the type of a list's or map's items; `members` are those of an object."""

    kind: str
    element: Type | None = None
    members: Mapping[str, Type] | None = None

    def __str__(self) -> str:
        if self.is_dyn:
            return "of unknown type"
        article = "an " if self.kind[0] in "aeio" else "a "
        return "null" if self.kind == "null" else article + self.kind

    @property
    def is_dyn(self) -> bool:
        return self.kind == "dyn"

    @property
    def is_number(self) -> bool:
        return self.kind in ("int", "uint", "double")

    @property
    def is_map(self) -> bool:
        return self.kind in ("map", "object")

    @property
    def inside(self) -> Type:
        """Type of an item or a value."""
        return self.element or DYN


DYN: Final = Type("dyn")
BOOL: Final = Type("bool")
INT: Final = Type("int")
UINT: Final = Type("uint")
DOUBLE: Final = Type("double")
STRING: Final = Type("string")
NULL: Final = Type("null")
TIMESTAMP: Final = Type("timestamp")
DURATION: Final = Type("duration")


def _object(*strings: str, **others: Type) -> Type:
    return Type("object", members=dict.fromkeys(strings, STRING) | others)


EVENT: Final = _object(
    "id",
    "time",
    "recorded_at",
    "cursor",
    "tenant",
    "category",
    "action",
    "outcome",
    "reason",
    severity=INT,
    actor=_object("type", "id", "name", "key_id"),
    source=_object("service", "ip", "user_agent", port=INT),
    targets=Type("list", element=_object("urn", "type", "id", "name")),
    request=_object("id", "trace_id"),
    data=Type("map", element=DYN),
)

_LITERALS = {str: STRING, bool: BOOL, int: INT, Uint: UINT, float: DOUBLE, type(None): NULL}


def type_of_literal(value: Scalar) -> Type:
    return _LITERALS[type(value)]


def agree(one: Type, other: Type, *, numbers: bool = True) -> bool:
    """Whether values of the two types can be equal.

    With `numbers`, numbers of any two types can, since they compare by value;
    without it, the types have to be the same, as in the branches of a choice.
    """
    if one.is_dyn or other.is_dyn:
        return True
    if one.is_map and other.is_map:
        return True
    if numbers and one.is_number and other.is_number:
        return True
    if one.kind == other.kind == "list":
        return agree(one.inside, other.inside, numbers=numbers)
    return one.kind == other.kind


def joined(one: Type, other: Type) -> Type:
    """Type of a value that has one of the two types."""
    if one == other:
        return one
    if one.kind == other.kind == "list":
        return Type("list", element=joined(one.inside, other.inside))
    return Type("map", element=DYN) if one.is_map and other.is_map else DYN


Overload = tuple[tuple[Type, ...], Type]  # operands, result
_LIST, _MAP = Type("list"), Type("map")


@dataclass(frozen=True, slots=True)
class Function:
    """Function: `receiver` allows the form `x.f(y)`, `plain` the form `f(x, y)`."""

    overloads: tuple[Overload, ...]
    receiver: bool = False
    plain: bool = False


def _conversion(result: Type, *sources: Type) -> Function:
    return Function(tuple(((source,), result) for source in (result, *sources)), plain=True)


_string_test = Function((((STRING, STRING), BOOL),), receiver=True)
_string_change = Function((((STRING,), STRING),), receiver=True)

FUNCTIONS: Final[dict[str, Function]] = {
    "size": Function(
        tuple(((sized,), INT) for sized in (STRING, _LIST, _MAP)), receiver=True, plain=True
    ),
    "contains": _string_test,
    "startsWith": _string_test,
    "endsWith": _string_test,
    "matches": Function(_string_test.overloads, receiver=True, plain=True),
    "lowerAscii": _string_change,
    "upperAscii": _string_change,
    "bool": _conversion(BOOL, STRING),
    "int": _conversion(INT, UINT, DOUBLE, STRING, TIMESTAMP),
    "uint": _conversion(UINT, INT, DOUBLE, STRING),
    "double": _conversion(DOUBLE, INT, UINT, STRING),
    "string": _conversion(STRING, BOOL, INT, UINT, DOUBLE, TIMESTAMP, DURATION),
    "timestamp": _conversion(TIMESTAMP, STRING, INT),
    "duration": _conversion(DURATION, STRING),
}

_zone = "there are no time zone accessors; compare with timestamp(...)"
_built = "lists are not built in filters; ask with exists(), all() or exists_one()"
LEFT_OUT: Final[dict[str, str]] = {
    "filter": _built,
    "map": _built,
    "transformList": _built,
    "transformMap": _built,
    "type": "types are no values in filters",
    "dyn": "members of data are dynamic already",
    "bytes": "events hold no bytes",
} | dict.fromkeys(
    [
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
    ],
    _zone,
)


def _same(*kinds: Type) -> list[Overload]:
    return [((kind, kind), kind) for kind in kinds]


_NUMERIC = _same(INT, UINT, DOUBLE)
ARITHMETIC: Final[dict[str, list[Overload]]] = {
    "+": [
        *_NUMERIC,
        *_same(STRING, DURATION),
        ((TIMESTAMP, DURATION), TIMESTAMP),
        ((DURATION, TIMESTAMP), TIMESTAMP),
    ],
    "-": [
        *_NUMERIC,
        *_same(DURATION),
        ((TIMESTAMP, DURATION), TIMESTAMP),
        ((TIMESTAMP, TIMESTAMP), DURATION),
    ],
    "*": _NUMERIC,
    "/": _NUMERIC,
    "%": _same(INT, UINT),
}
