"""Parameters of the list of live streams."""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidRequest
from gateway.fleet.live_streams import ORDERS, STATES, LiveStreamQuery
from gateway.http.query.values import Pairs
from gateway.wire.framing import TRANSPORTS

MAX_STREAMS = 1000
CHOICES = {"transport": TRANSPORTS, "state": STATES, "order": ORDERS}
_TEXT = {"type": "string"}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_STREAMS, "default": 100}
# Declaration of the parameters, of which others of the same names mean other things.
STREAMS: tuple[dict[str, Any], ...] = (
    {"name": "key", "in": "query", "schema": _TEXT, "description": "The id of a key."},
    {"name": "tenant", "in": "query", "schema": _TEXT,
     "description": "Streams that may be sent events of this tenant."},
    {"name": "transport", "in": "query", "schema": {"enum": list(TRANSPORTS)}},
    {"name": "state", "in": "query", "schema": {"enum": list(STATES)},
     "description": "`stalled`: its peer has taken nothing for 5 seconds, though something waits."},
    {"name": "replica", "in": "query", "schema": _TEXT,
     "description": "Of this replica, as in the answer."},
    {"name": "order", "in": "query", "schema": {"enum": list(ORDERS), "default": "lag"},
     "description": "Most events behind, longest open, or most bytes sent first."},
    {"name": "limit", "in": "query", "schema": _LIMIT},
)  # fmt: skip


def parse_streams(pairs: Pairs) -> LiveStreamQuery:
    """Streams that are wanted, their order, and the most of them."""
    wanted: dict[str, Any] = {}
    for name, value in pairs:
        if name in wanted:
            raise InvalidRequest(f"{name}: given twice; once is enough", parameter=name)
        if not value:
            raise InvalidRequest(f"{name}: give a value, or leave it out", parameter=name)
        # A typo must not look as if there were none.
        if value not in CHOICES.get(name, (value,)):
            raise InvalidRequest(f"{name}: one of {', '.join(CHOICES[name])}", parameter=name)
        wanted[name] = value
    text = wanted.pop("limit", "100")
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_STREAMS):
        raise InvalidRequest(f"limit: a whole number from 1 to {MAX_STREAMS}", parameter="limit")
    return LiveStreamQuery(**wanted, limit=int(text))
