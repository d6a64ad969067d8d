"""Acknowledgement ids of the HTTP Event Collector, of which nothing is kept.

An id is only given out once its events are durable, so whatever this log has given out is
acknowledged: at any replica, and after a restart. It is the millisecond, made unique in its
process, and behind it a mark that the log's secret makes of key, channel and millisecond. An id
that was never given out, or to another key or channel, has the right mark by one guess in 4,096.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from gateway.log.identity import KeyedValues

# Ids stay below 2**53, up to which all programs count exactly, until 2094.
_MARK_BITS = 12
_BEGIN = 1_735_689_600_000
_MOST = 1 << 53


class AckIds:
    """Ids of one log; `now` is the time in seconds since 1970."""

    def __init__(self, keyed: KeyedValues, now: Callable[[], float]) -> None:
        self._keyed = keyed
        self._now = now
        self._last = 0

    def new(self, key_id: str, channel: str) -> int:
        """The id for events that are durable."""
        self._last = max(int(self._now() * 1000) - _BEGIN, self._last + 1)
        return self._last << _MARK_BITS | self._mark(key_id, channel, self._last)

    def acknowledges(self, ack_id: int, key_id: str, channel: str) -> bool:
        """Whether an id was given out to this key, for this channel."""
        if not 0 <= ack_id < _MOST:
            return False
        moment, mark = divmod(ack_id, 1 << _MARK_BITS)
        return mark == self._mark(key_id, channel, moment)

    def _mark(self, key_id: str, channel: str, moment: int) -> int:
        text = f"acknowledgement\n{key_id}\n{channel.lower()}\n{moment}"
        value = self._keyed.content(hashlib.sha256(text.encode()).digest()) or b""
        return int.from_bytes(value[:4], "big") % (1 << _MARK_BITS)
