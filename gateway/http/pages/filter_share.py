"""The share of the processor that the filters of a key may use, before a look begins."""

from __future__ import annotations

import math

from gateway.access.keys.key import Key
from gateway.errors import TooManyRequests
from gateway.http.request.context import Context


def refuse_costly(context: Context, key: Key) -> None:
    """Raise `TooManyRequests` while the filters of a key have used up their share."""
    wait = context.work.wait(key.id)
    if wait:
        context.work.totals.refused += 1
        raise TooManyRequests(
            "the filters of this key have used up their share of the processor "
            "(limits.filter_percent); wait for Retry-After seconds, and narrow them with selectors",
            code="filter_share_used_up",
            retry_after=max(1, math.ceil(wait)),
        )
