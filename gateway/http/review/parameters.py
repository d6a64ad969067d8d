"""Parameters of reviews of access."""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidRequest
from gateway.http.keys.parameters import CONDITIONS, parse_keys
from gateway.http.query.values import Pairs, collect, moment, one
from gateway.oversight.report.collect import PERIOD_SECONDS, ReviewQuery
from gateway.oversight.report.text import FORMATS

_DAY = 86400
_MOST_DAYS = 400
_TEXT = {"type": "string"}
REVIEW: tuple[dict[str, Any], ...] = (
    *CONDITIONS,
    {"name": "since", "in": "query", "schema": {**_TEXT, "default": "90d"},
     "description": "Begin of the period of usage, changes and looks: a time (RFC 3339) or so long "
     "ago, at most 400 days. Keys that ended before it are left out."},
    {"name": "format", "in": "query", "schema": {"enum": list(FORMATS)},
     "description": "In place of `Accept`."},
)  # fmt: skip


def parse_review(pairs: Pairs, now: float) -> ReviewQuery:
    """Keys of the review, and its period."""
    pairs = list(pairs)
    since = one(collect(pairs), "since")
    at = now - PERIOD_SECONDS if since is None else moment("since", since, now) / 1_000_000
    if not now - _MOST_DAYS * _DAY <= at <= now:
        raise InvalidRequest(
            f"since: at most {_MOST_DAYS} days ago, and not still to come", parameter="since"
        )
    asked = [pair for pair in pairs if pair[0] not in ("since", "format")]
    return ReviewQuery(parse_keys(asked), at, tuple(f"{name}={text}" for name, text in asked))
