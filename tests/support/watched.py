"""A key store, a log and a hub for tests of what watches them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from gateway.access.keys.key import Key
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.log.ports import Appended
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.subscription import State

NOW = 1_700_000_000.0
DAY = 86400


class FakeWriter:
    """Takes drafts, each id once, as the log does."""

    def __init__(self) -> None:
        self.drafts: dict[str, Draft] = {}
        self.offered: list[str] = []
        self.away = False

    async def append(self, batch: Sequence[Draft]) -> Appended:
        if self.away:
            raise Unavailable("the log is away")
        self.offered += [draft.id for draft in batch]
        for draft in batch:
            self.drafts.setdefault(draft.id, draft)
        return Appended(len(batch), 0, 1, len(batch))

    def events(self, category: str) -> list[dict[str, Any]]:
        found = [orjson.loads(b"{" + draft.tail) for draft in self.drafts.values()]
        return [event for event in found if event["category"] == category]

    def actions(self, category: str) -> list[str]:
        return [event["action"] for event in self.events(category)]


class FakeSink:
    """A connection, and what its peer has not taken."""

    def __init__(self) -> None:
        self.waited = 0
        self.unsent = 0

    @property
    def clear(self) -> bool:
        return not self.unsent


class FakeStream:
    """What the watch looks at of a subscription."""

    def __init__(self, key_id: str, *, state: State = State.LIVE, cursor: int = 0) -> None:
        self.key_id = key_id
        self.state = state
        self.cursor = cursor
        self.delivered = 0
        self.counted = 0
        self.address = "10.0.0.1"
        self.pacer: DeliveryPacer | None = None
        self.sink = FakeSink()


class FakeHub:
    """Streams, and what was said to them."""

    def __init__(self) -> None:
        self.subscriptions: list[Any] = []
        self.position = 0
        self.said: list[tuple[str, str, dict[str, Any]]] = []

    def key_ids(self) -> set[str]:
        return {stream.key_id for stream in self.subscriptions}

    def streams_of(self, key_id: str) -> list[Any]:
        return [stream for stream in self.subscriptions if stream.key_id == key_id]

    def send_control(self, stream: Any, kind: str, members: dict[str, Any]) -> None:
        self.said.append((stream.key_id, kind, members))


def key(key_id: str, **members: Any) -> Key:
    made = Key(
        id=key_id, digest=b"d", name=f"name of {key_id}", purpose="p", owner="o",
        created_at=NOW - DAY, expires_at=NOW + 90 * DAY,
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)
