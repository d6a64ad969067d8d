"""Events as CSV: pages and exports, columns, cells, and what masks hide of them."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
import os

import pytest
from aiohttp import ClientPayloadError, ServerDisconnectedError
from backports import zstd
from gateway_client import NDJSON, Answer, event, key_id
from gateways import Gateway
from use_record import told

from gateway.formats.csv import DEFAULT_COLUMNS
from gateway.http.exports.export_sink import ExportSink
from gateway.http.response.coding import FOR_A_THREAD
from tests.support.machine_time import eventually, patience

# Behind the end of another chunk: a row may end with a 0, too.
LAST_CHUNK = b"\r\n0\r\n\r\n"
CSV = {"Accept": "text/csv"}
EXPORT = "/v1/stream?follow=false&from=start"


def rows(answer: Answer) -> list[list[str]]:
    assert answer.status == 200, answer.body[:500]
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("path", ["/v1/events?x", EXPORT])
async def test_csv_has_the_usual_columns_and_a_row_per_event(gateway: Gateway, path: str) -> None:
    path = path.replace("?x", "?limit=10")
    await gateway.send(
        event(id="1", tenant="acme", actor={"id": "ann", "name": "Ann, \"A\""},
              targets=[{"urn": "a"}, {"urn": "b"}]),
        event(id="2"),
    )  # fmt: skip
    seen = (await gateway.pull())["events"]
    answer = await gateway.request("GET", path, headers=CSV)
    head, *found = rows(answer)
    assert answer.body.count(b"\r\n") == 3
    assert tuple(head) == DEFAULT_COLUMNS
    first = dict(zip(head, found[0], strict=True))
    assert first["actor.name"] == 'Ann, "A"'
    assert first["targets.urn"] == "a; b"
    assert [dict(zip(head, row, strict=True))["cursor"] for row in found] == [
        one["cursor"] for one in seen
    ]
    assert dict(zip(head, found[1], strict=True))["actor.id"] == ""


# What may be asked for


async def test_a_stream_that_follows_is_no_file_and_says_what_would_be(gateway: Gateway) -> None:
    problem = (await gateway.get("/v1/stream", headers=CSV)).problem(406, "not_acceptable")
    assert "follow=false" in problem["detail"]
    page = await gateway.get("/v1/events?columns=id")
    assert page.problem(400, "invalid_request")["parameter"] == "columns"
    ndjson = {"Accept": "application/x-ndjson"}
    stream = await gateway.get(f"{EXPORT}&bom=1", headers=ndjson)
    assert stream.problem(400, "invalid_request")["parameter"] == "columns"


@pytest.mark.parametrize("path", ["/v1/events?limit=1", EXPORT])
async def test_unknown_columns_other_formats_and_consumers_are_refused(
    gateway: Gateway, path: str
) -> None:
    for query, code, parameter in [
        ("columns=tenent", "unknown_column", "columns"),
        ("columns=", "unknown_column", "columns"),
        ("raw=maybe", "invalid_request", "raw"),
        ("format=ocsf", "unsupported_format", "format"),
        ("consumer=c", "invalid_request", "consumer"),
    ]:
        answer = await gateway.get(f"{path}&{query}", headers=CSV)
        assert answer.problem(400, code)["parameter"] == parameter, query


async def test_a_file_needs_a_protocol_that_tells_whether_it_is_whole(gateway: Gateway) -> None:
    head = f"GET {EXPORT} HTTP/1.0\r\nAuthorization: Bearer {gateway.user}\r\n"
    answer = await gateway.exchange(f"{head}Accept: text/csv\r\n\r\n".encode())
    assert b" 400 " in answer.partition(b"\r\n")[0]
    assert b"http_1_1_needed" in answer
    answer = await gateway.exchange(f"{head}Accept: application/x-ndjson\r\n\r\n".encode())
    assert b'"reason":"complete"' in answer.splitlines()[-1]


@pytest.mark.parametrize("path", ["/v1/events?limit=9", EXPORT])
async def test_columns_the_mark_of_utf_8_and_raw_texts_are_as_wished(
    gateway: Gateway, path: str
) -> None:
    await gateway.send(event(id="1", reason="=1+1", data={"user": {"mail": "jürgen@x"}}))
    query = f"{path}&columns=id,data.user.mail,reason,data"
    answer = await gateway.get(query, headers=CSV)
    assert rows(answer)[1] == ["1", "jürgen@x", "'=1+1", '{"user":{"mail":"jürgen@x"}}']
    answer = await gateway.get(f"{query}&raw=1&bom=1", headers=CSV)
    assert answer.body.startswith(b"\xef\xbb\xbfid,")
    assert rows(answer)[1][2] == "=1+1"


async def test_a_stream_by_post_takes_columns_as_a_list(gateway: Gateway) -> None:
    await gateway.send(event(id="1"))
    body = {"follow": False, "from": "start", "columns": ["id", "tenant"]}
    answer = await gateway.post("/v1/stream", json=body, headers=CSV)
    assert rows(answer) == [["id", "tenant"], ["1", "default"]]


# Masks


@pytest.mark.parametrize("path", ["/v1/events?limit=9", EXPORT])
async def test_a_column_that_is_hidden_in_all_events_is_refused(
    gateway: Gateway, path: str
) -> None:
    for fields in ({"mask": ["actor"]}, {"drop": ["actor.name"]}):
        key = await gateway.reader_key(fields=fields)
        answer = await gateway.get(f"{path}&columns=id,actor.name", headers=CSV, key=key)
        assert answer.problem(403, "hidden_by_mask")["columns"] == ["actor.name"]
    # The other grant lets the same events through: masks of both hold.
    actions = ["stream", "pull"]
    both = await gateway.mint(
        {"actions": actions, "categories": ["**"], "fields": {"mask": ["reason"]}},
        {"actions": actions, "categories": ["auth"]},
    )
    answer = await gateway.get(f"{path}&columns=reason", headers=CSV, key=both)
    answer.problem(403, "hidden_by_mask")


@pytest.mark.parametrize("path", ["/v1/events?limit=9", EXPORT])
async def test_a_column_that_is_hidden_in_some_events_has_three_stars_there(
    gateway: Gateway, path: str
) -> None:
    actions = ["stream", "pull"]
    key = await gateway.mint(
        {"actions": actions, "categories": ["**"], "tenants": ["a"],
         "fields": {"mask": ["actor.id"], "drop": ["data"]}},
        {"actions": actions, "categories": ["**"], "tenants": ["b"]},
    )  # fmt: skip
    members = {"actor": {"id": "ann"}, "data": {"x": 1}}
    await gateway.send(event(id="1", tenant="a", **members), event(id="2", tenant="b", **members))
    query = f"{path}&columns=id,actor.id,data.x,data.y"
    answer = await gateway.get(query, headers=CSV, key=key)
    assert rows(answer)[1:] == [["1", "***", "***", "***"], ["2", "ann", "1", ""]]
    # Of what is asked for alone: every event of this tenant hides them.
    answer = await gateway.get(f"{query}&tenant=a", headers=CSV, key=key)
    assert answer.problem(403, "hidden_by_mask")["columns"] == ["actor.id", "data.x", "data.y"]


@pytest.mark.parametrize("path", ["/v1/events?limit=9", EXPORT])
async def test_pseudonyms_stand_in_csv_as_in_events(gateway: Gateway, path: str) -> None:
    key = await gateway.reader_key(fields={"pseudonymize": ["actor.id"]})
    await gateway.send(event(id="1", actor={"id": "ann"}))
    [seen] = (await gateway.pull(key))["events"]
    answer = await gateway.get(f"{path}&columns=actor.id", headers=CSV, key=key)
    assert rows(answer)[1] == [seen["actor"]["id"]]
    assert seen["actor"]["id"].startswith("ps1_")


# Files


def decoded(answer: Answer) -> bytes:
    coding = answer.headers.get("Content-Encoding")
    if coding == "zstd":
        return zstd.decompress(answer.body)
    return gzip.decompress(answer.body) if coding == "gzip" else answer.body


@pytest.mark.parametrize("coding", ["zstd", "gzip", "identity"])
@pytest.mark.parametrize("accept", ["text/csv", NDJSON])
async def test_the_record_of_an_export_traces_its_file(
    recording: Gateway, accept: str, coding: str
) -> None:
    gateway = recording
    await gateway.send_many(3000, reason="x" * 300)
    asked = {"Accept": accept, "Accept-Encoding": coding}
    answer = await gateway.get(f"{EXPORT}&category=auth&limit=2500", headers=asked)
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    assert answer.headers.get("Content-Encoding", "identity") == coding
    content = decoded(answer)
    seen = (await gateway.pull(limit="2500", category="auth"))["events"]
    [record] = await told(gateway, actions=["events.exported"], action="events.exported")
    data = record["data"]
    assert data["sha256"] == hashlib.sha256(content).hexdigest()
    assert data["bytes"] == len(content)
    assert (data["events"], data["complete"]) == (2500, True)
    assert (data["first"], data["last"]) == (seen[0]["cursor"], seen[-1]["cursor"])
    assert data["parameters"][0]["category"] == ["auth"]
    assert data["transport"] == ("csv" if accept == "text/csv" else "ndjson")
    assert record["actor"]["id"] == key_id(gateway.user)
    named = answer.headers["Content-Disposition"]
    suffix = "csv" if accept == "text/csv" else "ndjson"
    assert named.startswith('attachment; filename="events_')
    assert named.endswith(f'_{key_id(gateway.user)}.{suffix}"')
    assert answer.headers["Audit-Cursor"] in named


async def test_each_export_has_a_record_of_its_own(recording: Gateway) -> None:
    await recording.send_many(3)
    for _ in range(3):
        assert (await recording.get(EXPORT, headers=CSV)).status == 200
    found = await told(recording, 3, action="events.exported")
    assert [one["data"]["count"] for one in found] == [1, 1, 1]


@pytest.mark.parametrize("coding", ["zstd", "gzip", "identity"])
async def test_an_export_that_was_cut_looks_broken(recording: Gateway, coding: str) -> None:
    gateway = recording
    # More than buffers take, and nothing that could be compressed well.
    noise = [os.urandom(500).hex() for _ in range(16_000)]
    for begin in range(0, len(noise), 1000):
        await gateway.send(*(event(reason=one) for one in noise[begin : begin + 1000]))
    key = await gateway.reader_key()
    reader, writer = await gateway.connect(receive_buffer=16 << 10)
    head = f"GET {EXPORT}&columns=id,reason HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n"
    writer.write(f"{head}Accept: text/csv\r\nAccept-Encoding: {coding}\r\n\r\n".encode())
    async with asyncio.timeout(patience()):
        got = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in got.partition(b"\r\n")[0]
        await reader.readexactly(1000)
        await gateway.revoke(key)
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
    assert not rest.endswith(LAST_CHUNK)
    writer.close()
    [record] = await told(gateway, actions=["events.exported"], action="events.exported")
    assert (record["outcome"], record["reason"]) == ("failure", "key_revoked")
    assert record["data"]["complete"] is False
    assert record["data"]["events"] < len(noise)


async def test_an_export_whose_client_leaves_is_recorded_as_not_whole(recording: Gateway) -> None:
    await recording.send_many(5000, reason="x" * 1000)
    reader, writer = await recording.connect(receive_buffer=16 << 10)
    head = f"GET {EXPORT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {recording.user}\r\n"
    writer.write(f"{head}Accept: text/csv\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    [record] = await told(recording, actions=["events.exported"], action="events.exported")
    assert (record["reason"], record["data"]["complete"]) == ("client_gone", False)


async def test_an_export_whose_making_fails_is_cut_and_the_failure_is_reported(
    recording: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recording.send(event(data={"large": "x" * 200_000}))

    made_of = ExportSink._made_of

    def broken(sink: ExportSink, parts: list[bytes | memoryview]) -> bytes:
        # Small parts are made on the way of the request itself.
        if sum(map(len, parts)) <= FOR_A_THREAD:
            return made_of(sink, parts)
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(ExportSink, "_made_of", broken)
        with pytest.raises((ClientPayloadError, ServerDisconnectedError)):
            await recording.get(
                EXPORT + "&columns=data.large", headers={**CSV, "Accept-Encoding": "gzip"}
            )
        await eventually(lambda: recording.context.tasks.errors.get("export") == 1)
    answer = await recording.get(EXPORT + "&columns=data.large", headers=CSV)
    assert "x" * 200_000 in answer.body.decode()


async def test_an_export_ends_broken_when_what_its_key_sees_changes(recording: Gateway) -> None:
    gateway = recording
    await gateway.send_many(5000, reason="x" * 1000)
    grants = [{"actions": ["stream"], "categories": ["**"]}]
    put = await gateway.request("PUT", "/v1/roles/r", json={"grants": grants}, key=gateway.admin)
    assert put.status == 201
    key = await gateway.mint(roles=["r"])
    reader, writer = await gateway.connect(receive_buffer=16 << 10)
    head = f"GET {EXPORT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n"
    writer.write(f"{head}Accept: text/csv\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    masked = [{**grants[0], "fields": {"mask": ["actor.name"]}}]
    await gateway.request("PUT", "/v1/roles/r", json={"grants": masked}, key=gateway.admin)
    async with asyncio.timeout(patience()):
        assert not (await reader.read()).endswith(LAST_CHUNK)
    writer.close()
    [record] = await told(gateway, actions=["events.exported"], action="events.exported")
    assert record["reason"] == "grants_changed"


# Pages in a coding


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("zstd, gzip", "zstd"), ("gzip", "gzip"), ("gzip, zstd;q=0.5", "gzip"), ("*", "zstd"),
        ("x-gzip", "gzip"), ("zstd;q=0, *;q=0.1", "gzip"), ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None), ("br", None), ("", None), ("gzip, identity;q=0.5", "gzip"),
    ],
)  # fmt: skip
async def test_a_page_comes_in_the_coding_that_is_preferred(
    gateway: Gateway, accepted: str, coding: str | None
) -> None:
    await gateway.send_many(300, reason="x" * 300)
    for kind in ("application/json", NDJSON, "text/csv"):
        # One less than there are: whether there are more does not depend on the gateway's records.
        page = "/v1/events?limit=299"
        plain = await gateway.get(page, headers={"Accept": kind})
        answer = await gateway.get(page, headers={"Accept": kind, "Accept-Encoding": accepted})
        assert answer.headers.get("Content-Encoding") == coding
        assert answer.headers["Vary"] == "Accept, Accept-Encoding"
        assert decoded(answer) == plain.body
        assert coding is None or len(answer.body) < len(plain.body) / 4


async def test_small_pages_and_answers_with_secrets_are_not_compressed(gateway: Gateway) -> None:
    both = {"Accept-Encoding": "zstd, gzip"}
    assert "Content-Encoding" not in (await gateway.get("/v1/events", headers=both)).headers
    long = {"name": "n" * 60, "purpose": "p" * 60, "owner": "o", "grants": [
        {"actions": ["pull"], "categories": [f"c{number}" for number in range(200)]},
    ]}  # fmt: skip
    made = await gateway.post("/v1/keys", json=long, key=gateway.admin, headers=both)
    assert (made.status, len(made.body) > 1024) == (201, True)
    ticket = await gateway.post("/v1/tickets", json={"category": "c" * 60}, headers=both)
    for answer in (made, ticket):
        assert "Content-Encoding" not in answer.headers
