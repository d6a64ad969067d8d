"""The type `elasticsearch` with a real OpenSearch, which Maven brings (Java 17; 45 MB):

cd tests/shippers/opensearch
mvn dependency:copy-dependencies -DoutputDirectory=lib
javac -cp 'lib/*' Receiver.java
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from receivers import opensearch_command
from scene import MissingProgram

from gateway.clock import SystemClock
from gateway.delivery.connect.http_client import ClientOptions, HttpClient
from gateway.delivery.connect.lookup import Lookups
from gateway.delivery.connect.transport import HttpRequest, NoAnswer, RemoteAnswer
from gateway.delivery.outlets.elasticsearch import ELASTICSEARCH
from gateway.delivery.outlets.outlet import DeliveryResult, EncodedEvent, Outlet
from gateway.delivery.outlets.outlet_plan import NativeFormat
from gateway.formats.ecs import ecs_encoder
from gateway.formats.format import FormatOptions
from tests.support.machine_time import patience
from tests.support.outbound_events import outbound_event
from tests.support.outlets import OWN, new_outlet
from tests.support.services.ports import free_port

TEMPLATE = Path(__file__).parents[2] / "deploy" / "shippers" / "elasticsearch-template.json"
EVENTS = 2_000
_START_SECONDS = 60.0
SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult


class Server:
    """A node that is killed and started again."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = opensearch_command(folder, port, free_port())
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    try:
        made = Server(tmp_path_factory.mktemp("opensearch"))
    except MissingProgram as missing:
        pytest.skip(str(missing))
    try:
        yield made
    finally:
        made.close()


class Connected:
    """Client of a node, and an outlet to it."""

    def __init__(self, server: Server) -> None:
        self._server, self._lookups = server, Lookups()
        self._client = HttpClient(ClientOptions(OWN), self._lookups, SystemClock())
        self._outlets: list[Outlet] = []

    def outlet(self, **settings: Any) -> Outlet:
        options = ClientOptions(OWN, request_timeout=10.0)
        made = new_outlet(
            ELASTICSEARCH,
            {"url": self._server.url, **settings},
            format=NativeFormat("ecs", True, ecs_encoder(FormatOptions())),
            transport=HttpClient(options, self._lookups, SystemClock()),
        )
        self._outlets.append(made)
        return made

    async def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> RemoteAnswer:
        content = b"" if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        request = HttpRequest(self._server.url + path, content, headers, (), False, method)
        return await self._client.request(request)

    async def ready(self) -> None:
        """Return once the node answers, with all of its indices."""
        async with asyncio.timeout(patience(_START_SECONDS)):
            while True:
                with suppress(NoAnswer):
                    answer = await self.ask("GET", "/_cluster/health?wait_for_status=yellow")
                    if answer.status == 200 and not orjson.loads(answer.body)["timed_out"]:
                        return
                await asyncio.sleep(0.2)

    async def count(self, index: str) -> int:
        await self.ask("POST", f"/{index}/_refresh")
        found: int = orjson.loads((await self.ask("GET", f"/{index}/_count")).body)["count"]
        return found

    async def close(self) -> None:
        for one in self._outlets:
            await one.close()
        await self._client.close()
        self._lookups.close()


def batch(outlet: Outlet, first: int, last: int, **members: Any) -> list[EncodedEvent]:
    events = [outbound_event(number, **members) for number in range(first, last + 1)]
    return [EncodedEvent(event.json, outlet.encode(event)) for event in events]


async def test_each_event_is_stored_once_by_a_node_that_is_killed(server: Server) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    connected = Connected(server)
    try:
        await connected.ready()
        template = orjson.loads(TEMPLATE.read_bytes())
        made = await connected.ask("PUT", "/_index_template/audit", template)
        assert made.status == 200, made.body
        outlet = connected.outlet()
        at, kills, forgotten, duplicates = 0, {500, 1400}, {300, 1100}, 0
        while at < EVENTS:
            end = min(EVENTS, at + 100)
            sending = asyncio.create_task(outlet.send(batch(outlet, at + 1, end, data={"n": at})))
            if at in kills:
                kills.discard(at)
                await asyncio.sleep(chance.random() * 0.05)
                server.kill()
                await connected.ready()
            verdict = await sending
            duplicates += verdict.duplicates
            assert verdict.result in (SUCCESS, TRANSIENT), verdict
            assert not verdict.refused
            if verdict.result is SUCCESS:
                # Twice the gateway forgets that it was told.
                if at in forgotten:
                    forgotten.discard(at)
                else:
                    at = end
        assert await connected.count("audit-2026.01") == EVENTS
        assert duplicates >= 200
        found = await connected.ask("GET", "/audit-2026.01/_search?q=event.dataset:auth&size=1")
        hits = orjson.loads(found.body)["hits"]
        assert hits["total"]["value"] == EVENTS
        assert hits["hits"][0]["_source"]["audit"]["data"]
    finally:
        await connected.close()


async def test_answers_of_a_node_are_read_as_they_are_meant(server: Server) -> None:
    connected = Connected(server)
    try:
        await connected.ready()
        mapping = {"mappings": {"properties": {"audit": {"properties": {"data": {
            "properties": {"n": {"type": "long"}}}}}}}}  # fmt: skip
        assert (await connected.ask("PUT", "/typed-2026.01", mapping)).status == 200
        outlet = connected.outlet(index="typed-{yyyy}.{MM}")
        good, bad = batch(outlet, 1, 2, data={"n": 1}), batch(outlet, 3, 3, data={"n": {"a": 1}})
        verdict = await outlet.send([good[0], *bad, good[1]])
        assert (verdict.result, verdict.delivered(3)) == (SUCCESS, {0, 2})
        assert [(one.index, one.status) for one in verdict.refused] == [(1, 400)]
        assert "mapper_parsing_exception" in verdict.refused[0].reason
        again = await outlet.send(good)
        assert (again.result, again.duplicates) == (SUCCESS, 2)
        block = {"index.blocks.write": True}
        assert (await connected.ask("PUT", "/typed-2026.01/_settings", block)).status == 200
        blocked = await outlet.send(good)
        assert (blocked.result, blocked.status, blocked.again) == (CONFIG, 403, {0, 1})
        closed = await connected.ask("POST", "/typed-2026.01/_close")
        assert closed.status == 200
        assert (await outlet.send(good)).result is CONFIG
    finally:
        await connected.close()


async def test_content_that_conflicts_is_stored_with_the_template(server: Server) -> None:
    connected = Connected(server)
    try:
        await connected.ready()
        template = orjson.loads(TEMPLATE.read_bytes())
        await connected.ask("PUT", "/_index_template/audit", template)
        outlet = connected.outlet(index="audit-conflicts-{yyyy}.{MM}")
        contents: list[Any] = [
            {"n": 1}, {"n": {"a": 1}}, {"n": "text"}, {"n": "x" * 60_000},
            {f"member{number}": number for number in range(1_500)},
        ]  # fmt: skip
        for number, data in enumerate(contents, 1):
            verdict = await outlet.send(batch(outlet, number, number, data=data))
            assert (verdict.result, verdict.refused) == (SUCCESS, ()), verdict
        assert await connected.count("audit-conflicts-2026.01") == len(contents)
    finally:
        await connected.close()
