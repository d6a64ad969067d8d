"""`Signals` over Redis pub/sub."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.client import PubSub

from gateway.adapters.redis.link import Down, Link, bounded
from gateway.clock import Clock

# Seconds of silence before a connection is pinged, and then given up.
_QUIET_SECONDS = 5.0
_CONNECT_SECONDS = 1.0
_PAUSE_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)


class RedisSignals:
    """`Signals` between all replicas on one Redis."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._replica = secrets.token_hex(8)
        self._listeners: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._channel = f"{link.prefix}:signals"
        self._unsent: dict[str, None] = {}
        self._sending: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()

    def send(self, name: str) -> None:
        if not self._link.up:
            return
        self._unsent[name] = None
        if self._sending is None:
            self._sending = self._link.tasks.run("signals_sending", self._send)

    def listen(self, name: str, listener: Callable[[], None]) -> None:
        self._listeners[name].append(listener)

    async def run(self) -> None:
        """Receive signals of the other replicas, until cancelled."""
        while True:
            try:
                await self._hear()
            except Exception as error:
                # The link has logged the outage.
                _LOGGER.debug("wake-ups are interrupted: %r", error)
            self.listening.clear()
            await self._clock.sleep(_PAUSE_SECONDS)

    async def close(self) -> None:
        """Stop sending."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})

    async def _send(self) -> None:
        try:
            while self._unsent:
                names, self._unsent = self._unsent, {}
                # One message at a time: signals that arrive meanwhile are merged.
                await self._link.publish(self._channel, " ".join([self._replica, *names]))
        except Down:
            self._unsent.clear()
        finally:
            self._sending = None

    async def _hear(self) -> None:
        client, sentinels = self._link.connect_apart()
        pubsub = client.pubsub()
        try:
            if isinstance(client, RedisCluster):
                # The client needs the nodes of the cluster before it can subscribe.
                await bounded(client.initialize(), _CONNECT_SECONDS)
            await bounded(pubsub.subscribe(self._channel), _CONNECT_SECONDS)
            await self._follow(pubsub)
        finally:
            for opened in (pubsub, client, *sentinels):
                with suppress(Exception):
                    await bounded(opened.aclose(), _CONNECT_SECONDS)

    async def _follow(self, pubsub: PubSub) -> None:
        asked = False
        while True:
            message: dict[str, Any] | None = await pubsub.get_message(timeout=_QUIET_SECONDS)
            if message is None:
                if asked:
                    raise TimeoutError("no sign of life")
                await bounded(pubsub.ping(), _CONNECT_SECONDS)
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                # Signals sent while not subscribed are lost: wake every listener.
                self.listening.set()
                for name in list(self._listeners):
                    self._wake(name)
            elif message["type"] == "message":
                sender, *names = message["data"].decode().split(" ")
                if sender != self._replica:
                    for name in names:
                        self._wake(name)

    def _wake(self, name: str) -> None:
        for listener in self._listeners.get(name, ()):
            listener()
