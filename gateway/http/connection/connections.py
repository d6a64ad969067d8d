"""Limits on open connections and unfinished request heads of a process.

Opening a connection and beginning a request needs no key. So both are bounded: connections in total
and per address; bytes of unfinished heads in total and per connection.
"""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.access.limits.limits import address_subject
from gateway.errors import GatewayError, HeadTooLarge, TooManyRequests, Unavailable
from gateway.http.connection.address import client_address
from gateway.http.connection.write_scheduler import WriteScheduler
from gateway.http.response.problem import Handler
from gateway.network import Network, parse_address
from gateway.notifier import Notifier
from gateway.settings.server import ServerSettings

# Connections above the limits that may request these paths; a new one evicts the oldest.
_RESERVE = 32
_RESERVE_PATHS = frozenset(("/healthz", "/readyz", "/metrics"))
RESERVE_SECONDS = 5.0
# More is never needed, and a limit of a billion makes some programs loop over all.
_MOST_DESCRIPTORS = 1 << 20
# A table of this size takes half a megabyte in the kernel.
_MOST_IN_TABLE = 1 << 16
_CODE = "too_many_connections"


class Peer(Protocol):
    """Connection, as this module needs it."""

    def refuse(self, error: GatewayError) -> None:
        """Answer with the error and close."""

    def abort(self) -> None:
        """Close without an answer."""


class _Counted:
    """Open connections of one address. They share the callback for their end, since each of many
    thousand streams keeps it."""

    __slots__ = ("leave", "open")

    def __init__(self, leave: Callable[[], None]) -> None:
        self.leave = leave
        self.open = 0


class Connections:
    """Counts of connections and unfinished heads, and the choice of those to refuse or abort."""

    def __init__(
        self,
        most: int,
        most_per_address: int,
        head_bytes: int,
        all_heads_bytes: int,
        trusted: tuple[Network, ...] = (),
        *,
        crowded: Callable[[], bool] = lambda: False,
        when_idle: Callable[[Callable[[], None], float], None] = lambda call, within: call(),
    ) -> None:
        self.most = most
        self.most_per_address = most_per_address
        self.head_bytes = head_bytes
        self.refused = 0
        self.refused_heads = 0
        self.open = 0
        # Notified of each new connection.
        self.entered = Notifier()
        self.unfinished = 0
        # Whether many peers send at once, and how one that sends much yields to the others.
        self.crowded = crowded
        self.when_idle = when_idle
        self._most_unfinished = all_heads_bytes
        self._trusted = trusted
        # For clients whose bytes take long to parse.
        self.parse_scheduler = WriteScheduler(lambda: False)
        # For clients that pipeline more requests than are taken at once.
        self.line_scheduler = WriteScheduler(lambda: False)
        self.trusts_proxies = bool(trusted)
        self._of_address: dict[str, _Counted] = {}
        self._heads: dict[Peer, int] = {}
        # Ordered: the oldest first.
        self._reserve: dict[Peer, None] = {}

    @classmethod
    def of(cls, server: ServerSettings, **options: Any) -> Connections:
        """Connections bounded by the settings and the limit of descriptors, which is raised."""
        descriptors = raise_descriptors()
        make_room(descriptors)
        most = most_connections(descriptors)
        if server.max_connections:
            most = min(most, server.max_connections)
        return cls(
            most,
            server.max_connections_per_address or max(1, most * 3 // 4),
            server.max_head_bytes,
            server.max_unfinished_heads,
            server.trusted_proxies,
            **options,
        )

    def enter(self, peer: Peer, address: str | None) -> Callable[[], None] | None:
        """Count a connection; return the callback for its end, or None if it exceeds a limit."""
        subject = self._subject(address)
        if self.open >= self.most or self.is_full(subject):
            self.refused += 1
            return None
        self.open += 1
        self.entered.notify()
        return self.count(subject).leave if subject else self._leave_uncounted

    def enter_reserve(self, peer: Peer) -> Callable[[], None]:
        """Admit a connection above the limits for a short time: it may be a health check."""
        if len(self._reserve) >= _RESERVE:
            # Removed at once, since its end comes later and the next one needs another place.
            oldest = next(iter(self._reserve))
            del self._reserve[oldest]
            oldest.abort()
        self._reserve[peer] = None
        return lambda: self._reserve.pop(peer, None)

    def head_grows(self, peer: Peer, size: int) -> None:
        """Count the bytes of an incomplete request head."""
        self.unfinished += size - self._heads.get(peer, 0)
        self._heads[peer] = size
        if self.unfinished > self._most_unfinished:
            largest = max(self._heads, key=self._heads.__getitem__)
            self.head_ends(largest)
            self.refused_heads += 1
            largest.refuse(
                Unavailable(
                    "too many requests are unfinished; send the whole head of a request at once",
                    code="too_many_unfinished_requests",
                )
            )

    def head_too_large(self) -> HeadTooLarge:
        self.refused_heads += 1
        return HeadTooLarge(
            f"the URL and the headers have more than {self.head_bytes} bytes together; a long "
            "filter goes into the body of POST /v1/stream"
        )

    def trailers_too_large(self) -> HeadTooLarge:
        self.refused_heads += 1
        return HeadTooLarge(
            f"what stands around the chunks of this body has more than {self.head_bytes} bytes; "
            "send no trailers, and no extensions of chunks"
        )

    def head_ends(self, peer: Peer) -> None:
        """Stop counting a head: it is complete, or never will be."""
        self.unfinished -= self._heads.pop(peer, 0)

    @contextmanager
    def forwarded(self, request: web.Request) -> Iterator[None]:
        """Count a request of a trusted proxy for the client that it names."""
        subject = self.forwarded_subject(request)
        if not subject:
            yield
            return
        if self.is_full(subject):
            self.refused += 1
            raise TooManyRequests(
                "too many connections are open from this address; close some, or wait",
                code=_CODE,
                retry_after=5,
            )
        self.count(subject)
        try:
            yield
        finally:
            self.forget(subject)

    def keep_place(self, request: web.Request) -> Callable[[], None]:
        """Move the place of a connection, and that of a client behind a proxy, to the stream that
        takes it over; return the callback for its end."""
        protocol: Any = request.protocol
        leave, protocol.leave = protocol.leave, lambda: None
        subject = self.forwarded_subject(request)
        if not subject:
            return cast("Callable[[], None]", leave)
        self.count(subject)

        def leave_both() -> None:
            leave()
            self.forget(subject)

        return leave_both

    def is_full(self, subject: str) -> bool:
        counted = self._of_address.get(subject)
        return bool(subject) and (counted.open if counted else 0) >= self.most_per_address

    def count(self, subject: str) -> _Counted:
        counted = self._of_address.get(subject)
        if counted is None:
            counted = self._of_address[subject] = _Counted(partial(self._leave, subject))
        counted.open += 1
        return counted

    def _leave_uncounted(self) -> None:
        self.open -= 1

    def _leave(self, subject: str) -> None:
        self.open -= 1
        self.forget(subject)

    def forget(self, subject: str) -> None:
        counted = self._of_address[subject]
        counted.open -= 1
        if not counted.open:
            del self._of_address[subject]

    def _subject(self, address: str | None) -> str:
        """Subject that a connection counts for; "" for a trusted proxy, which has many clients."""
        if address is None or self._is_trusted(address):
            return ""
        return address_subject(address)

    def forwarded_subject(self, request: web.Request) -> str:
        if not self._trusted or request.remote is None or not self._is_trusted(request.remote):
            return ""
        client = client_address(request)
        return "" if client is None or self._is_trusted(client) else address_subject(client)

    def _is_trusted(self, address: str) -> bool:
        ip = parse_address(address) if self._trusted else None
        return ip is not None and any(ip in network for network in self._trusted)


def bounding(connections: Connections) -> Middleware:
    """Middleware that enforces the limits of connections on their requests."""

    @web.middleware
    def bounded(request: web.Request, handler: Handler) -> Awaitable[web.StreamResponse]:
        if getattr(request.protocol, "in_reserve", False) and request.path not in _RESERVE_PATHS:
            raise Unavailable(
                "too many connections are open, in all or from this address; come again later",
                code=_CODE,
                retry_after=5,
            )
        return forwarded(request, handler) if connections.trusts_proxies else handler(request)

    async def forwarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        with connections.forwarded(request):
            return await handler(request)

    return bounded


def raise_descriptors() -> int:
    """Raise the limit of descriptors as far as allowed; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass
    return wanted if soft == resource.RLIM_INFINITY else soft


def make_room(descriptors: int) -> None:
    """Make the kernel grow its table of descriptors now: each doubling later stops a process with
    threads for 10 ms and more."""
    with suppress(OSError), open(os.devnull, "rb") as file:
        highest = min(descriptors, _MOST_IN_TABLE) - 1
        os.close(fcntl.fcntl(file.fileno(), fcntl.F_DUPFD_CLOEXEC, highest))


def most_connections(descriptors: int) -> int:
    """Number of connections that so many descriptors allow, beside files and the store."""
    reserve = max(64, min(descriptors // 8, 1024)) + _RESERVE
    return max(1, descriptors - _open_descriptors() - reserve)


def _open_descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 64
