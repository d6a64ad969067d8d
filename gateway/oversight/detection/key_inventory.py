"""Inventory of keys, findings and sessions in numbers, for metrics."""

from __future__ import annotations

import logging
from collections import Counter
from math import inf

from gateway.access.keys.key import Key
from gateway.access.keys.key_store import StoredKeys
from gateway.access.sessions import Sessions
from gateway.clock import Clock, format_time, until_next_poll
from gateway.errors import GatewayError
from gateway.oversight.detection.finding import MAKER_ABSENT
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.profile_store import ProfileStore
from gateway.oversight.detection.signals import DORMANT_SECONDS, Signal
from gateway.scheduling.loop_work import Stretch

_WORKING = ("active", "draining")
KEY_STATES = (*_WORKING, "suspended", "revoked", "expired")
_DAY = 86400
# Seconds before the end of a key.
WITHIN = {"1d": _DAY, "7d": 7 * _DAY, "30d": 30 * _DAY}
_POLL_SECONDS = 10.0
# A poll takes at most this part of the time, however many keys there are.
_SHARE = 0.01
# Profiles are large, and what is told of them is a matter of days.
_PROFILES_SECONDS = 600.0
_LOGGER = logging.getLogger(__name__)


class KeyInventory:
    """Numbers of keys by state, of those about to end, of unused ones, of open findings, and of
    sessions. Persons, who have no keys, are not counted; keys of those who stay away are findings.

    One process of a gateway polls them.
    """

    def __init__(
        self, store: StoredKeys, profiles: ProfileStore, findings: Findings, sessions: Sessions,
        clock: Clock,
    ) -> None:  # fmt: skip
        self.states: Counter[str] = Counter()
        # Working keys that end within these times.
        self.expiring: Counter[str] = Counter()
        # Keys that may work again, and that nobody has used for a month.
        self.unused = 0
        # Working keys whose schedule says that they are to be rotated by now.
        self.rotation_due = 0
        self.open_findings: Counter[str] = Counter()
        # Sessions of the console.
        self.sessions = 0
        self._sessions = sessions
        self._store = store
        self._profiles = profiles
        self._findings = findings
        self._clock = clock
        self._used_at: dict[str, float] = {}
        # Keys whose makers are known to stay away.
        self._absent: set[str] = set()
        self._profiles_at = -inf

    async def run(self) -> None:
        """Poll until cancelled. What cannot be read stays as it was."""
        warned = False
        while True:
            began = self._clock.monotonic()
            try:
                await self.poll()
                warned = False
            except GatewayError as error:
                # Once per outage.
                if not warned:
                    _LOGGER.warning("keys and findings cannot be counted now: %s", error.detail)
                warned = True
            pause = max(_POLL_SECONDS, (self._clock.monotonic() - began) / _SHARE)
            await self._clock.sleep(until_next_poll(self._clock, pause))

    async def poll(self) -> None:
        """Count what is in the store; the event loop has its turns meanwhile."""
        if self._clock.monotonic() - self._profiles_at >= _PROFILES_SECONDS:
            uses = await self._profiles.last_uses()
            self._used_at = {key_id: one.used_at for key_id, one in uses.items()}
            self._profiles_at = self._clock.monotonic()
        now = self._clock.now()
        states: Counter[str] = Counter()
        expiring: Counter[str] = Counter()
        unused = rotation_due = 0
        people: dict[str, Key] = {}
        made: list[Key] = []
        async for part in self._store.parts():
            stretch = Stretch()
            for key in part:
                await stretch.rest()
                if key.person is not None:
                    people[key.id] = key
                    continue
                state = key.state(now)
                states[state] += 1
                if state in _WORKING:
                    left = key.ends_at - now
                    rotation_due += (key.rotate_by or now + 1) <= now
                    expiring.update(name for name, seconds in WITHIN.items() if left <= seconds)
                if state in (*_WORKING, "suspended"):
                    used_at = max(key.created_at, self._used_at.get(key.id, 0.0))
                    unused += now - used_at >= DORMANT_SECONDS
                    made += [key] if key.created_by_name else []
        self.states, self.expiring, self.unused = states, expiring, unused
        self.rotation_due = rotation_due
        await self._find_absent_makers(made, people, now)
        findings = await self._findings.all()
        self.sessions = len(await self._sessions.all())
        self.open_findings = Counter(one.signal for one in findings if one.state == "open")

    async def _find_absent_makers(
        self, made: list[Key], people: dict[str, Key], now: float
    ) -> None:
        """Signal keys whose makers have not signed in for long; each once for a process."""
        absent = {
            key.id: maker
            for key in made
            if (maker := people.get(key.created_by)) is not None and maker.expires_at <= now
        }
        for key_id in [one for one in absent if one not in self._absent]:
            maker = absent[key_id]
            assert maker.person is not None
            data = {"person": maker.name, "signed_in_at": format_time(maker.person.signed_in_at)}
            # Of the moment from which it is true, so that all processes find one finding.
            await self._findings.add(Signal(MAKER_ABSENT, maker.expires_at, data=data), key_id)
        self._absent = set(absent)
