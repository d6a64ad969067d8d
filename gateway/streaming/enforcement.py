"""Enforcement of keys and roles on live streams: ends or narrows those no longer allowed.

Three tasks poll separately, so that none holds up another: the keys, the roles, and the ends of
keys by time, which need no store.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.access.keyring import Changes, Keyring
from gateway.access.keys.key import Key
from gateway.access.policy.decision import (
    EXPIRED,
    REVOKED,
    SUSPENDED,
    Denied,
    View,
    decide_state,
    depends_on_hours,
)
from gateway.access.policy.narrowing import within_lookback
from gateway.clock import Clock, until_next_poll
from gateway.errors import GatewayError
from gateway.log.bound_view import bound_view
from gateway.log.ports import Log
from gateway.scheduling.loop_work import Stretch
from gateway.streaming.key_freshness import KeyFreshness, PolledPart, Wait
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import Subscription
from gateway.wire.framing import (
    KEY_EXPIRED,
    KEY_REVOKED,
    KEY_SUSPENDED,
    NOT_GRANTED,
    OVERLOAD,
    THROTTLED,
    End,
)

_POLL_SECONDS = 0.25
_LEAST_SECONDS = 0.01
# Time zones differ by multiples of a quarter of an hour.
_QUARTER_SECONDS = 900
_OPENING_SECONDS = 10
_LOGGER = logging.getLogger(__name__)
_ENDS = {REVOKED: KEY_REVOKED, EXPIRED: KEY_EXPIRED, SUSPENDED: KEY_SUSPENDED}
Refresh = Callable[[], Coroutine[Any, Any, Changes]]


class Enforcement:
    """Polls the key store; ends, narrows and holds back the streams of changed keys."""

    def __init__(
        self,
        keyring: Keyring,
        hub: Hub,
        log: Log,
        clock: Clock,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.freshness = KeyFreshness(keyring, clock)
        self._listeners: list[Callable[[Changes], None]] = []
        self._keyring = keyring
        self._hub = hub
        self._log = log
        self._clock = clock
        self._timer = timer
        self._quarter = 0.0
        # Secrets of pseudonyms when all streams were last decided on for them.
        self._pseudonyms = keyring.pseudonyms

    def on_change(self, listener: Callable[[Changes], None]) -> None:
        """Call `listener` with each change in the key store, whoever made it."""
        self._listeners.append(listener)

    def tick(self) -> None:
        """End the streams that have waited too long for a poll. Call about once a second."""
        if self.freshness.count_waits():
            for key_id in self._hub.key_ids():
                if self.freshness.waits_too_long(key_id):
                    for subscription in self._hub.streams_of(key_id):
                        self._hub.end(subscription, OVERLOAD)

    # Polling
    async def watch_keys(self) -> None:
        """Poll the keys until cancelled."""
        await self._watch(self.freshness.keys, self._refresh_keys)

    async def watch_roles(self) -> None:
        """Poll the roles until cancelled."""
        await self._watch(self.freshness.roles, self._refresh_roles)

    async def watch_lives(self) -> None:
        """End what time alone ends, until cancelled."""
        while True:
            next_end = await self._check_lives()
            left = next_end - self._clock.now()
            pause = until_next_poll(self._clock, _POLL_SECONDS)
            await self._clock.sleep(min(max(left, _LEAST_SECONDS), pause))

    async def poll(self) -> None:
        """Poll keys, roles and lives, and act on every change made before.

        It goes on when its caller is cancelled, as the store reports each change once.
        """
        await self._check_lives()
        polls = (self.poll_keys(), self.poll_roles())
        for failure in await asyncio.gather(*polls, return_exceptions=True):
            if failure is not None:
                raise failure

    async def poll_keys(self) -> None:
        """Poll the keys alone, without waiting for roles that cannot be read."""
        await _uncancelled(self._poll(self.freshness.keys, self._refresh_keys))

    async def poll_roles(self) -> None:
        """Poll the roles alone."""
        await _uncancelled(self._poll(self.freshness.roles, self._refresh_roles))

    async def _watch(self, part: PolledPart, refresh: Refresh) -> None:
        while True:
            failed_before = part.failure is not None
            try:
                await self._poll(part, refresh)
            except GatewayError as error:
                if not failed_before:
                    _LOGGER.warning("%s; streams wait, trying again", error.detail)
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))

    async def _poll(self, part: PolledPart, refresh: Refresh) -> None:
        async with part.turn:
            began = self._clock.boottime()
            try:
                changes = await refresh()
            except Exception as error:
                part.failure = error
                # Keys that are held already need not wait for the store.
                await self._act()
                raise
            try:
                for listener in self._listeners:
                    listener(changes)
            finally:
                try:
                    await self._act()
                finally:
                    # Keys that could not be acted on are held back one by one.
                    self.freshness.polled(part, began)

    async def _refresh_keys(self) -> Changes:
        losses = self._keyring.losses
        keys = await self._keyring.refresh_keys()
        self.freshness.hold(key.id for key in keys)
        if self._keyring.losses != losses:
            self.freshness.hold(self._hub.key_ids())
        return Changes(keys, frozenset())

    async def _refresh_roles(self) -> Changes:
        await self._keyring.refresh_pseudonyms()
        if self._keyring.pseudonyms != self._pseudonyms:
            # Hidden members look otherwise, in any view.
            self._pseudonyms = self._keyring.pseudonyms
            self.freshness.hold(self._hub.key_ids())
        roles = await self._keyring.refresh_roles()
        if roles:
            self.freshness.hold(
                key_id
                for key_id in self._hub.key_ids()
                if (key := self._keyring.cached(key_id)) is None or not roles.isdisjoint(key.roles)
            )
        return Changes([], roles)

    async def _check_lives(self) -> float:
        """End what time alone ends, without the store; return when the next life ends."""
        now, began = self._clock.now(), self._clock.boottime()
        quarter, since = divmod(now, _QUARTER_SECONDS)
        # An hour began in some time zone since the last check, or just before it: a stream that was
        # decided on before that may have been opened after the first check.
        turning = quarter != self._quarter or since < _OPENING_SECONDS
        next_end = math.inf
        stretch = Stretch(self._timer)
        for key_id in self._hub.key_ids():
            await stretch.rest()
            key = self._keyring.cached(key_id)
            if key is None:
                # More keys are in use than stay in memory; this one is read again.
                if key_id not in self.freshness.held:
                    self.freshness.hold([key_id])
                continue
            if key.ends_at > now:
                next_end = min(next_end, key.ends_at)
            if self._may_have_changed(key, now, turning):
                await self._end_or_hold(key, stretch)
        # Only now, as a check that failed has to be repeated.
        self._quarter = quarter
        self.freshness.polled(self.freshness.lives, began)
        return next_end

    async def _end_or_hold(self, key: Key, stretch: Stretch) -> None:
        """Hold a key until its streams are decided on. If its view changed it stays held, as the
        log has to be asked where that view begins."""
        stays_held = key.id in self.freshness.held
        self.freshness.hold([key.id])
        wait = self.freshness.held[key.id]
        for subscription in self._hub.streams_of(key.id):
            await stretch.rest()
            decided = self._decide(key, subscription)
            if isinstance(decided, End):
                self._hub.end(subscription, decided)
            elif decided != subscription.interest.query.view.unbound():
                stays_held = True
        if not stays_held:
            self.freshness.release(key.id, wait)

    def _may_have_changed(self, key: Key, now: float, turning: bool) -> bool:
        """Whether the rights of a key may have changed by time alone; streams keep addresses."""
        if key.state(now) not in ("active", "draining"):
            return True
        return turning and depends_on_hours(self._keyring.grants_of(key))

    # Acting
    async def _act(self) -> None:
        """Decide again on the streams of held keys; a key that cannot be read stays held.

        Keys that have ended come first: others may be thousands, and take longer.
        """
        failure: GatewayError | None = None
        stretch = Stretch(self._timer)
        ended: list[tuple[str, Wait]] = []
        others: list[tuple[str, Wait]] = []
        for one in list(self.freshness.held.items()):
            await stretch.rest()
            (ended if self._has_ended(one[0]) else others).append(one)
        for key_id, wait in ended + others:
            await stretch.rest()
            try:
                await self._act_on(key_id, wait, stretch)
            except GatewayError as error:
                failure = error
        if failure is not None:
            raise failure

    def _has_ended(self, key_id: str) -> bool:
        key = self._keyring.cached(key_id)
        return key is not None and decide_state(key, self._clock.now()) is not None

    async def _act_on(self, key_id: str, wait: Wait, stretch: Stretch) -> None:
        for subscription in self._hub.streams_of(key_id):
            await stretch.rest()
            while True:
                decided = self._decide(await self._keyring.get(key_id), subscription)
                if isinstance(decided, End):
                    self._hub.end(subscription, decided)
                    break
                if decided == subscription.interest.query.view.unbound():
                    break
                view = await bound_view(self._log, decided, self._clock.now())
                # Repeated if the key has changed meanwhile.
                if self._decide(self._keyring.cached(key_id), subscription) == decided:
                    self._hub.change_view(subscription, view)
                    break
        self.freshness.release(key_id, wait)

    def _decide(self, key: Key | None, subscription: Subscription) -> View | End:
        if key is None:
            return KEY_REVOKED
        if key.change == "throttled" and key.throttled(self._clock.now()):
            # It may come back, as often as it is let through then.
            return THROTTLED
        opened = subscription.opened
        if opened is not None and opened.key is not None and opened.key.limits != key.limits:
            # It comes back under the limits that the key has now.
            return THROTTLED
        decision = self._keyring.decide(key, "stream", subscription.address)
        if isinstance(decision, Denied):
            return _ENDS.get(decision, NOT_GRANTED)
        return within_lookback(decision.view, subscription.lookback)


async def _uncancelled(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work that goes on when the waiting task is cancelled."""
    await asyncio.shield(asyncio.ensure_future(work))
