"""What the deliveries of one process share: the way to events, receivers, and their records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from gateway.access.keyring import Keyring
from gateway.access.keys.key import Key
from gateway.access.limits.ports import Lease as Place
from gateway.access.policy.decision import EXPIRED, REVOKED, SUSPENDED, Allowed, Denied
from gateway.access.usage.access import OPENED, Access
from gateway.clock import Clock
from gateway.cursor import distance
from gateway.delivery import destination as words
from gateway.delivery.definition import Definition
from gateway.delivery.destination import Destination, disabled, same_definition
from gateway.delivery.ports import DeadLetter, Destinations
from gateway.delivery.records import delivery_record
from gateway.delivery.running.outlets import Outlets, Stopped
from gateway.delivery.running.stream import OUTBOUND, DeliveryStream, Inbox
from gateway.errors import Forbidden, GatewayError, Unavailable
from gateway.log.bound_view import bound_view
from gateway.log.ports import Log
from gateway.oversight.access_log.access_log import AccessLog, Appender
from gateway.streaming.delivery_gate import DeliveryGate
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.tasks import Tasks

_STATES = {
    REVOKED: words.KEY_REVOKED, EXPIRED: words.KEY_EXPIRED, SUSPENDED: words.KEY_SUSPENDED,
}  # fmt: skip
_GATE_SECONDS = 15.0
_LOGGER = logging.getLogger(__name__)
_MOST_ROTATIONS = 50


class ReaderLimits(Protocol):
    """Limits of keys, for readers without a request."""

    def pacer(self, key: Key) -> DeliveryPacer | None:
        """Pacer that keeps a stream within the key's delivery limits; None without limits."""

    async def open_reader(self, key: Key) -> Place | None:
        """Place of a new stream of the key, which must be released. Raises if it may not open."""


@dataclass
class DeliveryParts:
    """Parts of a running gateway that deliveries use."""

    store: Destinations
    hub: Hub
    log: Log
    clock: Clock
    keyring: Keyring
    gate: DeliveryGate
    limits: ReaderLimits
    access_log: AccessLog
    writer: Appender
    tasks: Tasks
    outlets: Outlets
    # Names of destinations whose status has changed, and new dead letters by destination.
    noted: set[str] = field(default_factory=set)
    refused: dict[str, list[DeadLetter]] = field(default_factory=dict)
    # What is to be recorded of events that retention has deleted.
    gaps: list[tuple[Destination, Mapping[str, object]]] = field(default_factory=list)

    # Reading

    async def newest_key(self, key_id: str) -> Key:
        """The key, or the last that took over from it by rotation."""
        key = await self.keyring.get(key_id)
        # Nothing is done as a person without them.
        if key is None or key.person is not None:
            raise Stopped(words.KEY_REVOKED)
        for _ in range(_MOST_ROTATIONS):
            after = await self.keyring.get(key.successor) if key.successor else None
            if after is None:
                break
            key = after
        return key

    async def open_stream(
        self,
        destination: Destination,
        position: int,
        wake: Callable[[], None],
        interrupt: Callable[[], None],
        max_wait: float,
    ) -> DeliveryStream:
        """Stream of what the key of a destination may see, from a position on, for batches that
        wait so long. Raises `Stopped` or `GatewayError` if it may not be opened."""
        definition = destination.definition
        select, selected = definition.select.scope(), definition.select.compiled_filter()
        key = await self.newest_key(definition.key)
        place = await self.limits.open_reader(key)
        try:
            view = None
            while view is None:
                key = await self.newest_key(definition.key)
                decided = self._decide(key)
                view = await bound_view(self.log, decided.view, self.clock.now())
                # Again, if the key has changed meanwhile.
                known = self.keyring.cached(key.id)
                if known is None or self._decide(known).view != decided.view:
                    view = None
            # No `await` from here on: enforcement knows the stream once it is open.
            inbox = Inbox(
                lambda gap: self._gap(destination, gap),
                wake,
                lambda: distance(stream.cursor, self.log.head),
                max_wait,
                self.clock.monotonic,
            )
            interest = Interest(StreamQuery(select, view, selected), OUTBOUND)
            stream = DeliveryStream(interest, inbox, key.id, position, interrupt)
        except BaseException:
            if place is not None:
                place.release()
            raise
        stream.skip_gaps = definition.on_gap == "skip"
        stream.pacer, stream.place = self.limits.pacer(key), place
        inbox.hub = self.hub
        access = Access(
            at=self.clock.now(), action=OPENED, key=key, attempted="stream",
            transport=OUTBOUND.name, parameters=_shown(definition), begin=position, end=position,
            behind=distance(position, self.log.head),
        )  # fmt: skip
        self.access_log.log(access)
        stream.opened = access
        self.hub.open(stream)
        return stream

    async def await_rights(self, stream: DeliveryStream | None) -> None:
        """Return when what the key may see is known as of the last second."""
        if stream is None:
            return
        gate, key_id = self.gate, stream.key_id
        while not gate.admits(key_id):
            await gate.renewed.until(lambda: gate.admits(key_id), _GATE_SECONDS)

    def _decide(self, key: Key) -> Allowed:
        if key.throttled(self.clock.now()):
            raise Unavailable("the key is throttled for a while", code="key_throttled")
        decision = self.keyring.decide(key, "stream", None)
        if isinstance(decision, Denied):
            code = _STATES.get(decision)
            if code is not None:
                raise Stopped(code)
            raise Forbidden(
                f"the key {key.id} may not stream now ({decision.reason}); a destination has no "
                "address, so grants for networks do not reach it",
                code=decision.reason,
            )
        return decision

    # Acts and records

    async def disable(self, destination: Destination, reason_code: str) -> None:
        """Disable a destination, unless a person has changed it meanwhile: what was wrong may be
        mended, and is found again if it is not."""
        now = self.clock.now()
        done = False

        def disable(before: Destination | None, others: int) -> Destination | None:
            nonlocal done
            if before is None or not same_definition(before, destination):
                return before
            after = disabled(before, now, reason_code)
            done = after is not before
            return after

        await self.store.change(destination.name, disable)
        if done:
            await self.record("destination.disabled", destination, {"reason_code": reason_code}, 3)
        self.changed(destination.name)

    async def record(
        self, action: str, destination: Destination, data: Mapping[str, object], severity: int = 1
    ) -> None:
        """Write a record of the gateway's own about a destination, as far as the log takes it."""
        try:
            await self.writer.append([
                delivery_record(action, destination, data, self.clock.now(), severity)
            ])  # fmt: skip
        except GatewayError as error:
            _LOGGER.warning("%s of %s is not recorded: %s", action, destination.name, error.detail)

    def rejected(self, destination: Destination, letters: Sequence[DeadLetter]) -> None:
        """Take note of new dead letters."""
        self.refused.setdefault(destination.name, []).extend(letters)
        self.changed(destination.name)

    def changed(self, name: str) -> None:
        """Take note of a changed status, which is stored soon."""
        self.noted.add(name)

    def _gap(self, destination: Destination, gap: bytes) -> None:
        data = msgspec.json.decode(gap, type=dict[str, object])
        data.pop("type", None)
        self.gaps.append((destination, data))


def _shown(definition: Definition) -> str:
    shown = {"destination": definition.name, "select": msgspec.to_builtins(definition.select)}
    return msgspec.json.encode(shown).decode()
