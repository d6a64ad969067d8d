"""Destinations of the type `s3`: objects with the events of a time, in a bucket.

An object is named by its first and last event, and never overwritten. Before it is written its name
and digest are written down beside it; so after a crash at any point the bucket says what it has,
and each event is in it once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Sequence
from itertools import groupby, takewhile
from typing import NamedTuple

import msgspec

from gateway.cursor import parse_cursor
from gateway.delivery.connect.aws_signature import AwsCredentials, signed_headers
from gateway.delivery.connect.transport import HttpRequest, NoAnswer, RemoteAnswer
from gateway.delivery.files.packing import packed_lines
from gateway.delivery.outlets.http_outlet import HttpOutlet
from gateway.delivery.outlets.http_status import (
    not_as_prescribed,
    read_answer,
    result_of_status,
    verdict_of,
    verdict_of_failure,
)
from gateway.delivery.outlets.outlet import (
    SUCCESS,
    Confirmation,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutletLimits,
)
from gateway.delivery.outlets.outlet_plan import (
    EventFormat,
    OutletKind,
    OutletPlan,
    invalid_setting,
)
from gateway.event import hour_recorded

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_PREFIX = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?:/(?=.)|$)){0,8}", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,64})\s*</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,400})</Message>")
_TRANSIENT = {
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "InternalError",
    "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown",
    "XAmzContentSHA256Mismatch",
}  # fmt: skip
_DIGEST = "x-amz-meta-content-sha256"
_MOST_NAMES, _MOST_MANIFESTS = 9, 1000
# Objects of an hour in one manifest, and so in the state, of which an answer has to hold all.
_MOST_OBJECTS = 1000
_NOTHING = hashlib.sha256().hexdigest()
_STATE = "application/json"


class S3Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where objects are put. `url` is the endpoint; the bucket stands in its path, or with
    `path_style` false in front of its name. `access_key` is the id of the secret `secret_key`."""

    url: str
    bucket: str
    access_key: str
    prefix: str = ""
    region: str = "us-east-1"
    path_style: bool = True


class StoredObject(msgspec.Struct, frozen=True):
    """Object with events. `sha256` is of the object, `content_sha256` of what it unpacks to."""

    key: str
    sha256: str
    content_sha256: str
    bytes: int
    events: int
    first: str
    last: str


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bucket says of itself: the objects of the current hour, the newest event, and the
    object that may have been written since."""

    hour: str = ""
    objects: tuple[StoredObject, ...] = ()
    last: str = ""
    planned: StoredObject | None = None


class _Part(NamedTuple):
    """Events of one hour of a batch, packed."""

    hour: str
    body: bytes
    object: StoredObject


class _Failed(Exception):
    """Some request was no success."""

    def __init__(self, verdict: DeliveryVerdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


_decode_state = msgspec.json.Decoder(_State).decode
_encode = msgspec.json.Encoder().encode


def check(settings: S3Settings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that cannot name an object."""
    if not _BUCKET.fullmatch(settings.bucket):
        raise invalid_setting("bucket", "3 to 63 small letters, digits, dots and hyphens")
    if not _PREFIX.fullmatch(settings.prefix):
        raise invalid_setting(
            "prefix", "parts of letters, digits, `.`, `_`, `-` with / between, such as audit/prod"
        )
    if not _REGION.fullmatch(settings.region):
        raise invalid_setting("region", "the name of a region, such as eu-central-1")
    if not re.fullmatch(r"[!-.0-~]{3,128}", settings.access_key, re.ASCII):
        raise invalid_setting("access_key", "the id of an access key")
    if not re.fullmatch(r"https?://[^/?#]+/?", settings.url):
        raise invalid_setting("url", "the endpoint alone, such as https://s3.example.org")


def judge(answer: RemoteAnswer) -> DeliveryVerdict:
    """Verdict of an answer to an object that was put."""
    if 200 <= answer.status < 300:
        if answer.status != 200 or "etag" not in answer.headers or answer.body.strip():
            return not_as_prescribed(answer)
        return DeliveryVerdict(DeliveryResult.SUCCESS, status=200)
    code = _code_of(answer)
    if code in _TRANSIENT:
        result = DeliveryResult.TRANSIENT
    elif code == "EntityTooLarge":
        result = DeliveryResult.PERMANENT
    else:
        # Nothing about other events would be otherwise.
        result = result_of_status(answer.status, of_content=(413,))
    said = _MESSAGE.search(answer.body)
    words = f"{code}: {said[1].decode(errors='replace')}" if code and said else code
    return verdict_of(answer, result, words[:200] or None)


def _code_of(answer: RemoteAnswer) -> str:
    found = _CODE.search(answer.body)
    return found[1].decode() if found else ""


def hour_of(time: str) -> str:
    """Folder of the hour of a time."""
    return f"dt={time[:10]}/hour={time[11:13]}"


def _digests(body: bytes) -> tuple[bytes, bytes]:
    return hashlib.sha256(body).digest(), hashlib.md5(body, usedforsecurity=False).digest()


class S3Outlet(HttpOutlet):
    """Outlet of the type `s3`."""

    confirmation: Confirmation = "stored"
    limits = OutletLimits(200_000, 64 << 20, 1 << 20, max_wait=300.0, planned=True)

    def __init__(self, plan: OutletPlan) -> None:
        super().__init__(plan)
        self.verbatim = plan.verbatim
        settings: S3Settings = plan.settings
        self._settings = settings
        scheme, _, host = settings.url.rstrip("/").partition("://")
        host = host.removesuffix(":443" if scheme == "https" else ":80")
        inside = f"{settings.bucket}." if not settings.path_style else ""
        path = f"/{settings.bucket}" if settings.path_style else ""
        prefix = f"{settings.prefix}/" if settings.prefix else ""
        self._base = f"{scheme}://{inside}{host}{path}/{prefix}"
        self._state: _State | None = _State() if plan.replay else None

    def encode(self, outbound: OutboundEvent) -> bytes:
        # Without a line break: native events are no second copy of themselves then.
        return self.plan.formatted(outbound)

    async def open(self) -> DeliveryVerdict:
        try:
            state = await self._recovered()
        except _Failed as failed:
            return failed.verdict
        return SUCCESS._replace(cursor=state.last or None)

    def stage(self, batch: Sequence[EncodedEvent]) -> None:
        """Of objects there is room for one in memory, packed as it is."""

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        taken = known = 0
        try:
            state = await self._recovered()
            taken = known = _known(batch, state.last)
            for hour, events in await asyncio.to_thread(_parts_of, batch[known:], state.planned):
                part = await self._part(hour, events)
                known += await self._put_part(part) * len(events)
                taken += len(events)
        except _Failed as failed:
            left = frozenset(range(taken, len(batch))) if taken else frozenset()
            return failed.verdict._replace(again=left, duplicates=known)
        return SUCCESS._replace(duplicates=known)

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        try:
            body = encoded.body + b"\n"
            await self._put(f"_test/{self.plan.name}.ndjson", body, "application/x-ndjson")
        except _Failed as failed:
            return failed.verdict
        return SUCCESS

    # State

    async def _recovered(self) -> _State:
        """What the bucket has, asked for where that is not known."""
        state = self._state
        if state is None:
            answer = await self._request("GET", self._state_key)
            if answer.status == 404 and _code_of(answer) == "NoSuchKey":
                state = _State()
            elif answer.status != 200:
                raise _Failed(judge(answer))
            else:
                state = read_answer(answer, _decode_state)
                if state is None:
                    raise _Failed(not_as_prescribed(answer))
        if state.planned is not None and not self.plan.replay:
            state = await self._settled(state, state.planned)
        self._state = state
        return state

    async def _settled(self, state: _State, planned: StoredObject) -> _State:
        """State with the planned object, if it was written. If not, it may still be on its way, so
        that the plan stays."""
        if await self._has(planned.key, planned.content_sha256):
            return _with_object(state, planned)
        return state

    @property
    def _state_key(self) -> str:
        return f"_state/{self.plan.name}.json"

    async def _write_state(self, state: _State) -> None:
        if not self.plan.replay:
            await self._put(self._state_key, _encode(state), _STATE)
        self._state = state

    # Objects

    async def _part(self, hour: str, events: Sequence[EncodedEvent]) -> _Part:
        packed = await asyncio.to_thread(packed_lines, [one.body for one in events])
        first, last = events[0].cursor, events[-1].cursor
        made = StoredObject(
            f"{hour}/{first}-{last.rpartition('-')[2]}.ndjson.gz",
            packed.sha256, packed.content_sha256, packed.size, len(events), first, last,
        )  # fmt: skip
        return _Part(hour, packed.body, made)

    async def _put_part(self, part: _Part) -> bool:
        """Put an object, and write before that it will be there; whether it was there already."""
        state = self._state
        assert state is not None
        if state.hour != part.hour or len(state.objects) >= _MOST_OBJECTS:
            await self._close_hour(state)
            state = _State(hour=part.hour, last=state.last)
        await self._write_state(msgspec.structs.replace(state, planned=part.object))
        key, known = await self._put_once(part.object.key, part.body, part.object.content_sha256)
        stored = msgspec.structs.replace(part.object, key=key)
        self._state = _with_object(state, stored)
        return known

    async def _close_hour(self, state: _State) -> None:
        """Write which objects an hour has."""
        if not state.objects or self.plan.replay:
            return
        body = _encode({"hour": state.hour, "objects": state.objects})
        digest = hashlib.sha256(body).hexdigest()
        await self._put_once(f"_manifest/{state.hour}.json", body, digest, _STATE)

    async def _put_once(
        self, key: str, body: bytes, digest: str, kind: str = "application/gzip"
    ) -> tuple[str, bool]:
        """Put an object that is not there, or is there with that content; otherwise under a name
        of its own. Returns the name, and whether it was there already."""
        stem, dot, ending = key.rpartition("/")[2].partition(".")
        folder = key[: len(key) - len(stem + dot + ending)]
        most = _MOST_MANIFESTS if kind == _STATE else _MOST_NAMES
        for number in range(1, most + 1):
            name = key if number == 1 else f"{folder}{stem}-{number}{dot}{ending}"
            if await self._put(name, body, kind, digest):
                return name, False
            if await self._has(name, digest):
                return name, True
        raise _Failed(DeliveryVerdict(
            DeliveryResult.CONFIG, kind="http", status=412,
            message=f"{key} is there in {most} other versions",
        ))  # fmt: skip

    async def _put(self, key: str, body: bytes, kind: str, digest: str = "") -> bool:
        """Put an object; with a digest only if there is none of that name, else False."""
        sha256, md5 = await asyncio.to_thread(_digests, body)
        headers = {
            "Content-Type": kind,
            "Content-MD5": base64.b64encode(md5).decode(),
            "x-amz-checksum-sha256": base64.b64encode(sha256).decode(),
        }
        if digest:
            headers |= {"If-None-Match": "*", _DIGEST: digest}
        answer = await self._request("PUT", key, sha256.hex(), body, headers)
        if digest and answer.status == 412:
            return False
        verdict = judge(answer)
        if verdict.result is not DeliveryResult.SUCCESS:
            raise _Failed(verdict)
        return True

    async def _has(self, key: str, digest: str) -> bool:
        """Whether an object is there with that content."""
        answer = await self._request("HEAD", key)
        if answer.status not in (200, 404):
            raise _Failed(judge(answer))
        return answer.status == 200 and answer.headers.get(_DIGEST) == digest

    async def _request(
        self,
        method: str,
        key: str,
        sha256: str = _NOTHING,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> RemoteAnswer:
        secret, token = self.secret("secret_key"), self.secret("session_token")
        url = self._base + key
        signed = signed_headers(
            method,
            url,
            headers or {},
            sha256,
            AwsCredentials(self._settings.access_key, secret, token, self._settings.region),
            self.plan.clock.now(),
        )
        request = HttpRequest(url, body, signed, (secret, token), compress=False, method=method)
        try:
            return await self._transport.request(request)
        except NoAnswer as failure:
            raise _Failed(verdict_of_failure(failure)) from None


def _parts_of(
    events: Sequence[EncodedEvent], planned: StoredObject | None
) -> list[tuple[str, list[EncodedEvent]]]:
    """Events in order, by the hour in which they were recorded; and those of a plan by themselves,
    so that an object that was on its way all along is met under its name."""
    found = []
    for recorded, group in groupby(events, lambda one: hour_recorded(one.json)):
        hour, part = hour_of(recorded.decode()), list(group)
        if planned is not None and part[0].cursor == planned.first:
            end = next((at for at, one in enumerate(part, 1) if one.cursor == planned.last), 0)
            if 0 < end < len(part):
                found.append((hour, part[:end]))
                part = part[end:]
        found.append((hour, part))
    return found


def _known(batch: Sequence[EncodedEvent], last: str) -> int:
    """Number of the first events of a batch that are not behind a cursor, in its log."""
    if not last:
        return 0
    # Cursors of one log sort as it does.
    epoch = parse_cursor(last)[0]
    known = takewhile(
        lambda one: one.cursor <= last and parse_cursor(one.cursor)[0] == epoch, batch
    )
    return sum(1 for _ in known)


def _with_object(state: _State, stored: StoredObject) -> _State:
    return msgspec.structs.replace(
        state, objects=(*state.objects, stored), last=stored.last, planned=None
    )


S3 = OutletKind(S3Settings, S3Outlet, check, ("secret_key", "session_token"), ("secret_key",))
