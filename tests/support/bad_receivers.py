"""What receivers over HTTP do wrong, and stores of each type that refuse what a test says."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from gateway.delivery.outlets.outlet import DeliveryResult
from tests.support.bucket import Bucket, error
from tests.support.scripted_receiver import (
    EMPTY,
    HTML,
    SLOW_DOWN,
    TO_METADATA,
    Received,
    Reply,
    Step,
    cut_before_answer,
    cut_in_answer,
    cut_in_request,
    endless,
    gibberish,
    gzip_bomb,
)

_, TRANSIENT, PERMANENT, CONFIG = DeliveryResult


class Bad(NamedTuple):
    """What a receiver does, and what that is. `lies`: it answers with a 2xx, which is a success
    only where the body does not matter. `breaks`: it breaks the connection off."""

    step: Step
    result: DeliveryResult
    lies: bool = False
    breaks: bool = False


_OTHER_ITEMS = b'{"errors":true,"items":[{"create":{"status":201}}]}'
BAD = {
    "a broken request": Bad(cut_in_request, TRANSIENT, breaks=True),
    "a batch without an answer": Bad(cut_before_answer, TRANSIENT, breaks=True),
    "half an answer": Bad(cut_in_answer(Reply(200, b"x" * 100)), TRANSIENT),
    "no HTTP": Bad(gibberish, TRANSIENT),
    "a page of a portal": Bad(HTML, TRANSIENT, lies=True),
    "an empty answer": Bad(EMPTY, TRANSIENT, lies=True),
    "an answer without end": Bad(endless(size=64 << 20), TRANSIENT, lies=True),
    "a gzip bomb": Bad(gzip_bomb(size=64 << 20), TRANSIENT, lies=True),
    "JSON of something else": Bad(Reply(200, b'{"ok":true}'), TRANSIENT, lies=True),
    "JSON that is none": Bad(Reply(200, b'{"errors":false,"items":['), TRANSIENT, lies=True),
    "JSON that is no UTF-8": Bad(Reply(200, b'{"code":0,"text":"\xff"}'), TRANSIENT, lies=True),
    "JSON without a bottom": Bad(Reply(200, b'{"items":' + b"[" * 9999), TRANSIENT, lies=True),
    "too few items": Bad(Reply(200, b'{"errors":false,"items":[]}'), TRANSIENT, lies=True),
    "errors, and no error": Bad(Reply(200, _OTHER_ITEMS), TRANSIENT, lies=True),
    "a redirect to credentials": Bad(TO_METADATA, CONFIG),
    "a redirect without a place": Bad(Reply(302), CONFIG),
    "401": Bad(Reply(401), CONFIG),
    "403": Bad(Reply(403), CONFIG),
    "404": Bad(Reply(404), CONFIG),
    "405": Bad(Reply(405), CONFIG),
    "407": Bad(Reply(407), CONFIG),
    "408": Bad(Reply(408), TRANSIENT),
    "413": Bad(Reply(413), PERMANENT),
    "425": Bad(Reply(425), TRANSIENT),
    "429": Bad(SLOW_DOWN, TRANSIENT),
    "500": Bad(Reply(500), TRANSIENT),
    "502": Bad(Reply(502), TRANSIENT),
    "503": Bad(Reply(503), TRANSIENT),
    "504": Bad(Reply(504), TRANSIENT),
    "an error that is endless": Bad(endless(503, 64 << 20), TRANSIENT),
}


class EventStore:
    """A receiver's store: how often it took each event, by its id, and whether it refuses one. Its
    `answer` is that of a type."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.refuses: Callable[[str], bool] = lambda name: False

    def answer(self, received: Received) -> Reply:
        raise NotImplementedError

    def _all_or_none(self, names: Iterable[str], taken: Reply, refused: Reply) -> Reply:
        found = list(names)
        if any(map(self.refuses, found)):
            return refused
        self.taken.update(found)
        return taken


class LineStore(EventStore):
    """Of the type `http`."""

    def answer(self, received: Received) -> Reply:
        names = (orjson.loads(line)["id"] for line in received.body.splitlines())
        return self._all_or_none(names, Reply(204), Reply(400, b"bad event"))


class IndexStore(EventStore):
    """Of the type `elasticsearch`: of each document it says what became of it."""

    def answer(self, received: Received) -> Reply:
        items = [self._create(orjson.loads(one)) for one in received.body.splitlines()[::2]]
        failed = any(item["create"]["status"] == 400 for item in items)
        return Reply(200, orjson.dumps({"errors": failed, "items": items}))

    def _create(self, action: dict[str, Any]) -> dict[str, Any]:
        name = action["create"]["_id"].partition(":")[2]
        if self.refuses(name):
            reason = {"type": "mapper_parsing_exception", "reason": "failed to parse"}
            return {"create": {"status": 400, "error": reason}}
        if name in self.taken:
            known = {"type": "version_conflict_engine_exception", "reason": "exists"}
            return {"create": {"status": 409, "error": known}}
        self.taken[name] += 1
        return {"create": {"status": 201}}


class CollectorStore(EventStore):
    """Of the type `splunk_hec`: it names the first event that it refuses, and takes none."""

    def answer(self, received: Received) -> Reply:
        lines = received.body.splitlines()
        names = [orjson.loads(line)["fields"]["event_id"] for line in lines]
        bad = next((at for at, name in enumerate(names) if self.refuses(name)), -1)
        refused = {"text": "Invalid data format", "code": 6, "invalid-event-number": bad}
        taken = Reply(200, b'{"text":"Success","code":0}')
        return self._all_or_none(names, taken, Reply(400, orjson.dumps(refused)))


class RecordStore(EventStore):
    """Of the type `otlp`, in JSON."""

    def answer(self, received: Received) -> Reply:
        records = orjson.loads(received.body)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
        names = (orjson.loads(one["body"]["stringValue"])["id"] for one in records)
        return self._all_or_none(names, Reply(200, b"{}"), Reply(400))


class StreamStore(EventStore):
    """Of the type `loki`: it takes the good lines of what it refuses, and drops what it has."""

    def answer(self, received: Received) -> Reply:
        streams = orjson.loads(received.body)["streams"]
        names = [orjson.loads(one[1])["id"] for stream in streams for one in stream["values"]]
        good = [name for name in names if not self.refuses(name)]
        self.taken.update(name for name in good if name not in self.taken)
        return Reply(204) if good == names else Reply(400, b"entry is bad")


class ObjectStore(EventStore):
    """Of the type `s3`: it finds objects too large that have an event which it refuses."""

    def __init__(self, secret_key: str) -> None:
        super().__init__()
        self._bucket = Bucket(secret_key)

    def answer(self, received: Received) -> Reply:
        path = received.target
        if received.method != "PUT" or "/_state/" in path or "/_manifest/" in path:
            return self._bucket.answer(received)
        body = received.body if "/_test/" in path else gzip.decompress(received.body)
        names = [orjson.loads(line)["id"] for line in body.splitlines()]
        if any(map(self.refuses, names)):
            return error(400, "EntityTooLarge")
        reply = self._bucket.answer(received)
        if reply.status == 200:
            self.taken.update(names)
        return reply


STORES: Mapping[str, Callable[[str], EventStore]] = {
    "http": lambda secret: LineStore(),
    "elasticsearch": lambda secret: IndexStore(),
    "splunk_hec": lambda secret: CollectorStore(),
    "otlp": lambda secret: RecordStore(),
    "loki": lambda secret: StreamStore(),
    "s3": ObjectStore,
}
