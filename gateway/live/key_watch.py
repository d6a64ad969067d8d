"""The watch over live streams: ends or narrows those that their keys no longer allow."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from gateway.clock import Clock
from gateway.encode.wire import KEY_EXPIRED, KEY_REVOKED, KEY_SUSPENDED, NOT_GRANTED, THROTTLED
from gateway.errors import GatewayError
from gateway.keys.key import Key
from gateway.keys.policy import EXPIRED, REVOKED, SUSPENDED, Denied, depends_on_hours
from gateway.live.floors import find_floors
from gateway.live.hub import Hub
from gateway.live.keyring import Changes, Keyring
from gateway.live.subscription import Subscription
from gateway.store.ports import Log

_LOOK_SECONDS = 0.25
_LEAST_SECONDS = 0.01
_AT_ONCE = 1000
# Time zones are apart by multiples of a quarter of an hour.
_QUARTER_SECONDS = 900
_OPENING_SECONDS = 10
_LOGGER = logging.getLogger(__name__)
_ENDS = {REVOKED: KEY_REVOKED, EXPIRED: KEY_EXPIRED, SUSPENDED: KEY_SUSPENDED}


class KeyWatch:
    """Looks several times a second, when a key's life ends, and when it is told of a change."""

    def __init__(self, keyring: Keyring, hub: Hub, log: Log, clock: Clock) -> None:
        # Told of what has changed in the key store, whoever changed it.
        self.listeners: list[Callable[[Changes], None]] = []
        self._keyring = keyring
        self._hub = hub
        self._log = log
        self._clock = clock
        self._quarter = 0.0
        # When the next of the keys that have streams stops working by itself.
        self._next_end = math.inf
        # Keys that have changed, or may have, and could not be looked at.
        self._due: set[str] = set()
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._in_turn()
            except GatewayError as error:
                _LOGGER.warning("keys cannot be read, trying again: %s", error.detail)
            left = self._next_end - self._clock.now()
            await self._clock.sleep(min(max(left, _LEAST_SECONDS), _LOOK_SECONDS))

    async def look(self) -> None:
        """One look at all keys that have streams. What was changed before has been acted on when it
        returns; it goes on when its caller is cancelled, as the store tells of a change once."""
        await asyncio.shield(asyncio.ensure_future(self._in_turn()))

    async def _in_turn(self) -> None:
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        failure: GatewayError | None = None
        try:
            changes = await self._keyring.refresh()
        except GatewayError as error:
            # Lives end and hours pass whether or not the store can be read.
            changes, failure = Changes([], frozenset()), error
        for listener in self.listeners:
            listener(changes)
        now = self._clock.now()
        turning = self._turning(now)
        due, self._due = self._due, set()
        due.update(key.id for key in changes.keys)
        self._next_end = math.inf
        for place, key_id in enumerate(self._hub.key_ids(), 1):
            if place % _AT_ONCE == 0:
                # Streams have their turn.
                await asyncio.sleep(0)
            key = self._keyring.known(key_id)
            if key is not None and key.ends_at > now:
                self._next_end = min(self._next_end, key.ends_at)
            if (
                key is not None
                and key_id not in due
                and (not changes.roles or changes.roles.isdisjoint(key.roles))
                and not self._may_have_changed(key, now, turning)
            ):
                continue
            try:
                await self._look_at(key_id)
            except GatewayError as error:
                # Others do not wait for it; it is looked at again.
                self._due.add(key_id)
                failure = error
        if failure is not None:
            raise failure

    async def _look_at(self, key_id: str) -> None:
        key = await self._keyring.get(key_id)
        for subscription in self._hub.streams_of(key_id):
            if key is None:
                self._hub.end(subscription, KEY_REVOKED)
            else:
                await self._check(key, subscription)

    def _turning(self, now: float) -> bool:
        """Whether an hour has begun in some time zone since the last look, or just before it: a
        stream that was decided on before may have been opened after the first look."""
        quarter, since = divmod(now, _QUARTER_SECONDS)
        before, self._quarter = self._quarter, quarter
        return quarter != before or since < _OPENING_SECONDS

    def _may_have_changed(self, key: Key, now: float, turning: bool) -> bool:
        """Whether time alone may have changed what the key allows; a stream's address stays."""
        if key.state(now) not in ("active", "draining"):
            return True
        return turning and depends_on_hours(self._keyring.grants_of(key))

    async def _check(self, key: Key, subscription: Subscription) -> None:
        if key.change == "throttled" and key.throttled(self._clock.now()):
            # It may come back, as often as it is let through then.
            self._hub.end(subscription, THROTTLED)
            return
        decision = self._keyring.decide(key, "stream", subscription.address)
        if isinstance(decision, Denied):
            self._hub.end(subscription, _ENDS.get(decision, NOT_GRANTED))
        elif decision.view != subscription.interest.question.view:
            floors = await find_floors(self._log, decision.view, self._clock.now())
            self._hub.show(subscription, decision.view, floors)
