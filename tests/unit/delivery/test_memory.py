"""What a destination holds in memory: two batches, however much waits."""

from __future__ import annotations

import tracemalloc

from gateway.delivery.connect.transport import HttpRequest, RemoteAnswer
from gateway.delivery.outlets.outlet import DeliveryResult, OutboundEvent
from gateway.delivery.outlets.s3 import S3
from gateway.delivery.reduction import encode_within_limits
from tests.support.outbound_events import outbound_event
from tests.support.outlets import new_outlet

EVENTS = 8000


class TakingTransport:
    """Takes every object, and has none."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def request(self, request: HttpRequest) -> RemoteAnswer:
        if request.method == "GET":
            return RemoteAnswer(404, body=b"<Code>NoSuchKey</Code>")
        self.sizes.append(len(request.body))
        return RemoteAnswer(200, {"etag": '"x"'})

    async def close(self) -> None:
        return None


async def test_a_large_batch_is_sent_with_no_more_in_memory_than_twice_its_size() -> None:
    transport = TakingTransport()
    settings = {"bucket": "audit", "access_key": "AKID", "url": "https://s3.example.org"}
    outlet = new_outlet(S3, settings, {"secret_key": ["secret"]}, transport=transport)
    assert outlet.limits.planned
    members = {"actor": {"id": "u-1", "name": "Ann"}, "targets": [{"urn": "app:portal"}]}
    json = outbound_event(1, **members, data={"path": "/v1/" + "x" * 100}).json
    assert 300 < len(json) < 600
    number = f"{1:020d}".encode()
    tracemalloc.start()
    try:
        # As they are read: each a text of its own.
        lines = [json.replace(number, b"%020d" % at, 1) for at in range(1, EVENTS + 1)]
        size = sum(map(len, lines))
        batch = []
        for line in lines:
            encoded = encode_within_limits(outlet, OutboundEvent(line))
            assert encoded is not None
            batch.append(encoded)
        verdict = await outlet.send(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert verdict.result is DeliveryResult.SUCCESS
    assert transport.sizes[-1] > 0
    assert peak <= 2 * size, f"{peak / size:.2f} times"
