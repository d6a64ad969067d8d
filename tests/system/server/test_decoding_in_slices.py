"""No body holds up others, whatever is in it: each costs the loop some milliseconds at once."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import msgspec
import pytest
from gateway_client import NDJSON
from gateways import Gateway

from gateway.ingest import decode
from tests.support.loop_stops import longest_stop


def with_data(data: bytes) -> bytes:
    return b'{"category":"a","action":"x","data":%b}' % data


def repeated(item: bytes, size: int) -> bytes:
    return b",".join([item] * (size // (len(item) + 1)))


EVENT = 250 * 1024
# Made when they are sent: every process of the tests reads this file.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "millions of numbers": lambda: b"[" + repeated(b"1", 8_000_000) + b"]",
    "millions of empty objects": lambda: b"[" + repeated(b"{}", 8_000_000) + b"]",
    "few but large": lambda: (
        b"[" + b",".join([with_data(b'{"a":[' + repeated(b"1.50", EVENT) + b"]}")] * 8) + b"]"
    ),
    "many tiny members": lambda: with_data(
        b"{" + b",".join(b'"%x":1' % n for n in range(25_000)) + b"}"
    ),
    "a duplicate at the end of a large event": lambda: with_data(
        b'{"a":[' + repeated(b'{"b":1}', EVENT) + b'],"a":1}'
    ),
    "deep": lambda: with_data(b"[" * 120_000 + b"]" * 120_000),
    "a number without end": lambda: with_data(b'{"a":' + b"9" * EVENT + b"}"),
    "one item of megabytes": lambda: b'[{"data":[' + repeated(b"1", 7_000_000) + b"]}]",
}


async def turns_while(gateway: Gateway, body: bytes, kind: str = "application/json") -> int:
    """How long the event loop stopped at the most, in milliseconds, while a body was taken."""
    sending = gateway.post(
        "/v1/events",
        key=gateway.user,
        data=gzip.compress(body, 1),
        headers={"Content-Type": kind, "Content-Encoding": "gzip"},
    )
    answer, longest = await longest_stop(sending)
    assert answer.status in (201, 400, 413, 422), answer.body[:200]
    return longest


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_no_body_stops_the_event_loop(gateway: Gateway, body: Callable[[], bytes]) -> None:
    sent = body()
    # Generous: a slice takes 10 ms on a slow machine, the whole of any of these 60 to 3,000.
    assert min([await turns_while(gateway, sent) for _ in range(2)]) < 50


async def test_empty_lines_stop_no_loop(gateway: Gateway) -> None:
    assert await turns_while(gateway, b"\n" * 8_000_000, NDJSON) < 50


async def test_thousands_of_gzip_members_stop_no_loop(gateway: Gateway) -> None:
    member = gzip.compress(b" ", 1)
    answer = await gateway.post(
        "/v1/events",
        key=gateway.user,
        data=member * 9_999 + gzip.compress(msgspec.json.encode({"category": "a", "action": "b"})),
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert answer.status == 201


async def test_a_large_event_is_decoded_by_a_process_of_its_own(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = []
    real = decode.decode_event

    def seen(item: bytes, *arguments: object, **options: object) -> object:
        here.append(item)
        return real(item, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decode, "decode_event", seen)
    small = with_data(b"{}")
    large = with_data(b'{"a":"' + b"x" * 20_000 + b'"}')
    refused = with_data(b'{"a":' + b"1" * 20_000 + b"}")
    for skip, items, stored in (("", [small, large], 2), ("?on_invalid=skip", [large, refused], 1)):
        answer = await gateway.post(
            f"/v1/events{skip}",
            key=gateway.user,
            data=b"[%b]" % b",".join(items),
            headers={"Content-Type": "application/json"},
        )
        assert answer.json()["accepted"] == stored
    assert here == [small]
