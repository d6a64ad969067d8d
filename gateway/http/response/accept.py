"""Negotiation of the media type of an answer (RFC 9110, section 12.5)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from aiohttp import web

_MOST_KEPT = 256


def best_kind(request: web.Request, kinds: tuple[str, ...]) -> str | None:
    """Type of `kinds` that `Accept` prefers; None if it accepts none.

    On equal quality a named type precedes one that matches a wildcard, then the earlier of `kinds`.
    The first of them if the header is absent or empty.
    """
    lines = request.headers.getall("Accept", [])
    if not any(line.strip(", \t") for line in lines):
        return kinds[0]
    asked = ",".join(lines)
    # Cached: most clients send one of a few values.
    return _kept_choice(asked, kinds) if len(asked) <= _MOST_KEPT else _choose(asked, kinds)


def _choose(asked: str, kinds: tuple[str, ...]) -> str | None:
    wanted: dict[str, float] = {}
    for part in asked.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        wanted[name] = quality(parameters)
    best, chosen = (0.0, False), None
    for kind in kinds:
        named = wanted.get(kind)
        let_in = wanted.get(kind.partition("/")[0] + "/*", wanted.get("*/*", 0.0))
        rank = (let_in if named is None else named, named is not None)
        if rank[0] > 0 and rank > best:
            best, chosen = rank, kind
    return chosen


_kept_choice = lru_cache(256)(_choose)


def quality(parameters: Sequence[str]) -> float:
    """Value of `q`: 1 if absent, 0 if it is no number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return max(0.0, min(1.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
