"""The watch over live streams: ends or narrows those that their keys no longer allow."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.clock import Clock
from gateway.encode.wire import KEY_EXPIRED, KEY_REVOKED, KEY_SUSPENDED, NOT_GRANTED, THROTTLED
from gateway.errors import GatewayError
from gateway.keys.key import Key
from gateway.keys.policy import EXPIRED, REVOKED, SUSPENDED, Denied, depends_on_circumstances
from gateway.live.floors import find_floors
from gateway.live.hub import Hub
from gateway.live.keyring import Changes, Keyring
from gateway.live.subscription import Subscription
from gateway.store.ports import Log

_LOOK_SECONDS = 0.25
_LOGGER = logging.getLogger(__name__)
_ENDS = {REVOKED: KEY_REVOKED, EXPIRED: KEY_EXPIRED, SUSPENDED: KEY_SUSPENDED}


class KeyWatch:
    """Looks several times a second, and whenever it is told of a change."""

    def __init__(self, keyring: Keyring, hub: Hub, log: Log, clock: Clock) -> None:
        # Told of what has changed in the key store, whoever changed it.
        self.listeners: list[Callable[[Changes], None]] = []
        self._keyring = keyring
        self._hub = hub
        self._log = log
        self._clock = clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except GatewayError as error:
                _LOGGER.warning("keys cannot be read, trying again: %s", error.detail)
            await self._clock.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """One look at all keys that have streams."""
        changes = await self._keyring.refresh()
        for listener in self.listeners:
            listener(changes)
        changed = {key.id for key in changes.keys}
        now = self._clock.now()
        for key_id in self._hub.key_ids():
            key = await self._keyring.get(key_id)
            if key is None:
                for subscription in self._hub.streams_of(key_id):
                    self._hub.end(subscription, KEY_REVOKED)
            elif (
                key_id in changed
                or not changes.roles.isdisjoint(key.roles)
                or self._may_have_changed(key, now)
            ):
                for subscription in self._hub.streams_of(key_id):
                    await self._check(key, subscription)

    def _may_have_changed(self, key: Key, now: float) -> bool:
        """Whether time alone may have changed what the key allows."""
        if key.state(now) not in ("active", "draining"):
            return True
        return depends_on_circumstances(self._keyring.grants_of(key))

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
