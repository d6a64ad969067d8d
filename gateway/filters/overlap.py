"""Whether two patterns can match the same name. Pure."""

from __future__ import annotations

from gateway.filters.pattern import ANY, begins_with_wildcard, segment_tree, tree_overlaps
from gateway.filters.scope import RESERVED, SEPARATORS, Scope


def one_overlaps(patterns: tuple[str, ...], wanted: str, separator: str) -> bool:
    """Whether there is a name that the wanted pattern matches, and one of the others."""
    return tree_overlaps(segment_tree(patterns, separator), wanted, separator)


def common_pattern(one: str, other: str, separator: str) -> str | None:
    """The pattern that matches just what both (checked) patterns match; None if that is nothing."""
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


def category_in_reach(scope: Scope, wanted: str) -> bool:
    """Whether a pattern of categories and a scope can mean the same event."""
    separator = SEPARATORS["category"]
    patterns = scope.category or (ANY,)
    if not scope.reserved and (wanted == RESERVED or wanted.startswith(RESERVED + separator)):
        patterns = tuple(one for one in patterns if not begins_with_wildcard(one))
    return one_overlaps(patterns, wanted, separator)
