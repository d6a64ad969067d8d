"""Destinations of the type `s3`: objects, each event in one of them, and the table of answers."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.delivery.connect.transport import HttpRequest, NoAnswer, RemoteAnswer
from gateway.delivery.outlets.outlet import DeliveryResult, EncodedEvent, Outlet
from gateway.delivery.outlets.s3 import S3, judge
from gateway.errors import InvalidRequest
from tests.support.bucket import SECRET_KEY, Bucket, error
from tests.support.cases import every
from tests.support.outbound_events import outbound_event
from tests.support.outlets import HttpCase, connected, new_outlet
from tests.support.scripted_receiver import Received, Reply, Step

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult
SETTINGS = {"bucket": "audit", "access_key": "AKID", "prefix": "prod"}
SECRETS = {"secret_key": [SECRET_KEY]}
FOLDER = "prod/dt=2026-01-31/hour=12/"
STATE = "prod/_state/siem.json"


@asynccontextmanager
async def to_bucket(bucket: Bucket, *steps: Step, **parts: Any) -> AsyncIterator[Outlet]:
    case = HttpCase(S3, SETTINGS, SECRETS, bucket.answer)
    async with connected(case, **parts) as (outlet, receiver):
        receiver.script.extend(steps)
        yield outlet


def batch(outlet: Outlet, first: int, last: int, **members: Any) -> list[EncodedEvent]:
    """Encoded events by number; those beyond 10 are recorded in the next hour."""
    made = []
    for number in range(first, last + 1):
        at = f"2026-01-31T{12 + (number > 10)}:00:00.000000Z"
        event = outbound_event(number, recorded_at=at, **members)
        made.append(EncodedEvent(event.json, outlet.encode(event)))
    return made


def stored(bucket: Bucket) -> list[int]:
    """Numbers of the events in the bucket, in order of the names of objects."""
    names = sorted(name for name in bucket.objects if name.endswith(".ndjson.gz"))
    content = b"".join(gzip.decompress(bucket.objects[name].body) for name in names)
    return [int(orjson.loads(line)["id"].removeprefix("e-")) for line in content.splitlines()]


def manifest(bucket: Bucket, hour: str = "12") -> dict[str, Any]:
    whole: dict[str, Any] = orjson.loads(
        bucket.objects[f"prod/_manifest/dt=2026-01-31/hour={hour}.json"].body
    )
    return whole


async def test_a_batch_is_an_object_named_by_its_first_and_last_event() -> None:
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        assert (await outlet.open()).cursor is None
        sent = batch(outlet, 1, 3)
        assert (await outlet.send(sent)).result is SUCCESS
    name = f"{FOLDER}{sent[0].outbound.cursor}-{3:020d}.ndjson.gz"
    assert bucket.puts == [STATE, name]
    content = gzip.decompress(bucket.objects[name].body)
    assert content == b"".join(one.outbound.json + b"\n" for one in sent)
    assert bucket.objects[name].digest == hashlib.sha256(content).hexdigest()


async def test_a_batch_over_the_hour_is_divided_and_the_closed_hour_is_listed() -> None:
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        await outlet.send(batch(outlet, 1, 4))
        assert (await outlet.send(batch(outlet, 5, 12))).result is SUCCESS
        await outlet.send(batch(outlet, 13, 13))
    assert stored(bucket) == list(range(1, 14))
    listed = manifest(bucket)
    assert listed["hour"] == "dt=2026-01-31/hour=12"
    assert [one["events"] for one in listed["objects"]] == [4, 6]
    for one in listed["objects"]:
        body = bucket.objects["prod/" + one["key"]].body
        assert hashlib.sha256(body).hexdigest() == one["sha256"]
    assert len([name for name in bucket.objects if "hour=13/" in name]) == 2


async def test_what_the_bucket_says_of_an_hour_of_many_objects_stays_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.delivery.outlets.s3._MOST_OBJECTS", 2)
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        for number in range(1, 6):
            await outlet.send(batch(outlet, number, number))
            assert len(orjson.loads(bucket.objects[STATE].body)["objects"]) <= 2
    async with to_bucket(bucket) as outlet:
        assert (await outlet.open()).cursor == outbound_event(5).cursor
        await outlet.send(batch(outlet, 11, 11))
    listed = [manifest(bucket, hour)["objects"] for hour in ("12", "12-2", "12-3")]
    assert [len(objects) for objects in listed] == [2, 2, 1]
    assert stored(bucket) == [1, 2, 3, 4, 5, 11]


async def test_the_bucket_says_where_to_go_on() -> None:
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        sent = batch(outlet, 1, 3)
        await outlet.send(sent)
    async with to_bucket(bucket) as outlet:
        assert (await outlet.open()).cursor == sent[-1].outbound.cursor
        again = await outlet.send(batch(outlet, 2, 5))
        assert (again.result, again.duplicates) == (SUCCESS, 2)
    assert stored(bucket) == [1, 2, 3, 4, 5]


async def test_what_is_repeated_whole_is_recognised_by_its_content() -> None:
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        await outlet.send(batch(outlet, 1, 3))
    del bucket.objects[STATE]
    async with to_bucket(bucket) as outlet:
        again = await outlet.send(batch(outlet, 1, 3))
        assert (again.result, again.duplicates) == (SUCCESS, 3)
    assert stored(bucket) == [1, 2, 3]


async def test_the_same_events_under_other_masks_get_an_object_of_their_own() -> None:
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        await outlet.send(batch(outlet, 1, 3))
    del bucket.objects[STATE]
    async with to_bucket(bucket) as outlet:
        again = await outlet.send(batch(outlet, 1, 3, reason="changed"))
        assert (again.result, again.duplicates) == (SUCCESS, 0)
        await outlet.send(batch(outlet, 11, 11))
    assert [one["key"][-12:] for one in manifest(bucket)["objects"]] == ["-2.ndjson.gz"]
    assert stored(bucket) == [1, 2, 3, 1, 2, 3, 11]


async def test_a_replay_writes_beside_and_does_not_move_what_the_bucket_says() -> None:
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        await outlet.send(batch(outlet, 1, 6))
    before = bucket.objects[STATE]
    async with to_bucket(bucket, replay=True) as outlet:
        assert (await outlet.open()).cursor is None
        assert (await outlet.send(batch(outlet, 1, 6))).duplicates == 6
        assert (await outlet.send(batch(outlet, 2, 3))).duplicates == 6 - 4
    assert bucket.objects[STATE] == before


class Crash(BaseException):
    """The process dies here."""


class _Dying:
    """Transport that dies at a request: before it is sent, or after it was answered."""

    def __init__(self, inner: Any, at: int, answered: bool) -> None:
        self.inner, self.at, self.answered, self.count = inner, at, answered, 0

    async def request(self, request: HttpRequest) -> RemoteAnswer:
        self.count += 1
        if self.count == self.at and not self.answered:
            raise Crash
        answer: RemoteAnswer = await self.inner.request(request)
        if self.count == self.at:
            raise Crash
        return answer

    async def close(self) -> None:
        await self.inner.close()


class _Direct:
    """Transport to a bucket without a network."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    async def request(self, request: HttpRequest) -> RemoteAnswer:
        target = request.url.removeprefix("http://s3.test")
        headers = {name.lower(): value for name, value in request.headers.items()}
        headers["host"] = "s3.test"
        reply = self.bucket.answer(Received(request.method, target, headers, request.body))
        lower = {name.lower(): value for name, value in reply.headers.items()}
        return RemoteAnswer(reply.status, lower, reply.body)

    async def close(self) -> None:
        return None


def outlet_over(transport: Any) -> Outlet:
    return new_outlet(S3, {**SETTINGS, "url": "http://s3.test"}, SECRETS, transport=transport)


async def deliver(outlet: Outlet, ends: Sequence[int], stored_cursor: int = 0) -> None:
    """Deliver events up to each of these numbers, from where the bucket says, or else from a
    cursor."""
    opened = await outlet.open()
    assert opened.result is SUCCESS
    numbered = {outbound_event(number).cursor: number for number in range(1, 20)}
    at = numbered[opened.cursor] if opened.cursor else stored_cursor
    for end in ends:
        if end > at:
            verdict = await outlet.send(batch(outlet, at + 1, end))
            assert verdict.result is SUCCESS
            at = end


@pytest.mark.parametrize("answered", [False, True])
async def test_each_event_is_in_one_object_wherever_the_process_dies(answered: bool) -> None:
    for at in itertools.count(1):
        bucket = Bucket()
        dying = _Dying(_Direct(bucket), at, answered)
        try:
            await deliver(outlet_over(dying), [2, 5, 12, 14])
        except Crash:
            pass
        # Afterwards batches are cut in another way.
        await deliver(outlet_over(_Direct(bucket)), [3, 7, 11, 14])
        assert stored(bucket) == list(range(1, 15)), at
        await deliver(outlet_over(_Direct(bucket)), [14])
        if dying.count < at:
            break
    assert at > 12


async def test_an_answer_that_is_lost_is_no_loss_and_no_repeat() -> None:
    bucket = Bucket()

    class Losing(_Direct):
        losing = 4

        async def request(self, request: HttpRequest) -> RemoteAnswer:
            answer = await super().request(request)
            self.losing -= 1
            if not self.losing:
                raise NoAnswer("timeout", "no whole answer in time")
            return answer

    for losing in range(1, 9):
        bucket = Bucket()
        transport = Losing(bucket)
        transport.losing = losing
        outlet = outlet_over(transport)
        first = await outlet.send(batch(outlet, 1, 12))
        if first.result is not SUCCESS:
            assert first.result is TRANSIENT
            # As after any failure, fewer events go first.
            done = len(first.delivered(12))
            again = await outlet.send(batch(outlet, done + 1, min(12, done + 3)))
            assert again.result is SUCCESS
            last = await outlet.send(batch(outlet, min(12, done + 3), 12))
            assert last.result is SUCCESS
        assert stored(bucket) == list(range(1, 13)), losing


async def test_an_object_that_arrives_late_is_met_under_its_name() -> None:
    class Late(_Direct):
        """The third request, which has the events, arrives when it was asked for twice in vain."""

        count = asked = 0
        held: HttpRequest | None = None

        async def request(self, request: HttpRequest) -> RemoteAnswer:
            self.count += 1
            if self.count == 3:
                self.held = request
                raise NoAnswer("timeout", "no whole answer in time")
            answer = await super().request(request)
            if self.held is not None and request.method == "HEAD":
                assert answer.status == 404
                self.asked += 1
                if self.asked == 2:
                    await super().request(self.held)
                    self.held = None
            return answer

    for ends in ([5], [9], [12]):
        bucket = Bucket()
        transport = Late(bucket)
        assert (
            await outlet_over(transport).send(batch(outlet_over(transport), 1, 5))
        ).kind == "timeout"
        assert stored(bucket) == []
        transport.count = 10
        await deliver(outlet_over(transport), ends)
        assert stored(bucket) == list(range(1, ends[-1] + 1)), ends


@every([
    (error(500, "InternalError"), TRANSIENT), (error(503, "SlowDown"), TRANSIENT),
    (error(503, "ServiceUnavailable"), TRANSIENT), (error(429, "TooManyRequests"), TRANSIENT),
    (error(400, "RequestTimeout"), TRANSIENT), (error(400, "BadDigest"), TRANSIENT),
    (error(400, "XAmzContentSHA256Mismatch"), TRANSIENT),
    (error(409, "ConditionalRequestConflict"), TRANSIENT),
    (error(409, "OperationAborted"), TRANSIENT),
    (error(400, "EntityTooLarge"), PERMANENT), (Reply(413), PERMANENT),
    (error(301, "PermanentRedirect"), CONFIG), (Reply(307), CONFIG),
    (error(403, "AccessDenied"), CONFIG), (error(403, "SignatureDoesNotMatch"), CONFIG),
    (error(403, "RequestTimeTooSkewed"), CONFIG), (error(404, "NoSuchBucket"), CONFIG),
    (error(400, "AuthorizationHeaderMalformed"), CONFIG), (error(400, "InvalidDigest"), CONFIG),
    (error(409, "BucketNotEmpty"), CONFIG), (Reply(400), CONFIG), (Reply(502), TRANSIENT),
    (Reply(200), TRANSIENT), (Reply(204, headers={"etag": "x"}), TRANSIENT),
    (Reply(200, b"<html>", {"etag": "x"}), TRANSIENT), (Reply(200, b"", {"etag": "x"}), SUCCESS),
])  # fmt: skip
def test_every_answer_has_its_result(case: tuple[Reply, DeliveryResult]) -> None:
    reply, result = case
    verdict = judge(RemoteAnswer(reply.status, reply.headers, reply.body))
    assert verdict.result == result
    if b"<Code>" in reply.body:
        assert verdict.message.endswith(": because")


@every([
    {"bucket": "A"}, {"bucket": "a/b"}, {"bucket": "a"}, {"prefix": "/a"}, {"prefix": "a/"},
    {"prefix": "a//b"}, {"prefix": "../x"}, {"prefix": "a b"}, {"region": "EU"}, {"region": ""},
    {"access_key": ""}, {"access_key": "a/b"}, {"url": "https://s3.example.org/bucket"},
])  # fmt: skip
def test_settings_that_name_no_object_are_refused_with_their_path(settings: Any) -> None:
    given = {**SETTINGS, "url": "https://s3.example.org", **settings}
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(S3, given, SECRETS, transport=_Direct(Bucket()))
    assert refused.value.members["path"].split(".")[1] in settings


async def test_a_bucket_may_stand_in_the_name_of_the_host() -> None:
    urls: list[str] = []

    class Noting(_Direct):
        async def request(self, request: HttpRequest) -> RemoteAnswer:
            urls.append(request.url)
            return RemoteAnswer(404, {}, error(404, "NoSuchKey").body)

    settings = {**SETTINGS, "url": "https://s3.example.org:443/", "path_style": False, "prefix": ""}
    outlet = new_outlet(S3, settings, SECRETS, transport=Noting(Bucket()))
    await outlet.open()
    assert urls == ["https://audit.s3.example.org/_state/siem.json"]


async def test_the_test_event_is_an_object_of_its_own() -> None:
    bucket = Bucket()
    async with to_bucket(bucket) as outlet:
        assert (await outlet.test(batch(outlet, 1, 1)[0])).result is SUCCESS
        assert list(bucket.objects) == ["prod/_test/siem.ndjson"]


async def test_a_wrong_secret_is_of_the_configuration_and_not_shown() -> None:
    bucket = Bucket()
    async with to_bucket(bucket, secrets={"secret_key": ["wrongwrongwrong"]}) as outlet:
        for verdict in (await outlet.open(), await outlet.send(batch(outlet, 1, 2))):
            assert (verdict.result, verdict.status) == (CONFIG, 403)
            assert "wrongwrong" not in repr(verdict)
    assert not bucket.objects
