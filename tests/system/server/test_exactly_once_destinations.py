"""Destinations whose receivers know repeats have each event once, whenever the gateway dies."""

from __future__ import annotations

import asyncio
import gzip
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from gateway_client import event, key_id
from gateways import Program, StartProgram

from tests.support.bucket import SECRET_KEY, Bucket
from tests.support.examples import examples
from tests.support.machine_time import eventually, patience
from tests.support.scripted_receiver import (
    CUT,
    Exchange,
    Received,
    Reply,
    ScriptedReceiver,
    Step,
    cut_before_answer,
    cut_in_request,
    scripted_receiver,
)

_KILLS = examples(10, least=2)
_EVENTS = 100
_RECEIVERS = {"destinations__allow_networks": "127.0.0.0/8"}


class Index:
    """Documents of an index by their ids, as Elasticsearch keeps them."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.repeats = 0

    def answer(self, received: Received) -> Reply:
        lines = received.body.splitlines()
        items = [self._create(*pair) for pair in zip(lines[::2], lines[1::2], strict=True)]
        failed = any("error" in one["create"] for one in items)
        return Reply(200, orjson.dumps({"errors": failed, "items": items}))

    def _create(self, action: bytes, document: bytes) -> dict[str, Any]:
        name = orjson.loads(action)["create"]["_id"]
        if name in self.documents:
            self.repeats += 1
            return {
                "create": {"status": 409, "error": {"type": "version_conflict_engine_exception"}}
            }
        self.documents[name] = orjson.loads(document)
        return {"create": {"status": 201}}


def ids_in(lines: Iterable[bytes]) -> Counter[str]:
    return Counter(orjson.loads(line)["id"] for line in lines)


def in_bucket(bucket: Bucket) -> Counter[str]:
    objects = [one.body for name, one in bucket.objects.items() if name.endswith(".ndjson.gz")]
    return ids_in(line for body in objects for line in gzip.decompress(body).splitlines())


def in_files(folder: Path) -> Counter[str]:
    """What is in the closed files, and in that which grows; they may change meanwhile."""
    found: Counter[str] = Counter()
    for path in folder.glob("files-*.ndjson*"):
        if path.suffix not in (".gz", ".ndjson"):
            continue
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            plain = gzip.decompress(content) if path.suffix == ".gz" else content
            found += ids_in(plain[: plain.rfind(b"\n") + 1].splitlines())
    return found


async def make(program: Program, name: str, kind: str, settings: Any, secrets: Any) -> None:
    reader = await program.mint({"actions": ["stream"], "categories": ["auth"]})
    body = {
        "name": name, "type": kind, "key": key_id(reader), "from": "start",
        "settings": settings, "secrets": secrets,
        "batch": {"max_events": 20, "max_wait": "10ms"}, "retry": {"min": "10ms", "max": "100ms"},
    }  # fmt: skip
    answer = await program.post("/v1/destinations", key=program.admin, json=body)
    assert answer.status == 201, answer.body


def losing(answer: Callable[[Received], Reply]) -> Step:
    """Take a request, and break the connection off before it is answered."""

    async def step(exchange: Exchange) -> None:
        answer(await exchange.whole())
        exchange.writer.transport.abort()
        raise CUT

    return step


async def working(program: Program, name: str) -> dict[str, Any]:
    """A destination, once its last attempt was a success."""
    shown: dict[str, Any] = {}
    try:
        async with asyncio.timeout(patience()):
            while True:
                answer = await program.get(f"/v1/destinations/{name}", key=program.admin)
                shown = answer.json()
                if shown["state"] == "active":
                    return shown
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(shown) from None


def url(receiver: ScriptedReceiver) -> str:
    return f"http://127.0.0.1:{receiver.port}"


@pytest.mark.slow
async def test_each_event_is_there_once_when_the_gateway_is_killed_at_any_moment(
    start_program: StartProgram, tmp_path: Path
) -> None:
    index, bucket = Index(), Bucket()
    folder = tmp_path / "delivered"
    folder.mkdir()
    options = {**_RECEIVERS, "destinations__folder": str(folder)}
    async with scripted_receiver(index.answer) as documents, scripted_receiver(bucket.answer) as s3:
        program = await start_program(**options)
        await make(program, "index", "elasticsearch", {"url": url(documents)}, {})
        store = {"url": url(s3), "bucket": "audit", "access_key": "AKID"}
        await make(program, "objects", "s3", store, {"secret_key": SECRET_KEY})
        await make(program, "files", "file", {"max_bytes": 1 << 16}, {})
        admin = program.admin
        sent: set[str] = set()
        for round_ in range(_KILLS):
            events = [event(id=f"{round_}-{n}", category="auth") for n in range(_EVENTS)]
            documents.script.extend([losing(index.answer), cut_in_request, Reply(503)])
            s3.script.extend([losing(bucket.answer), Reply(503), cut_before_answer])
            await program.send(*events)
            sent |= {one["id"] for one in events}
            some = len(sent) - _EVENTS // 2
            await eventually(
                lambda: min(len(in_bucket(bucket)), len(index.documents)) >= some,  # noqa: B023
                "some have arrived",
            )
            await program.stop(signal.SIGKILL)
            program = await start_program(admin, **options)
        for found in (
            lambda: {name.partition(":")[2] for name in index.documents},
            lambda: in_bucket(bucket).keys(),
            lambda: in_files(folder).keys(),
        ):
            await eventually(lambda: found() >= sent, "all have arrived")  # noqa: B023
        for name in ("index", "objects", "files"):
            shown = await working(program, name)
            assert (shown["confirmation"], shown["dead_letters"]) == ("stored", 0), shown
        code, errors = await program.stop()
        assert code == 0, errors
    assert in_bucket(bucket) == in_files(folder) == Counter(sent)
    assert {name.partition(":")[2] for name in index.documents} == sent
    assert len(index.documents) == len(sent)
    # They were told apart, and not merely sent once.
    assert index.repeats
