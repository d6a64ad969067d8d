"""Patterns over dotted or slashed names: `*` is one segment, `**` any number and only last.

`auth.*` matches `auth.login`, not `auth` and not `auth.login.sso`;
`k8s:prod/ns/pay/**` matches `k8s:prod/ns/pay` and all below it; `**` matches
everything, also the empty name. A segment is either literal or a wildcard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from gateway.errors import InvalidRequest

MAX_PATTERN_LENGTH = 1024
ANY = "**"
# Key of a segment tree's node at which a pattern ends.
END = None
Tree = dict[str | None, Any]
# One regular expression is fastest for a few patterns, a segment tree for many.
_MOST_IN_EXPRESSION = 4
# Nodes of a segment tree to follow at once; few sets of patterns overlap more.
_MOST_BRANCHES = 8


def check_pattern(pattern: str, separator: str) -> None:
    """Raise `InvalidRequest`, with the `column` (from 1), unless `pattern` is well formed."""
    if not pattern or len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidRequest(
            f"a pattern has 1 to {MAX_PATTERN_LENGTH} characters"
            + ("" if pattern else ": this one is empty; leave it out for no restriction"),
            column=1,
        )
    segments = pattern.split(separator)
    column = 1
    for position, segment in enumerate(segments):
        if segment == ANY and position < len(segments) - 1:
            raise InvalidRequest(
                f"`**` stands only at the end of a pattern: {pattern!r} (column {column})",
                column=column,
            )
        if "*" in segment and segment not in ("*", ANY):
            raise InvalidRequest(
                f"`*` stands for a whole segment between {separator!r}: {pattern!r} "
                f"(column {column})",
                column=column,
            )
        column += len(segment) + 1


def is_literal(pattern: str) -> bool:
    """Whether the pattern matches one name only."""
    return "*" not in pattern


def begins_with_wildcard(pattern: str) -> bool:
    return pattern.startswith("*")


def literal_prefix(pattern: str) -> str:
    return pattern if is_literal(pattern) else pattern[: pattern.index("*")]


def to_regex(pattern: str, separator: str) -> str:
    """Regular expression for full matches of the names of a pattern.

    Linear in the name: no part can match a separator, so nothing backtracks.
    """
    if pattern == ANY:
        return ".*"
    one = f"[^{re.escape(separator)}]+"
    rest = ""
    body = pattern
    if pattern.endswith(separator + ANY):
        rest = f"(?:{re.escape(separator)}.*)?"
        body = pattern[: -len(separator + ANY)]
    parts = [one if part == "*" else re.escape(part) for part in body.split(separator)]
    return re.escape(separator).join(parts) + rest


def compile_patterns(patterns: Iterable[str], separator: str) -> Callable[[str], bool]:
    """Test of whether a name matches one of the (checked) patterns."""
    return _compiled(tuple(patterns), separator)


# Cached: one policy is compiled repeatedly, for views of several actions and each of its grants.
@lru_cache(512)
def _compiled(names: tuple[str, ...], separator: str) -> Callable[[str], bool]:
    if ANY in names:
        return lambda name: True
    literals = frozenset(name for name in names if is_literal(name))
    wild = tuple(name for name in names if not is_literal(name))
    if not wild:
        return literals.__contains__
    if len(wild) > _MOST_IN_EXPRESSION:
        match = _by_segments(wild, separator)
        return lambda name: name in literals or match(name)
    found = _expression(wild, separator)
    if not literals:
        return lambda name: found(name) is not None
    return lambda name: name in literals or found(name) is not None


@lru_cache(512)
def segment_tree(patterns: tuple[str, ...], separator: str) -> Tree:
    """Patterns as a tree of their segments, so that a name is compared with hundreds at once."""
    tree: Tree = {}
    for pattern in patterns:
        node = tree
        for segment in pattern.split(separator):
            node = node.setdefault(segment, {})
        node[END] = {}
    return tree


def tree_overlaps(tree: Tree, pattern: str, separator: str) -> bool:
    """Whether a name exists that the pattern and one of those in the tree match."""
    nodes = [tree]
    for segment in pattern.split(separator):
        if segment == ANY or any(ANY in node for node in nodes):
            return True
        if segment == "*":
            nodes = [node[name] for node in nodes for name in node if name is not END]
        else:
            nodes = [node[name] for node in nodes for name in (segment, "*") if name in node]
        if not nodes:
            return False
    return any(ANY in node or END in node for node in nodes)


def _by_segments(patterns: tuple[str, ...], separator: str) -> Callable[[str], bool]:
    """Test of names by segments, a hundred times quicker to make than one regular expression."""
    tree = segment_tree(patterns, separator)
    expressions: list[Callable[[str], re.Match[str] | None]] = []

    def matches(name: str) -> bool:
        nodes = [tree]
        for segment in name.split(separator):
            reached: list[Tree] = []
            for node in nodes:
                if ANY in node:
                    return True
                if segment in node and "*" not in segment:
                    reached.append(node[segment])
                if "*" in node and segment:
                    reached.append(node["*"])
            if not reached:
                return False
            if len(reached) > _MOST_BRANCHES:
                # With so much overlap one expression is faster.
                if not expressions:
                    expressions.append(_expression(patterns, separator))
                return expressions[0](name) is not None
            nodes = reached
        return any(ANY in node or END in node for node in nodes)

    return matches


def _expression(patterns: tuple[str, ...], separator: str) -> Callable[[str], re.Match[str] | None]:
    alternatives = "|".join(to_regex(pattern, separator) for pattern in patterns)
    return re.compile(alternatives, re.DOTALL).fullmatch
