"""A type of destination in memory, which takes events as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from gateway.delivery.definition import Definition, invalid
from gateway.delivery.outlets.outlet import (
    SUCCESS,
    Confirmation,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutletLimits,
    Secrets,
)
from gateway.delivery.running.outlets import OutletType

Answering = Callable[[Sequence[EncodedEvent]], DeliveryVerdict]


class Receiver:
    """Takes batches; what it took is kept over outlets. `answer` judges each batch before it is
    taken, and `held` keeps requests waiting."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.batches: list[int] = []
        self.tests = 0
        # Number of events that were encoded, sent or not.
        self.encoded = 0
        # Sizes of batches that were prepared while another was on its way.
        self.staged: list[int] = []
        self.secrets: list[str] = []
        self.open = 0
        self.most_at_once = 0
        self.held = asyncio.Event()
        self.held.set()
        self.answer: Answering = lambda batch: SUCCESS
        self.test_answer = SUCCESS
        self.limits = OutletLimits(500, 1 << 20, 1 << 20, 0.05)
        # Receipts that were asked for, and what is said of each once that is `certain`.
        self.receipts: list[object] = []
        self.certain = asyncio.Event()
        self.certain.set()
        self.confirmation = SUCCESS
        self._sending = 0

    @property
    def ids(self) -> list[str]:
        """Ids of events that are none of the gateway's own, in the order they came."""
        return [one["id"] for one in self.taken if not one["category"].startswith("gateway.")]

    def outlet_type(self) -> OutletType:
        def check(definition: Definition, configured: bool) -> None:
            if "url" not in definition.settings:
                raise invalid("settings.url", "it is required")

        return OutletType(
            check, lambda order: ScriptedOutlet(self, order.secrets), secrets=("token",)
        )

    async def take(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        self._sending += 1
        self.most_at_once = max(self.most_at_once, self._sending)
        try:
            await self.held.wait()
            verdict = self.answer(batch)
        finally:
            self._sending -= 1
        delivered = verdict.delivered(len(batch))
        self.batches.append(len(batch))
        self.taken += [orjson.loads(bytes(batch[at].body)) for at in sorted(delivered)]
        return verdict


class ScriptedOutlet:
    """Implements `gateway.delivery.outlets.outlet.Outlet`."""

    confirmation: Confirmation = "stored"
    verbatim = False

    def __init__(self, receiver: Receiver, secrets: Secrets) -> None:
        self._receiver = receiver
        self._secrets = secrets

    @property
    def limits(self) -> OutletLimits:
        return self._receiver.limits

    async def open(self) -> DeliveryVerdict:
        self._receiver.open += 1
        return SUCCESS

    def encode(self, outbound: OutboundEvent) -> bytes:
        self._receiver.encoded += 1
        return outbound.json

    def stage(self, batch: Sequence[EncodedEvent]) -> None:
        self._receiver.staged.append(len(batch))

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        self._receiver.secrets = list(self._secrets("token"))
        return await self._receiver.take(batch)

    async def confirm(self, receipt: object) -> DeliveryVerdict:
        await self._receiver.certain.wait()
        self._receiver.receipts.append(receipt)
        return self._receiver.confirmation

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        self._receiver.tests += 1
        return self._receiver.test_answer

    async def close(self) -> None:
        self._receiver.open -= 1
