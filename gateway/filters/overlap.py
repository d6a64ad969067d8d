"""Overlap of patterns. Pure."""

from __future__ import annotations

from gateway.filters.pattern import ANY, begins_with_wildcard, segment_tree, tree_overlaps
from gateway.filters.scope import RESERVED, SEPARATORS, Scope


def one_overlaps(patterns: tuple[str, ...], wanted: str, separator: str) -> bool:
    """Whether a name exists that `wanted` and one of the `patterns` match."""
    return tree_overlaps(segment_tree(patterns, separator), wanted, separator)


def common_pattern(one: str, other: str, separator: str) -> str | None:
    """Intersection of two (checked) patterns as a pattern; None if no name matches both."""
    first, second = one.split(separator), other.split(separator)
    found: list[str] = []
    for place in range(max(len(first), len(second))):
        if first[place : place + 1] == [ANY]:
            return separator.join(found + second[place:])
        if second[place : place + 1] == [ANY]:
            return separator.join(found + first[place:])
        if place >= len(first) or place >= len(second):
            return None
        left, right = first[place], second[place]
        if left == "*" and right:
            found.append(right)
        elif (right == "*" and left) or left == right:
            found.append(left)
        else:
            return None
    return separator.join(found)


def category_overlaps(scope: Scope, wanted: str) -> bool:
    """Whether an event can be in the scope and have a category that `wanted` matches."""
    separator = SEPARATORS["category"]
    patterns = scope.category or (ANY,)
    if not scope.reserved and (wanted == RESERVED or wanted.startswith(RESERVED + separator)):
        patterns = tuple(one for one in patterns if not begins_with_wildcard(one))
    return one_overlaps(patterns, wanted, separator)
