"""`POST /v1/events`: bodies that are malformed, too large, too slow, or made to hurt."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
import zlib
from typing import Any

import orjson
import pytest
from gateway_client import NDJSON, Answer, GatewayClient, event
from gateways import Gateway, Start, StartProgram

from tests.support.machine_time import Stopwatch, patience

JSON = "application/json"
SMALLEST = 256 * 1024
GOOD = orjson.dumps(event())


async def post(gateway: GatewayClient, body: Any, kind: str | None = JSON, **more: str) -> Answer:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    if kind is not None:
        headers["Content-Type"] = kind
    return await gateway.post("/v1/events", data=body, headers=headers)


def head(gateway: GatewayClient, *headers: str) -> bytes:
    lines = [
        "POST /v1/events HTTP/1.1",
        "Host: gateway",
        f"Authorization: Bearer {gateway.admin}",
        f"Content-Type: {JSON}",
        *headers,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# Types and encodings


@pytest.mark.parametrize(
    "kind",
    [
        None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/octet-stream", "text/json", "application/xml", "json", "",
        f"{JSON}; charset=utf-16", f"{JSON}; charset=latin-1", "application/json-seq",
    ],
)  # fmt: skip
async def test_any_other_content_type_is_415(gateway: Gateway, kind: str | None) -> None:
    (await post(gateway, GOOD, kind)).problem(415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip,identity", "x"])
async def test_any_other_content_encoding_is_415(gateway: Gateway, encoding: str) -> None:
    answer = await post(gateway, gzip.compress(GOOD), Content_Encoding=encoding)
    answer.problem(415, "unsupported_encoding")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (GOOD.decode().encode("utf-16"), 422),
        (GOOD.decode().encode("utf-16-le"), 422),
        (GOOD.decode().encode("utf-32"), 422),
        (b"\xef\xbb\xbf" + GOOD, 400),
        (b'{"category":"a","action":"b","reason":"\xe9"}', 422),
        (b'{"category":"a","action":"b","reason":"\xc0\xaf"}', 422),
        (b'{"category":"a","action":"b","reason":"\xed\xa0\x80"}', 422),
        (b'{"category":"a","action":"b","reason":"\\ud800"}', 422),
        (b'{"category":"a","action":"b","data":{"x":"\\udfff"}}', 422),
    ],
    ids=["utf-16", "utf-16-le", "utf-32", "bom", "latin-1", "overlong", "cesu", "half", "in-data"],
)
async def test_text_that_is_not_utf_8_is_refused(
    gateway: Gateway, body: bytes, status: int
) -> None:
    answer = await post(gateway, body)
    assert answer.status == status
    assert (await gateway.pull())["events"] == []


# Malformed


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_request"),
        (b"  \n ", 400, "invalid_request"),
        (b"[]", 400, "invalid_request"),
        (b"[", 400, "malformed_json"),
        (b"[{}", 400, "malformed_json"),
        (b"[{},]", 400, "malformed_json"),
        (b"[{}] x", 400, "malformed_json"),
        (b"[" * 1_000_000, 400, "malformed_json"),
        (b"null", 422, "invalid_events"),
        (b"1", 422, "invalid_events"),
        (b"{", 422, "invalid_events"),
        (GOOD + GOOD, 422, "invalid_events"),
        (b'{"a":' * 100_000, 422, "invalid_events"),
        (b'{"category":"a","category":"b","action":"c"}', 422, "invalid_events"),
        (b'{"category":"a","action":"c","data":{"x":{"y":1,"y":2}}}', 422, "invalid_events"),
        (b'{"category":"a","action":"c","data":{"x":NaN}}', 422, "invalid_events"),
        (b'{"category":"a","action":"c","data":{"x":-Infinity}}', 422, "invalid_events"),
        (b'{"category":"a","action":"c","data":{"x":1e999}}', 422, "invalid_events"),
        (b'{"category":"a","action":"c","data":{"x":18446744073709551616}}', 422, "invalid_events"),
        (b'{"category":"a","action":"c","data":{"x":01}}', 422, "invalid_events"),
        (b"{'category':'a','action':'c'}", 422, "invalid_events"),
        (b'{"category":"a","action":"c"} // x', 422, "invalid_events"),
        (b'{"category":"a","action":"c","reason":"\x00"}', 422, "invalid_events"),
        (b"\x1f\x8b" + GOOD, 422, "invalid_events"),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else "",
)
async def test_a_malformed_body_is_refused_by_name(
    gateway: Gateway, body: bytes, status: int, code: str
) -> None:
    (await post(gateway, body)).problem(status, code)
    assert (await gateway.pull())["events"] == []


@pytest.mark.parametrize(
    "body",
    [GOOD, b"", gzip.compress(GOOD)[:-1], gzip.compress(GOOD)[:12], gzip.compress(GOOD) + b"x",
     gzip.compress(GOOD) + gzip.compress(GOOD)[:5], zlib.compress(GOOD)],
    ids=["plain", "empty", "cut", "cut-early", "trailing", "cut-second", "zlib"],
)  # fmt: skip
async def test_a_body_that_is_not_whole_gzip_is_400(gateway: Gateway, body: bytes) -> None:
    answer = await post(gateway, body, Content_Encoding="gzip")
    assert answer.status == 400
    assert (await gateway.pull())["events"] == []


async def test_bodies_mangled_at_random_are_refused_or_stored_but_never_a_failure(
    gateway: Gateway,
) -> None:
    rng = random.Random(20)
    whole = orjson.dumps([event(data={"x": [1, "\\u0041", None]}, actor={"id": "ä"})] * 3)
    for _ in range(300):
        body = bytearray(rng.choice([whole, GOOD, gzip.compress(whole)]))
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(body))
            body[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        headers = rng.choice([{}, {"Content_Encoding": "gzip"}])
        answer = await post(gateway, bytes(body), rng.choice([JSON, NDJSON]), **headers)
        assert answer.status in (201, 400, 422), (answer, body)


# Too large


async def test_what_is_declared_too_large_is_413_before_it_is_read(start: Start) -> None:
    gateway = await start(ingest={"max_request_bytes": SMALLEST})
    reader, writer = await gateway.connect()
    writer.write(head(gateway, "Content-Length: 1000000000"))
    async with asyncio.timeout(patience(2)):
        answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in answer


async def test_what_turns_out_too_large_is_413_although_nothing_was_declared(
    start: Start,
) -> None:
    gateway = await start(ingest={"max_request_bytes": SMALLEST})
    reader, writer = await gateway.connect()
    writer.write(head(gateway, "Transfer-Encoding: chunked"))
    for _ in range(SMALLEST // 4096 + 2):
        writer.write(b"1000\r\n%b\r\n" % (b" " * 4096))
    async with asyncio.timeout(patience(2)):
        answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_the_largest_body_is_taken_and_one_byte_more_is_413(start: Start) -> None:
    gateway = await start(ingest={"max_request_bytes": SMALLEST})
    assert (await post(gateway, GOOD.ljust(SMALLEST))).status == 201
    (await post(gateway, GOOD.ljust(SMALLEST + 1))).problem(413, "payload_too_large")
    packed = gzip.compress(GOOD.ljust(SMALLEST))
    assert (await post(gateway, packed, Content_Encoding="gzip")).status == 201
    packed = gzip.compress(GOOD.ljust(SMALLEST + 1))
    (await post(gateway, packed, Content_Encoding="gzip")).problem(413, "payload_too_large")


@pytest.mark.parametrize("kind", [JSON, NDJSON])
async def test_too_many_events_are_413_and_as_many_as_allowed_are_taken(
    start: Start, kind: str
) -> None:
    gateway = await start(ingest={"max_request_events": 5})
    pattern = b"[%b]" if kind == JSON else b"%b"
    between = b"," if kind == JSON else b"\n\n"
    assert (await post(gateway, pattern % between.join([GOOD] * 5), kind)).status == 201
    answer = await post(gateway, pattern % between.join([GOOD] * 6), kind)
    answer.problem(413, "too_many_events")


async def test_a_gzip_bomb_is_413_and_the_memory_comes_back(start_program: StartProgram) -> None:
    gateway = await start_program()
    before = gateway.rss
    packer = zlib.compressobj(wbits=31)
    opening = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    # A block behind a full flush depends on nothing before it, so it may be repeated.
    block = packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = opening + block * 1023
    assert len(bomb) < 2**21
    for _ in range(3):
        answer = await post(gateway, bomb, Content_Encoding="gzip")
        answer.problem(413, "payload_too_large")
    assert gateway.peak_rss - before < 150 << 20
    assert gateway.rss - before < 50 << 20


# Made to hurt: each of these once kept the loop, and with it all live streams, for seconds


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "status"),
    [
        (gzip.compress(b"") * 200_000, JSON, "gzip", 400),
        (b"{}" * 20 + b'"' + b'\\"' * 100_000, JSON, "identity", 422),
    ],
    ids=["gzip-members", "open-string"],
)
async def test_a_body_made_to_be_slow_is_refused_at_once(
    start_program: StartProgram, body: bytes, kind: str, encoding: str, status: int
) -> None:
    gateway = await start_program()
    watch = Stopwatch()
    assert (await post(gateway, body, kind, Content_Encoding=encoding)).status == status
    assert watch.seconds < 4


async def test_empty_bodies_one_after_the_other_are_refused_each(gateway: Gateway) -> None:
    """All requests without a body share one reader, whose second end looked different."""
    for path in ("/v1/events", "/v1/stream", "/v1/keys"):
        for _ in range(3):
            headers = {"Content-Type": JSON}
            answer = await gateway.post(path, headers=headers, key=gateway.admin)
            assert answer.status == 400, path


# Too slow


async def test_a_body_that_stalls_is_408_after_body_timeout(start: Start) -> None:
    gateway = await start(server={"body_timeout": 0.3})
    reader, writer = await gateway.connect()
    watch = Stopwatch()
    writer.write(head(gateway, "Content-Length: 100") + GOOD[:10])
    async with asyncio.timeout(patience()):
        answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Connection: close" in answer
    assert watch.elapsed >= 0.3
    assert watch.seconds < 1.3


async def test_a_body_that_drips_is_408_after_body_timeout(start: Start) -> None:
    gateway = await start(server={"body_timeout": 0.3})
    reader, writer = await gateway.connect()
    watch = Stopwatch()
    writer.write(head(gateway, "Transfer-Encoding: chunked"))
    answered = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
    while not answered.done():
        assert watch.seconds < 1.3
        writer.write(b"1\r\n \r\n")
        await asyncio.wait([answered], timeout=0.02)
    assert (await answered).startswith(b"HTTP/1.1 408 ")


async def test_headers_that_drip_are_cut_off_after_keepalive(start: Start) -> None:
    gateway = await start(server={"keepalive": 0.5})
    reader, writer = await gateway.connect()
    watch = Stopwatch()
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n")
    ended = asyncio.ensure_future(reader.read())
    while not ended.done():
        assert watch.seconds < 3
        writer.write(b"X-Slow: 1\r\n")
        await asyncio.wait([ended], timeout=0.02)
    assert watch.elapsed >= 0.4


# Too much at once


async def test_a_full_queue_is_503_with_whole_seconds_to_wait(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start(ingest={"queue_events": 50, "max_request_events": 50})
    log, gate = gateway.context.log, asyncio.Event()
    append = log.append

    async def slow_append(batches: Any) -> Any:
        await gate.wait()
        return await append(batches)

    monkeypatch.setattr(log, "append", slow_append)
    names = [f"e{n}" for n in range(80)]
    posts = [asyncio.create_task(gateway.post("/v1/events", json=event(id=n))) for n in names]
    try:
        done, _ = await asyncio.wait(posts, timeout=patience(), return_when=asyncio.FIRST_COMPLETED)
    finally:
        gate.set()
    assert done
    answers = await asyncio.gather(*posts)
    refused = [answer for answer in answers if answer.status != 201]
    for answer in refused:
        answer.problem(503, "write_queue_full")
        assert re.fullmatch(r"[1-9]\d*", answer.headers["Retry-After"])
    taken = {name for name, one in zip(names, answers, strict=True) if one.status == 201}
    assert 20 < len(taken) < 80
    assert {one["id"] for one in (await gateway.pull())["events"]} == taken
    assert (await gateway.send(event(id="more")))["accepted"] == 1
