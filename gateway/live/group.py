"""A group: live subscriptions with one interest, matched once and encoded once."""

from __future__ import annotations

import os

from gateway.live.interest import Interest
from gateway.live.subscription import Subscription


class Group:
    """Members whose connections are clear are written to directly on their sockets.

    That loop is where a gateway spends its time: one system call per member,
    and as little as possible around it. Who does not take everything at once
    goes through its connection, which buffers, until it is clear again.
    """

    __slots__ = ("_buffered", "_direct", "bookmark", "count", "filter", "in_scope", "interest",
                 "quiet_since")  # fmt: skip

    def __init__(self, interest: Interest, now: float, position: int) -> None:
        self.interest = interest
        self.in_scope = interest.question.in_scope()
        chosen = interest.question.filter
        self.filter = chosen.matches if chosen is not None else None
        # Events since the group began, and when its members last heard something.
        self.count = 0
        self.quiet_since = now
        self.bookmark = position
        self._direct: dict[int, Subscription] = {}
        self._buffered: dict[Subscription, None] = {}

    def __len__(self) -> int:
        return len(self._direct) + len(self._buffered)

    def members(self) -> list[Subscription]:
        return [*self._direct.values(), *self._buffered]

    def add(self, subscription: Subscription) -> None:
        sink = subscription.sink
        if sink.descriptor >= 0 and sink.clear:
            self._direct[sink.descriptor] = subscription
        else:
            self._buffered[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        if subscription in self._buffered:
            del self._buffered[subscription]
        else:
            del self._direct[subscription.sink.descriptor]

    def blocked(self, subscription: Subscription) -> None:
        """Something waits in the connection: nothing may be written past it."""
        if self._direct.pop(subscription.sink.descriptor, None) is not None:
            self._buffered[subscription] = None

    def write(self, data: bytes) -> list[Subscription]:
        """Write to all members; returns those that are too far behind."""
        if not data:
            return []
        buffered = list(self._buffered)
        size = len(data)
        write = os.write
        behind: list[tuple[int, int]] = []
        for descriptor in self._direct:
            try:
                sent = write(descriptor, data)
            except OSError:
                # Full, or broken: the connection finds out when it is handed the bytes.
                sent = 0
            if sent != size:
                behind.append((descriptor, sent))
        slow = []
        for descriptor, sent in behind:
            subscription = self._direct.pop(descriptor)
            self._buffered[subscription] = None
            if not subscription.sink.write(data[sent:]):
                slow.append(subscription)
        for subscription in buffered:
            if not subscription.sink.write(data):
                slow.append(subscription)
            elif subscription.sink.clear and subscription.sink.descriptor >= 0:
                del self._buffered[subscription]
                self._direct[subscription.sink.descriptor] = subscription
        return slow
