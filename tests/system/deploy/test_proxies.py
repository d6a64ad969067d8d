"""nginx and HAProxy, as deploy/ sets them up, in front of a real gateway."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import json
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway_process import GatewayProcess, run_program
from tests.support.machine_time import patience
from tests.system.deploy.conftest import QUIET, MakeProxy
from tests.system.deploy.proxies import Proxy, missing_programs
from tests.system.deploy.streams import TRANSPORTS, Stream, WebSocketStream, client_of, numbers
from tests.system.deploy.tenants import FullGateway, Tenant, streams_become

every_transport = pytest.mark.parametrize("transport", TRANSPORTS)


def test_the_programs_are_there() -> None:
    assert missing_programs() == [], "tests/setup_clients.py installs them, `make test` runs it"


@every_transport
async def test_a_stream_begins_at_once_and_each_event_arrives_before_the_next_is_sent(
    proxy: Proxy, tenant: Tenant, transport: str
) -> None:
    async with client_of(proxy, tenant.key()) as client:
        # The gateway says nothing on its own for minutes.
        stream = await client.stream(transport)
        if transport == "ndjson":
            assert stream.headers["Audit-Cursor"]
        else:
            assert (await stream.message()).kind == "bookmark"
        for number in range(5):
            await tenant.send(number)
            assert await numbers(stream, 1) == [number]
        await streams_become(tenant.gateway, 1)
        client.break_off()
        await streams_become(tenant.gateway, 0)


@pytest.mark.parametrize("transport", ["sse", "ndjson"])
async def test_nothing_on_the_way_may_compress_or_keep_a_stream(
    proxy: Proxy, tenant: Tenant, transport: str
) -> None:
    async with client_of(proxy, tenant.key()) as client:
        stream = await client.stream(transport, headers={"Accept-Encoding": "gzip, deflate, br"})
        assert "Content-Encoding" not in stream.headers
        assert stream.headers["Cache-Control"] == "no-cache, no-transform"


async def test_heartbeats_keep_idle_streams_that_a_proxy_would_cut(
    make_proxy: MakeProxy, gateway: GatewayProcess, tmp_path: Path
) -> None:
    often = {**QUIET, "AUDIT_GATEWAY_STREAM__HEARTBEAT": "1s", "AUDIT_GATEWAY_STREAM__PING": "1s"}
    impatient = {" 10m": " 3s"}

    async def is_cut(stream: Stream) -> None:
        with pytest.raises(EOFError):
            await stream.event()

    with GatewayProcess(tmp_path / "often", settings=often) as beating:
        kept, cut = (make_proxy(one, changes=impatient) for one in (beating, gateway))
        tenant = Tenant(beating)
        async with (
            client_of(kept, tenant.key()) as one,
            client_of(cut, Tenant(gateway).key()) as other,
        ):
            idle = [await one.stream(transport) for transport in TRANSPORTS]
            mute = [await other.stream(transport) for transport in TRANSPORTS]
            await asyncio.gather(*map(is_cut, mute))
            # These were there before.
            await tenant.send(1)
            for stream in idle:
                assert await numbers(stream, 1) == [1]


async def test_a_client_resumes_by_its_last_event_id(proxy: Proxy, tenant: Tenant) -> None:
    async with client_of(proxy, tenant.key()) as client:
        stream = await client.stream("sse")
        await tenant.send(1, 2)
        assert await numbers(stream, 1) == [1]
        last = (await stream.event()).cursor
        client.break_off()
        await tenant.send(3, 4, 5)
        again = await client.stream("sse", headers={"Last-Event-ID": last})
        assert await numbers(again, 3) == [3, 4, 5]


async def test_a_websocket_gets_its_real_subprotocol_and_no_compression(
    proxy: Proxy, tenant: Tenant
) -> None:
    async with client_of(proxy, tenant.key()) as client:
        stream = await client.stream("websocket", headers={"Origin": proxy.url})
        assert isinstance(stream, WebSocketStream)
        response = stream.connection.response
        assert response is not None
        assert response.headers.get_all("Sec-WebSocket-Protocol") == ["audit.v1"]
        assert "Sec-WebSocket-Extensions" not in response.headers


async def test_a_websocket_of_another_origin_is_refused(proxy: Proxy, tenant: Tenant) -> None:
    async with client_of(proxy, tenant.key()) as client:
        status, _, body = await client.request(
            "GET", "/v1/stream",
            headers={
                "Connection": "Upgrade", "Upgrade": "websocket", "Origin": "https://elsewhere.example",
                "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            },
        )  # fmt: skip
        assert (status, json.loads(body)["code"]) == (403, "origin_not_allowed")


def test_a_stream_over_http_2_arrives_event_by_event(proxy: Proxy, tenant: Tenant) -> None:
    curl = subprocess.Popen(
        [
            "curl", "--disable", "--http2", "--silent", "--no-buffer", "--include",
            "--noproxy", "*", "--max-time", "20", "--cacert", str(proxy.certificate),
            "-H", f"Authorization: Bearer {tenant.key()}", "-H", "Accept: text/event-stream",
            f"{proxy.url}/v1/stream",
        ],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert curl.stdout is not None
    with curl:
        try:
            assert curl.stdout.readline().split()[:2] == [b"HTTP/2", b"200"]
            # The position is fixed when this comes.
            assert any(line.startswith(b"retry:") for line in curl.stdout)
            for number in range(3):
                tenant.gateway.post([tenant.event(number)], tenant.gateway.first_key)
                data = next(line for line in curl.stdout if b'"action":"test.sent"' in line)
                assert json.loads(data[6:])["data"]["n"] == number
        finally:
            curl.kill()


@pytest.mark.parametrize("chunked", [False, True])
async def test_gzip_bodies_are_ingested(proxy: Proxy, tenant: Tenant, chunked: bool) -> None:
    lines = b"\n".join(json.dumps(tenant.event(number)).encode() for number in range(500))
    packed = gzip.compress(lines)

    async def pieces() -> Any:
        for start in range(0, len(packed), 1000):
            yield packed[start : start + 1000]

    async with client_of(proxy, tenant.key()) as client:
        status, _, body = await client.request(
            "POST", "/v1/events", data=pieces() if chunked else packed,
            headers={"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"},
        )  # fmt: skip
        assert (status, json.loads(body)["accepted"]) == (201, 500)


async def test_a_body_of_many_megabytes_is_ingested(proxy: Proxy, tenant: Tenant) -> None:
    events = [{**tenant.event(number), "reason": "y" * 1000} for number in range(5000)]
    async with client_of(proxy, tenant.key()) as client:
        status, _, body = await client.request(
            "POST", "/v1/events", data=io.BytesIO(json.dumps(events).encode()),
            headers={"Content-Type": "application/json"},
        )  # fmt: skip
        assert (status, json.loads(body)["accepted"]) == (201, 5000)


async def test_events_over_one_connection_are_answered_while_they_come(
    make_proxy: MakeProxy, tenant: Tenant, kind: str
) -> None:
    """With what the page of the interface says that nginx needs."""
    asked = {"client_max_body_size 8m;": "client_max_body_size 0; proxy_request_buffering off;"}
    proxy = make_proxy(tenant.gateway, changes=asked if kind == "nginx" else {})
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=proxy.context)
    lines = [
        "POST /v1/events HTTP/1.1", "Host: gateway", f"Authorization: Bearer {tenant.key()}",
        "Content-Type: application/x-ndjson", "Accept: application/x-ndjson",
        "Transfer-Encoding: chunked", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    async with asyncio.timeout(patience()):
        for number in range(3):
            event = json.dumps(tenant.event(number)).encode()
            writer.write(b"%x\r\n%b\n\r\n" % (len(event) + 1, event))
            line = await reader.readuntil(b"}\n")
            assert b'"upto":%d,' % (number + 1) in line
    writer.close()


async def test_of_two_consumers_that_share_connections_each_has_every_page(
    proxy: Proxy, tenant: Tenant
) -> None:
    await tenant.send(*range(40))
    key = tenant.key()
    path = "/v1/events?category=test&limit=7&consumer="
    async with client_of(proxy, key) as one, client_of(proxy, key) as other:
        got: dict[str, list[int]] = {"one": [], "other": []}
        after = {"one": "&from=start", "other": "&from=start"}
        for name, client in (("one", one), ("other", other)):
            status, _, body = await client.request("GET", f"{path}{name}&ack=next")
            assert (status, json.loads(body)["code"]) == (400, "ack_mode_unavailable")
        while min(map(len, got.values())) < 40:
            for name, client in (("one", one), ("other", other)):
                # What an answer that was lost had is in the next one, until it is acknowledged.
                for _ in range(2):
                    status, _, body = await client.request("GET", path + name + after[name])
                    assert status == 200, body
                page = json.loads(body)
                got[name] += [event["data"]["n"] for event in page["events"]]
                after[name] = f"&after={page['cursor']}"
        assert got == {"one": list(range(40)), "other": list(range(40))}


async def test_a_gateway_that_is_down_is_passed_over(make_proxy: MakeProxy, tenant: Tenant) -> None:
    proxy = make_proxy("127.0.0.1:1", tenant.gateway)
    async with client_of(proxy, tenant.key()) as client:
        for number in range(6):
            status, _, _ = await client.request("POST", "/v1/events", json=tenant.event(number))
            assert status == 201
        for transport in TRANSPORTS:
            assert await numbers(await client.stream(transport, **{"from": "start"}), 2) == [0, 1]


async def test_a_gateway_that_is_full_is_passed_over_by_streams_but_heard_by_producers(
    make_proxy: MakeProxy, tenant: Tenant
) -> None:
    with FullGateway() as full:
        proxy = make_proxy(full.place, tenant.gateway)
        async with client_of(proxy, tenant.key()) as client:
            for _ in range(4):
                await client.stream("sse")
            assert full.asked
            refused = 0
            for number in range(4):
                status, headers, _ = await client.request(
                    "POST", "/v1/events", json=tenant.event(number)
                )
                refused += status == 503
                assert status == 201 or headers["Retry-After"] == "7"
            # Sent to one gateway each, and not once more to the other.
            assert refused == full.asked.count("POST") > 0


async def test_a_drain_ends_streams_with_their_cursors_and_clients_come_back(
    make_proxy: MakeProxy, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with GatewayProcess(data, settings=QUIET) as process:
        tenant = Tenant(process)
        key, admin, proxy = tenant.key(), process.first_key, make_proxy(process)
        async with client_of(proxy, key) as client:
            streams = [await client.stream(transport) for transport in TRANSPORTS]
            await tenant.send(1)
            cursors = {(await stream.event()).cursor for stream in streams}
            [cursor] = cursors
            ending = asyncio.create_task(asyncio.to_thread(process.stop))
            ends = {}
            for transport, stream in zip(TRANSPORTS, streams, strict=True):
                while (end := await stream.message()).kind != "end":
                    assert end.kind in ("bookmark", "caught-up")
                assert end.content["code"] == 1012
                ends[transport] = end.content["cursor"]
                # The gateway's own records may have moved it on.
                assert ends[transport] >= cursor
            await ending
            status, headers, _ = await client.request("GET", "/v1/events")
            assert status == 502 or (status == 503 and int(headers["Retry-After"]) > 0)
    with GatewayProcess(data, settings=QUIET, port=process.port) as again:
        again.first_key = admin
        tenant.gateway = again
        await tenant.send(2)
        async with client_of(proxy, key) as client:
            for transport in TRANSPORTS:
                deadline = time.monotonic() + patience(5)
                # A proxy that checks once a second does not know at once that it is back.
                while (await client.request("GET", "/v1/events"))[0] != 200:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
                stream = await client.stream(transport, after=ends[transport])
                assert await numbers(stream, 1) == [2]


async def test_tickets_are_for_https_and_in_no_log(proxy: Proxy, tenant: Tenant) -> None:
    async with client_of(proxy, tenant.key()) as client:
        status, _, body = await client.request("POST", "/v1/tickets", json={})
        assert status == 201
        ticket = json.loads(body)["ticket"]
        stream = await client.stream("sse", headers={"Authorization": ""}, ticket=ticket)
        assert stream.headers["Set-Cookie"].startswith("__Secure-audit_stream_")
        assert "; Secure" in stream.headers["Set-Cookie"]
        await tenant.send(1)
        assert await numbers(stream, 1) == [1]
        client.break_off()
        await client.request("GET", "/healthz")
    deadline = time.monotonic() + patience(5)
    while not ("/v1/stream" in proxy.said and "/healthz" in proxy.said):
        assert time.monotonic() < deadline, proxy.said
        await asyncio.sleep(0.01)
    assert ticket not in proxy.said
    assert "alpt_" not in proxy.said


def as_written(proxy: Proxy, path: str) -> bytes:
    """The answer to a path that no client has tidied up."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", int(proxy.url.rpartition(":")[2]), context=ssl._create_unverified_context()
    )
    connection.request("GET", path)
    try:
        return connection.getresponse().read()
    finally:
        connection.close()


async def test_metrics_are_not_for_outside_and_http_leads_to_https(
    proxy: Proxy, tenant: Tenant
) -> None:
    async with client_of(proxy, tenant.key()) as client:
        for path in (
            "/metrics", "/%6detrics", "/%6D%65trics", "//metrics", "/metrics?x=y", "/metrics#x",
            "/%6detrics#", "/metrics#?x", "http://other/metrics", "https://other/%6detrics",
            "/metr%69cs?", "/./metrics", "/x/../metrics", "/%2e/metrics",
        ):  # fmt: skip
            assert b"audit_gateway_" not in await asyncio.to_thread(as_written, proxy, path), path
        assert (await client.request("GET", "/metrics"))[0] == 404
        assert (await client.request("GET", "/healthz"))[0] == 200
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.plain_url.rpartition(":")[2]))
    connection.request("GET", "/v1/events?limit=1", headers={"Host": "audit.example"})
    answer = connection.getresponse()
    assert answer.status == 308
    assert answer.headers["Location"] == "https://audit.example/v1/events?limit=1"
    connection.close()


async def test_the_commands_trust_the_system_and_ssl_cert_file_and_nobody_else(
    proxy: Proxy, tenant: Tenant, tmp_path: Path
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_text(json.dumps(tenant.event(1)))
    key = {"AUDIT_GATEWAY_KEY": tenant.key()}
    trusting = {**key, "SSL_CERT_FILE": str(proxy.certificate)}
    for command in (("import", str(file)), ("tail", "--from", "start", "--limit", "1", "--json")):
        refused = await asyncio.to_thread(
            run_program, *command, "--url", proxy.url, settings={**key, "SSL_CERT_FILE": ""}
        )
        assert (refused.returncode, refused.stdout) == (5, "")
        [said] = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
        assert said.startswith(f"error: no secure connection to {proxy.url}: ")
        assert said.endswith("if it is yours, name its CA in SSL_CERT_FILE")
        done = await asyncio.to_thread(run_program, *command, "--url", proxy.url, settings=trusting)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["data"] == {"n": 1}
