"""Usage profiles of all keys: gathered in each process, merged in the key store.

Taking in an access costs a few microseconds and waits for nothing. What may be unusual is merged
into the store, and evaluated there against what all processes have seen, within a second; all else
in batches, now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import msgspec

from gateway.access.keys.key_store import PART_KEYS, NotesOfKeys, Noting
from gateway.access.keys.rotation_chain import predecessor_note
from gateway.access.limits.limits import address_subject
from gateway.access.usage.access import DENIED, Access
from gateway.errors import GatewayError
from gateway.oversight.detection.signals import Signal, evaluate
from gateway.oversight.detection.usage_profile import (
    LastUse,
    ProfileDelta,
    UsageProfile,
    inherited_profile,
    merged,
)
from gateway.scheduling.loop_work import Stretch

KIND = "trace"
_LOGGER = logging.getLogger(__name__)
_AT_ONCE = 100
_MOST_ADDRESSES = 5_000
_MOST_KNOWN = 100_000
# Claims of one id between two polls.
_MOST_CLAIMS = 100
# Code of requests that are refused for a key in their URL, whose secret was not checked.
_IN_URL = "key_in_url"
_DECODER = msgspec.json.Decoder(UsageProfile)
# Reads over the rest.
_LAST_USES = msgspec.json.Decoder(LastUse)
_NEVER = LastUse()
_ENCODE = msgspec.json.Encoder().encode


def _unknown(key_id: str) -> bool:
    return False


class Evaluation(msgspec.Struct, frozen=True):
    """Signals of one key, or of an address without a key."""

    key_id: str
    address: str
    signals: list[Signal]


class ProfileStore:
    """Store of usage profiles: takes accesses in, and merges them into the key store."""

    def __init__(self, store: NotesOfKeys, exists: Callable[[str], bool] = _unknown) -> None:
        self._store = store
        # Whether a key of this id exists, as far as known in memory.
        self._exists = exists
        self._deltas: dict[str, ProfileDelta] = {}
        self._urgent: dict[str, None] = {}
        # Profiles as last seen in the store, by kid; those of addresses are only here.
        self._known: dict[str, UsageProfile] = {}
        self._addresses: dict[str, UsageProfile] = {}
        self._address_deltas: dict[str, ProfileDelta] = {}
        # Ids of keys that were presented with a wrong secret; whether they exist is looked up
        # later, so that each answer takes the same time.
        self._claims: dict[str, list[Access]] = {}
        # Evaluations that an earlier flush could not return.
        self._evaluated: list[Evaluation] = []

    def observe(self, access: Access) -> None:
        """Take in one access."""
        if access.key is not None:
            delta = self._delta_of(access.key.id)
            delta.add(access, self._known.get(access.key.id))
            if delta.urgent:
                self._urgent[access.key.id] = None
        elif access.outcome == "denied" or access.action == DENIED:
            self._claim(access)
            address = address_subject(access.address)
            refusals = self._address_deltas.get(address)
            if refusals is None:
                if len(self._address_deltas) >= _MOST_ADDRESSES:
                    return
                refusals = self._address_deltas[address] = ProfileDelta()
            refusals.add(access, None)

    def _claim(self, access: Access) -> None:
        if not access.claimed or access.reason == _IN_URL:
            return
        claims = self._claims.get(access.claimed)
        if claims is None:
            if len(self._claims) >= _MOST_ADDRESSES:
                return
            claims = self._claims[access.claimed] = []
        if len(claims) < _MOST_CLAIMS:
            claims.append(access)

    def _take_claims(self) -> None:
        claims, self._claims = self._claims, {}
        for key_id, accesses in claims.items():
            if self._exists(key_id):
                for access in accesses:
                    self._delta_of(key_id).claim(access)
                self._urgent[key_id] = None

    def touch(self, key_ids: Iterable[str], now: float) -> None:
        """Mark keys with open streams as in use."""
        for key_id in key_ids:
            self._delta_of(key_id).touch(now)

    def add_signal(self, key_id: str, signal: Signal) -> None:
        """Add a signal of a key that does not follow from its accesses."""
        self._delta_of(key_id).add_signal(signal.name, signal.at, signal.data, signal.count)
        self._urgent[key_id] = None

    async def of(self, key_id: str) -> UsageProfile:
        """Profile of a key, merged with what this process has seen since."""
        profile = _profile(key_id, await self._store.note(KIND, key_id))
        delta = self._deltas.get(key_id)
        return profile if delta is None else merged(profile, delta)

    async def last_uses(self) -> dict[str, LastUse]:
        """Last use of each key, by its id, as far as other processes have brought that into the
        store."""
        uses: dict[str, LastUse] = {}
        last = ""
        # In parts, since look-ups of keys wait for each read.
        while notes := await self._store.notes(KIND, last, PART_KEYS):
            stretch = Stretch()
            for last, document in notes.items():
                await stretch.rest()
                uses[last] = _last_use(last, document)
        for key_id, delta in self._deltas.items():
            if delta.used_at > uses.get(key_id, _NEVER).used_at:
                uses[key_id] = LastUse(delta.used_at, delta.address, delta.client)
        return uses

    async def flush(self, *, everything: bool) -> list[Evaluation]:
        """Merge what is new, or only what is urgent, into the store; return evaluations. What the
        store does not take stays."""
        self._take_claims()
        wanted = list(self._deltas if everything else self._urgent)
        self._evaluated += self._evaluate_addresses()
        for start in range(0, len(wanted), _AT_ONCE):
            names = [name for name in wanted[start : start + _AT_ONCE] if name in self._deltas]
            await self._store_deltas({name: self._deltas.pop(name) for name in names})
        found, self._evaluated = self._evaluated, []
        return found

    async def _store_deltas(self, batch: dict[str, ProfileDelta]) -> None:
        evaluated: dict[str, tuple[UsageProfile, list[Signal]]] = {}
        try:
            inherited = await self._inherited(batch)
            await self._store.update_notes(KIND, dict(_notings(batch, inherited, evaluated)))
        except GatewayError:
            for name, delta in batch.items():
                later = self._deltas.get(name)
                self._deltas[name] = delta if later is None else delta.followed_by(later)
            raise
        for name, (profile, signals) in evaluated.items():
            self._remember(name, profile)
            if not self._deltas.get(name, _NOTHING).urgent:
                self._urgent.pop(name, None)
            if signals:
                self._evaluated.append(Evaluation(name, batch[name].address, signals))

    async def _inherited(self, batch: dict[str, ProfileDelta]) -> dict[str, UsageProfile]:
        """Profiles of predecessors for keys without a known profile."""
        inherited = {}
        for name, delta in batch.items():
            if delta.predecessor and name not in self._known:
                document = await predecessor_note(self._store, KIND, delta.predecessor)
                if document is not None:
                    inherited[name] = inherited_profile(_profile(delta.predecessor, document))
        return inherited

    def _delta_of(self, key_id: str) -> ProfileDelta:
        delta = self._deltas.get(key_id)
        if delta is None:
            delta = self._deltas[key_id] = ProfileDelta()
        return delta

    def _remember(self, key_id: str, profile: UsageProfile) -> None:
        if len(self._known) >= _MOST_KNOWN and key_id not in self._known:
            del self._known[next(iter(self._known))]
        self._known[key_id] = profile

    def _evaluate_addresses(self) -> list[Evaluation]:
        deltas, self._address_deltas = self._address_deltas, {}
        found = []
        for address, one in deltas.items():
            # Moved to the end, so that the first ones are those not seen for longest.
            profile, signals = evaluate(self._addresses.pop(address, UsageProfile()), one)
            self._addresses[address] = profile
            if signals:
                found.append(Evaluation("", address, signals))
        while len(self._addresses) > _MOST_ADDRESSES:
            del self._addresses[next(iter(self._addresses))]
        return found


_NOTHING = ProfileDelta()


def _last_use(key_id: str, document: bytes) -> LastUse:
    try:
        return _LAST_USES.decode(document)
    except (msgspec.MsgspecError, RecursionError) as error:
        _LOGGER.warning("the last use of the key %s cannot be read: %s", key_id, error)
        return _NEVER


def _profile(key_id: str, document: bytes | None) -> UsageProfile:
    try:
        return UsageProfile() if document is None else _DECODER.decode(document)
    except (msgspec.MsgspecError, RecursionError) as error:
        _LOGGER.warning("what was seen of the key %s cannot be read: %s", key_id, error)
        return UsageProfile()


def _notings(
    batch: dict[str, ProfileDelta],
    inherited: dict[str, UsageProfile],
    evaluated: dict[str, tuple[UsageProfile, list[Signal]]],
) -> Iterator[tuple[str, Noting]]:
    """Updates of notes, which put their results into `evaluated`."""

    def evaluating(document: bytes | None, name: str, delta: ProfileDelta) -> bytes:
        if document is None:
            before = inherited.get(name, UsageProfile())
        else:
            before = _profile(name, document)
        after, signals = evaluate(before, delta)
        note = _ENCODE(after)
        # The data of signals may hold texts of clients that are not in the profile.
        _ENCODE(signals)
        evaluated[name] = after, signals
        return note

    for name, delta in batch.items():

        def noting(
            document: bytes | None, name: str = name, delta: ProfileDelta = delta
        ) -> bytes | None:
            try:
                try:
                    return evaluating(document, name, delta)
                except UnicodeEncodeError:
                    delta.replace_invalid_text()
                    return evaluating(document, name, delta)
            except Exception:
                # It must not hold back those of other keys.
                _LOGGER.exception("what was seen of the key %s is left out: a bug", name)
                return document

        yield name, noting
