"""Bodies of the protocols of Splunk and Elasticsearch that were made to hurt."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest
from gateway_client import Answer
from gateways import Gateway
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.loop_stops import longest_stop

HEC, RAW, BULK = "/services/collector/event", "/services/collector/raw", "/_bulk"
ACTION = b'{"create":{}}\n'
# Made when they are sent: every process of the tests reads this file. Each was measured with four
# times as much.
HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "numbers without end": (HEC, lambda: b"1 " * 1_000_000),
    "broken lines": (HEC, lambda: b'{"event":\n' * 200_000),
    "a broken line around all": (HEC, lambda: b'{"event":[\n' + b'{"event":1},\n' * 150_000),
    "a deep event": (HEC, lambda: b'{"event":' + b"[" * 90_000 + b"]" * 90_000 + b"}"),
    "short lines": (RAW, lambda: b"x\n" * 1_000_000),
    "a document of all lines": (BULK, lambda: ACTION + b'{"a":[\n' + b"x\n" * 1_000_000),
    "a large document": (BULK, lambda: ACTION + b'{"a":["' + b'1","' * 200_000 + b'"]}\n'),
    "actions alone": (BULK, lambda: b'{"delete":{}}\n' * 120_000),
}


async def send(gateway: Gateway, path: str, body: bytes) -> Answer:
    packed = gzip.compress(body, 1)
    headers = {"Content-Encoding": "gzip"}
    return await gateway.post(path, key=gateway.admin, data=packed, headers=headers)


async def stop_of(gateway: Gateway, path: str, body: bytes) -> int:
    """How long the event loop stopped at the most, in milliseconds, while a body was taken."""
    answer, longest = await longest_stop(send(gateway, path, body))
    assert answer.status in (200, 400, 413), answer.body[:200]
    return longest


@pytest.mark.parametrize(("path", "body"), HOSTILE.values(), ids=HOSTILE)
async def test_no_body_of_a_sender_stops_the_event_loop(
    gateway: Gateway, path: str, body: Callable[[], bytes]
) -> None:
    assert min([await stop_of(gateway, path, body()) for _ in range(2)]) < 50


BODIES = st.lists(
    st.sampled_from([
        b'{"event":', b'"a"', b"}", b"{", b"[", b"]", b"\n", b" ", b'"', b"\\", b"\xff", b"\x00",
        b"null",
        b'{"event":{"category":"a","action":"b"}}', b'{"event":"x","fields":{"a":1}}', b"1e999",
        b'{"create":{"_id":"a"}}\n', b'{"index":{"_index":"okta"}}\n', b'{"delete":{}}\n', b"{}\n",
        b'{"event":"x","sourcetype":"syslog"}', b'{"a":1,"a":2}', b'{"time":"x","event":1}', b",",
    ]),
    max_size=12,
).map(b"".join)  # fmt: skip


async def test_no_body_makes_an_error_of_ours(gateway: Gateway) -> None:
    sent: list[tuple[str, bytes]] = []

    @given(st.sampled_from([HEC, RAW, BULK, HEC + "?source=syslog", RAW + "?source=okta"]), BODIES)
    @settings(max_examples=examples(500), database=None)
    def collect(path: str, body: bytes) -> None:
        sent.append((path, body))

    collect()
    for path, body in sent:
        answer = await send(gateway, path, body)
        assert answer.status in (200, 400), (path, body, answer.body)
        json.loads(answer.body)
