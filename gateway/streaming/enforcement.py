"""Enforcement of keys and roles on live streams: ends or narrows those no longer allowed.

Three tasks poll separately, so that none is held up by another: the keys, the
roles, and the ends of keys by time, which need no store. A stream is written to
only if each part that its key depends on was polled and acted on within the
last second; otherwise the stream waits, for half a minute at most.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
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
from gateway.clock import Clock, until_next_poll
from gateway.errors import GatewayError, Unavailable
from gateway.log.bound_view import bound_view
from gateway.log.ports import Log
from gateway.notifier import Notifier
from gateway.scheduling.loop_work import Stretch
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

# Nothing is delivered on a poll that is older.
MOST_SECONDS = 1.0
# Streams wait no longer for a poll.
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.25
_LEAST_SECONDS = 0.01
# Of one call of `tick`. A process that was frozen meanwhile has not waited in vain.
_MOST_TICK_SECONDS = 2.0
# Time zones are apart by multiples of a quarter of an hour.
_QUARTER_SECONDS = 900
_OPENING_SECONDS = 10
_LOGGER = logging.getLogger(__name__)
_ENDS = {REVOKED: KEY_REVOKED, EXPIRED: KEY_EXPIRED, SUSPENDED: KEY_SUSPENDED}
_UNKNOWN = Unavailable("the keys cannot be read now", code="keys_unavailable", retry_after=2)
TakeIn = Callable[[], Coroutine[Any, Any, Changes]]


class _Waiting:
    """Time that something has been waited for: seconds in which this process ran."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds


class _Part(_Waiting):
    """Part of the key store that is polled by itself: the keys, the roles, or their lives."""

    __slots__ = ("at", "failure", "turn")

    def __init__(self) -> None:
        super().__init__()
        # When the newest poll that succeeded began (CLOCK_BOOTTIME).
        self.at = -math.inf
        # What the newest poll failed with.
        self.failure: Exception | None = None
        self.turn = asyncio.Lock()


class Enforcement:
    """Ends, narrows and holds back the streams of keys that have changed; polls the key store.

    Implements `gateway.streaming.delivery_gate.DeliveryGate`.
    """

    def __init__(
        self,
        keyring: Keyring,
        hub: Hub,
        log: Log,
        clock: Clock,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._listeners: list[Callable[[Changes], None]] = []
        self.renewed = Notifier()
        self._keyring = keyring
        self._hub = hub
        self._log = log
        self._clock = clock
        self._timer = timer
        self._keys = _Part()
        self._roles = _Part()
        # What time does to keys; requests look at it themselves.
        self._lives = _Part()
        # When the part that was looked at longest ago was.
        self._oldest = -math.inf
        self._quarter = 0.0
        # Keys that have changed, or may have, and whose streams were not looked at since.
        self._due: dict[str, _Waiting] = {}
        self._ticked = clock.boottime()

    def on_change(self, listener: Callable[[Changes], None]) -> None:
        """Call `listener` with what has changed in the key store, whoever changed it."""
        self._listeners.append(listener)

    # The gate
    @property
    def open(self) -> bool:
        return self._clock.boottime() - self._oldest <= MOST_SECONDS and not self._due

    @property
    def keys_known(self) -> bool:
        return self._is_fresh(self._keys) and self._is_fresh(self._lives)

    def admits(self, key_id: str) -> bool:
        return key_id not in self._due and self._is_fresh(self._lives) and not self._missing(key_id)

    @property
    def fresh(self) -> bool:
        """Whether the rights of all keys are known as of the last second."""
        return self._clock.boottime() - self._oldest <= MOST_SECONDS

    async def await_knowledge(self, key_id: str) -> None:
        """Return when it is known what that key may do now. Raises `Unavailable` if it cannot be.

        A process that was frozen looks first; while the store cannot be read nobody is
        kept waiting.
        """
        if self.fresh:
            return
        failures = [part.failure for part in self._missing(key_id) if part.failure is not None]
        if failures or not await self.renewed.until(
            lambda: not self._missing(key_id), MOST_SECONDS
        ):
            told = next((one for one in failures if isinstance(one, Unavailable)), _UNKNOWN)
            raise Unavailable(
                f"{told.detail}, so it is not known what this key may do now",
                code=told.code,
                retry_after=told.retry_after,
            )

    def _missing(self, key_id: str) -> list[_Part]:
        return [part for part in self._parts_of(key_id) if not self._is_fresh(part)]

    def _parts_of(self, key_id: str) -> list[_Part]:
        """Parts of the store that the key depends on."""
        key = self._keyring.known(key_id)
        if key is not None and not self._keyring.depends_on_roles(key):
            return [self._keys]
        return [self._keys, self._roles]

    def _is_fresh(self, part: _Part) -> bool:
        return self._clock.boottime() - part.at <= MOST_SECONDS

    def tick(self) -> None:
        """End the streams that have waited long enough for a poll. Call about once a second."""
        now = self._clock.boottime()
        passed, self._ticked = min(now - self._ticked, _MOST_TICK_SECONDS), now
        for part in (self._keys, self._roles, self._lives):
            part.seconds = 0.0 if self._is_fresh(part) else part.seconds + passed
        for waiting in self._due.values():
            waiting.seconds += passed
        waits = [self._keys, self._roles, self._lives, *self._due.values()]
        if any(waiting.seconds >= PATIENCE_SECONDS for waiting in waits):
            self._end_waiting()

    def _end_waiting(self) -> None:
        for key_id in self._hub.key_ids():
            waits = [self._lives, *self._parts_of(key_id), self._due.get(key_id, _Waiting())]
            if any(waiting.seconds >= PATIENCE_SECONDS for waiting in waits):
                for subscription in self._hub.streams_of(key_id):
                    self._hub.end(subscription, OVERLOAD)

    # Polling
    async def watch_keys(self) -> None:
        """Poll the keys until cancelled."""
        await self._watch(self._keys, self._take_in_keys)

    async def watch_roles(self) -> None:
        """Poll the roles until cancelled."""
        await self._watch(self._roles, self._take_in_roles)

    async def watch_lives(self) -> None:
        """End what time alone ends, until cancelled."""
        while True:
            next_end = await self._check_lives()
            left = next_end - self._clock.now()
            pause = until_next_poll(self._clock, _POLL_SECONDS)
            await self._clock.sleep(min(max(left, _LEAST_SECONDS), pause))

    async def poll(self) -> None:
        """Poll keys, roles and lives. What was changed before has been acted on when
        it returns; it goes on when its caller is cancelled, as the store tells of a change once."""
        await self._check_lives()
        polls = (self.poll_keys(), self.poll_roles())
        for failure in await asyncio.gather(*polls, return_exceptions=True):
            if failure is not None:
                raise failure

    async def poll_keys(self) -> None:
        """Poll the keys alone, without waiting for roles that cannot be read."""
        await _to_its_end(self._in_turn(self._keys, self._take_in_keys))

    async def poll_roles(self) -> None:
        """Poll the roles alone."""
        await _to_its_end(self._in_turn(self._roles, self._take_in_roles))

    async def _watch(self, part: _Part, take_in: TakeIn) -> None:
        while True:
            failed_before = part.failure is not None
            try:
                await self._in_turn(part, take_in)
            except GatewayError as error:
                if not failed_before:
                    _LOGGER.warning("%s; streams wait, trying again", error.detail)
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))

    async def _in_turn(self, part: _Part, take_in: TakeIn) -> None:
        async with part.turn:
            began = self._clock.boottime()
            try:
                changes = await take_in()
            except Exception as error:
                part.failure = error
                # What is due already need not wait for the store.
                await self._act()
                raise
            try:
                for listener in self._listeners:
                    listener(changes)
            finally:
                try:
                    await self._act()
                finally:
                    # Those that could not be acted on are held back one by one.
                    self._was_polled(part, began)

    async def _take_in_keys(self) -> Changes:
        losses = self._keyring.losses
        keys = await self._keyring.refresh_keys()
        self._put_due(key.id for key in keys)
        if self._keyring.losses != losses:
            self._put_due(self._hub.key_ids())
        return Changes(keys, frozenset())

    async def _take_in_roles(self) -> Changes:
        roles = await self._keyring.refresh_roles()
        if roles:
            self._put_due(
                key_id
                for key_id in self._hub.key_ids()
                if (key := self._keyring.known(key_id)) is None or not roles.isdisjoint(key.roles)
            )
        return Changes([], roles)

    def _was_polled(self, part: _Part, began: float) -> None:
        part.at, part.failure, part.seconds = began, None, 0.0
        # The store has turned out to be an older one: what is known of the other part is void.
        if self._keyring.keys_lost:
            self._keys.at = -math.inf
        if self._keyring.roles_lost:
            self._roles.at = -math.inf
        self._oldest = min(self._keys.at, self._roles.at, self._lives.at)
        self.renewed.notify()

    def _put_due(self, key_ids: Iterable[str]) -> None:
        for key_id in key_ids:
            # Each time another one: whoever acts on an earlier change does not settle this one.
            before = self._due.get(key_id)
            self._due[key_id] = _Waiting(0.0 if before is None else before.seconds)

    async def _check_lives(self) -> float:
        """End what time alone ends; when the next life ends. Waits for no store."""
        now, began = self._clock.now(), self._clock.boottime()
        quarter, since = divmod(now, _QUARTER_SECONDS)
        # An hour has begun in some time zone since the last look, or just before it: a stream that
        # was decided on before may have been opened after the first look.
        turning = quarter != self._quarter or since < _OPENING_SECONDS
        next_end = math.inf
        stretch = Stretch(self._timer)
        for key_id in self._hub.key_ids():
            await stretch.rest()
            key = self._keyring.known(key_id)
            if key is None:
                # Too many are known; it is read again.
                if key_id not in self._due:
                    self._put_due([key_id])
                continue
            if key.ends_at > now:
                next_end = min(next_end, key.ends_at)
            if self._may_have_changed(key, now, turning):
                await self._end_or_put_due(key, stretch)
        # Not before: a look that failed has to be made again.
        self._quarter = quarter
        self._was_polled(self._lives, began)
        return next_end

    async def _end_or_put_due(self, key: Key, stretch: Stretch) -> None:
        """Hold the streams of a key back until each is decided on; a key with another view stays
        due, as the log has to be asked where that view begins."""
        stays_due = key.id in self._due
        self._put_due([key.id])
        waiting = self._due[key.id]
        for subscription in self._hub.streams_of(key.id):
            await stretch.rest()
            decided = self._decide(key, subscription)
            if isinstance(decided, End):
                self._hub.end(subscription, decided)
            elif decided != subscription.interest.query.view.unbound():
                stays_due = True
        if not stays_due:
            self._settle(key.id, waiting)

    def _may_have_changed(self, key: Key, now: float, turning: bool) -> bool:
        """Whether the rights of the key may have changed by time alone; streams keep addresses."""
        if key.state(now) not in ("active", "draining"):
            return True
        return turning and depends_on_hours(self._keyring.grants_of(key))

    # Acting
    async def _act(self) -> None:
        """Decide again on the streams of keys that are due; a key that cannot be read stays due.

        Keys that have ended come first: others may be thousands, and take longer.
        """
        failure: GatewayError | None = None
        stretch = Stretch(self._timer)
        ended: list[tuple[str, _Waiting]] = []
        others: list[tuple[str, _Waiting]] = []
        for one in list(self._due.items()):
            await stretch.rest()
            (ended if self._has_ended(one[0]) else others).append(one)
        for key_id, waiting in ended + others:
            await stretch.rest()
            try:
                await self._act_on(key_id, waiting, stretch)
            except GatewayError as error:
                failure = error
        if failure is not None:
            raise failure

    def _has_ended(self, key_id: str) -> bool:
        key = self._keyring.known(key_id)
        return key is not None and decide_state(key, self._clock.now()) is not None

    async def _act_on(self, key_id: str, waiting: _Waiting, stretch: Stretch) -> None:
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
                # What has changed meanwhile counts.
                if self._decide(self._keyring.known(key_id), subscription) == decided:
                    self._hub.show(subscription, view)
                    break
        self._settle(key_id, waiting)

    def _settle(self, key_id: str, waiting: _Waiting) -> None:
        """The streams of the key are as it allows, unless it has changed again meanwhile."""
        if self._due.get(key_id) is waiting:
            del self._due[key_id]

    def _decide(self, key: Key | None, subscription: Subscription) -> View | End:
        if key is None:
            return KEY_REVOKED
        if key.change == "throttled" and key.throttled(self._clock.now()):
            # It may come back, as often as it is let through then.
            return THROTTLED
        decision = self._keyring.decide(key, "stream", subscription.address)
        if isinstance(decision, Denied):
            return _ENDS.get(decision, NOT_GRANTED)
        return decision.view


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work that goes on when the waiting task is cancelled."""
    await asyncio.shield(asyncio.ensure_future(work))
