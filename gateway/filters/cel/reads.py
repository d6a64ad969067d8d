"""Closures that compute the value of an expression for an event, or ERROR.

The frame holds the remaining budget and, in slots, the variables of the enclosing quantifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.filters.cel.values import ERROR, Frame, charge

Event = Mapping[str, Any]
Read = Callable[[Event, Frame], Any]


def member(name: str, absent: Any) -> Read:
    """Read a top-level member of the event; `absent` if it has none."""
    return lambda event, frame: event.get(name, absent)


def variable(slot: int) -> Read:
    return lambda event, frame: frame[slot]


def inner_member(outer: str, name: str) -> Read:
    """Read `outer.name` of the event."""

    def read(event: Event, frame: Frame) -> Any:
        holder = event.get(outer)
        return holder.get(name, ERROR) if type(holder) is dict else ERROR

    return read


def member_of(holder: Read, name: str) -> Read:
    """`holder.name`."""

    def read(event: Event, frame: Frame) -> Any:
        outer = holder(event, frame)
        return outer.get(name, ERROR) if type(outer) is dict else ERROR

    return read


def has(holder: Read, name: str) -> Read:
    """`has(holder.name)`."""

    def read(event: Event, frame: Frame) -> Any:
        outer = holder(event, frame)
        return name in outer if type(outer) is dict else ERROR

    return read


def list_of(items: Sequence[Read]) -> Read:
    def read(event: Event, frame: Frame) -> Any:
        values = [item(event, frame) for item in items]
        return ERROR if ERROR in values else values

    return read


def opposite(operand: Read) -> Read:
    """`!operand`."""

    def read(event: Event, frame: Frame) -> Any:
        value = operand(event, frame)
        return not value if type(value) is bool else ERROR

    return read


def logic(operands: Sequence[Read], deciding: bool) -> Read:
    """`||`, which one True (`deciding`) decides, or `&&`, which one False does, despite errors."""

    def read(event: Event, frame: Frame) -> Any:
        result: Any = not deciding
        for operand in operands:
            value = operand(event, frame)
            if value is deciding:
                return deciding
            if type(value) is not bool:
                result = ERROR
        return result

    return read


def choice(condition: Read, then: Read, otherwise: Read) -> Read:
    def read(event: Event, frame: Frame) -> Any:
        chosen = condition(event, frame)
        if chosen is True:
            return then(event, frame)
        return otherwise(event, frame) if chosen is False else ERROR

    return read


def quantified(items: Read, slot: int, body: Read, cost: int, deciding: bool) -> Read:
    """`exists`, which one True decides, or `all`, which one False decides."""

    def read(event: Event, frame: Frame) -> Any:
        over = items(event, frame)
        if type(over) is not list and type(over) is not dict:
            return ERROR
        result: Any = not deciding
        for item in over:
            charge(frame, cost)
            frame[slot] = item
            value = body(event, frame)
            if value is deciding:
                return deciding
            if type(value) is not bool:
                result = ERROR
        return result

    return read


def exactly_one(items: Read, slot: int, body: Read, cost: int) -> Read:
    """`exists_one`; an error of any item makes it an error."""

    def read(event: Event, frame: Frame) -> Any:
        over = items(event, frame)
        if type(over) is not list and type(over) is not dict:
            return ERROR
        count = 0
        for item in over:
            charge(frame, cost)
            frame[slot] = item
            value = body(event, frame)
            if type(value) is not bool:
                return ERROR
            count += value
        return count == 1

    return read
