"""The type `s3` with versitygw, which checks signatures, digests and `If-None-Match`."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from receivers import object_store_command
from scene import MissingProgram

from gateway.clock import SystemClock
from gateway.delivery.connect.aws_signature import AwsCredentials, signed_headers
from gateway.delivery.connect.http_client import ClientOptions, HttpClient
from gateway.delivery.connect.lookup import Lookups
from gateway.delivery.connect.transport import HttpRequest, NoAnswer
from gateway.delivery.outlets.outlet import DeliveryResult, EncodedEvent, Outlet
from gateway.delivery.outlets.s3 import S3
from tests.support.bucket import SECRET_KEY
from tests.support.machine_time import patience
from tests.support.outbound_events import outbound_event
from tests.support.outlets import OWN, new_outlet
from tests.support.services.ports import free_port

EVENTS = 2_000
_SETTINGS = {"bucket": "audit", "access_key": "AKID", "prefix": "prod"}


class Server:
    """Object store in a folder, which is killed and started again."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.objects = folder / "objects"
        self._command = object_store_command(folder, port)
        self._log = (folder / "log").open("wb")
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.start()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    try:
        made = Server(tmp_path)
    except MissingProgram as missing:
        pytest.skip(str(missing))
    try:
        yield made
    finally:
        made.close()


def new_client(lookups: Lookups, seconds: float = 30.0) -> HttpClient:
    return HttpClient(ClientOptions(OWN, request_timeout=seconds), lookups, SystemClock())


async def ready(server: Server, lookups: Lookups) -> None:
    """Return once the server knows its bucket."""
    client = new_client(lookups)
    credentials = AwsCredentials("AKID", SECRET_KEY)
    url = f"{server.url}/audit"
    try:
        async with asyncio.timeout(patience()):
            while True:
                signed = signed_headers(
                    "HEAD", url, {}, hashlib.sha256().hexdigest(), credentials, SystemClock().now()
                )
                with suppress(NoAnswer):
                    request = HttpRequest(url, b"", signed, method="HEAD")
                    if (await client.request(request)).status == 200:
                        return
                await asyncio.sleep(0.05)
    finally:
        await client.close()


def to_server(server: Server, lookups: Lookups, secret: str = SECRET_KEY) -> Outlet:
    settings = {**_SETTINGS, "url": server.url}
    secrets = {"secret_key": [secret]}
    return new_outlet(S3, settings, secrets, transport=new_client(lookups))


def batch(outlet: Outlet, first: int, last: int) -> list[EncodedEvent]:
    """Encoded events by number, 700 of them in an hour."""
    made = []
    for number in range(first, last + 1):
        at = f"2026-01-31T{10 + number // 700}:00:00.000000Z"
        event = outbound_event(number, recorded_at=at)
        made.append(EncodedEvent(event.json, outlet.encode(event)))
    return made


async def test_each_event_is_in_one_object_of_a_server_that_is_killed(server: Server) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    numbered = {outbound_event(number).cursor: number for number in range(1, EVENTS + 1)}
    lookups = Lookups()
    outlet = to_server(server, lookups)
    at = kills = 0
    try:
        await ready(server, lookups)
        while at < EVENTS:
            end = min(EVENTS, at + chance.randint(1, 120))
            sending = asyncio.create_task(outlet.send(batch(outlet, at + 1, end)))
            event = chance.random()
            if event < 0.3:
                await asyncio.sleep(chance.random() * 0.02)
                server.kill()
                kills += 1
                await ready(server, lookups)
            elif event < 0.5:
                # The gateway dies, and another asks the bucket where to go on.
                await asyncio.sleep(chance.random() * 0.02)
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                await outlet.close()
                outlet = to_server(server, lookups)
                opened = await outlet.open()
                assert opened.result is DeliveryResult.SUCCESS
                at = numbered[opened.cursor] if opened.cursor else 0
                continue
            verdict = await sending
            if verdict.result is DeliveryResult.SUCCESS:
                at = end
            else:
                assert verdict.result is DeliveryResult.TRANSIENT
                at += len(verdict.delivered(end - at))
        # An event of the next hour closes the one before.
        last = await outlet.send(batch(outlet, EVENTS + 800, EVENTS + 800))
        assert last.result is DeliveryResult.SUCCESS
    finally:
        await outlet.close()
        lookups.close()
    assert kills
    folder = server.objects / "audit" / "prod"
    found: list[str] = []
    for path in folder.glob("dt=*/hour=*/*.ndjson.gz"):
        found += [
            orjson.loads(line)["id"] for line in gzip.decompress(path.read_bytes()).splitlines()
        ]
    assert sorted(found) == sorted(
        f"e-{number}" for number in [*range(1, EVENTS + 1), EVENTS + 800]
    )
    listed = [
        one
        for path in folder.glob("_manifest/dt=*/hour=*.json")
        for one in orjson.loads(path.read_bytes())["objects"]
    ]
    assert sum(one["events"] for one in listed) == EVENTS
    for one in listed:
        assert hashlib.sha256((folder / one["key"]).read_bytes()).hexdigest() == one["sha256"]


async def test_a_wrong_secret_is_refused_by_the_server(server: Server) -> None:
    lookups = Lookups()
    outlet = to_server(server, lookups, secret="x" * 40)
    try:
        await ready(server, lookups)
        verdict = await outlet.send(batch(outlet, 1, 3))
        assert (verdict.result, verdict.status) == (DeliveryResult.CONFIG, 403)
        assert "SignatureDoesNotMatch" in verdict.message
    finally:
        await outlet.close()
        lookups.close()
