"""Destinations of the type `splunk_hec`: events by the HTTP Event Collector of Splunk.

Where the token has indexer acknowledgement, an answer has an id, and the batch is delivered once
Splunk says of that id that its events are indexed; else once Splunk has taken it. Splunk forgets
that it has said so, and knows no ids of events: what is sent again is stored twice.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import Literal, NamedTuple

import msgspec

from gateway.clock import parse_duration, parse_formatted
from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.http_outlet import HttpOutlet, RequestBody
from gateway.delivery.outlets.http_status import (
    not_as_prescribed,
    read_answer,
    result_of_status,
    verdict_of,
)
from gateway.delivery.outlets.outlet import (
    SUCCESS,
    Confirmation,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutletLimits,
    RefusedEvent,
)
from gateway.delivery.outlets.outlet_plan import (
    EventFormat,
    OutletKind,
    OutletPlan,
    invalid_setting,
)
from gateway.errors import InvalidRequest

_EVENTS = "/services/collector/event"
_ACKS = "/services/collector/ack?channel="
_BYTES = 1 << 20
_UNCONFIRMED = 16
_LONGEST_ACK_TIMEOUT = 3600
# Codes of a 400 that are of one event: none, of a wrong kind, blank, and its indexed fields.
_OF_AN_EVENT = (6, 12, 13, 15)
# Codes of a 400 that are of the request: index, channel, authorization and acknowledgement.
_OF_THE_REQUEST = (7, 10, 11, 14, 16)
# Seconds before each question for acknowledgements; the last one again and again.
_PAUSES = (1.0, 2.0, 4.0, 10.0)


class SplunkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where events are collected, and the metadata that Splunk files them under; the token decides
    on those that are left out. `ack` says whether batches wait until they are indexed: where the
    token offers it, or always, so that a token without is an error. What is not acknowledged
    within `ack_timeout` is sent again."""

    url: str
    index: str = ""
    host: str = ""
    source: str = ""
    sourcetype: str = "audit:gateway"
    ack: Literal["auto", "required"] = "auto"
    ack_timeout: str = "300s"


class _Taken(msgspec.Struct):
    """Answer of the collector."""

    code: int
    text: str = ""
    ack_id: int | None = msgspec.field(default=None, name="ackId")
    number: int | None = msgspec.field(default=None, name="invalid-event-number")


class _Acks(msgspec.Struct):
    acks: dict[str, bool]


Judge = Callable[[RemoteAnswer], DeliveryVerdict]
_decode = msgspec.json.Decoder(_Taken).decode
_decode_acks = msgspec.json.Decoder(_Acks).decode
_encode = msgspec.json.Encoder().encode


def check(settings: SplunkSettings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that do not go together."""
    if "?" in settings.url:
        raise invalid_setting("url", "leave out the ? and what follows")
    try:
        seconds = parse_duration(settings.ack_timeout)
    except InvalidRequest as error:
        raise invalid_setting("ack_timeout", error.detail) from None
    if not 1 <= seconds <= _LONGEST_ACK_TIMEOUT:
        raise invalid_setting("ack_timeout", "1s to 1h")


def judge(answer: RemoteAnswer, count: int) -> DeliveryVerdict:
    """Verdict of the collector's answer to so many events. Its receipt is the id under which they
    will be acknowledged, if there is one.

    An event that it names is alone suspect. It may have stored those before, but not those behind,
    so all others are sent again.
    """
    taken = read_answer(answer, _decode)
    if 200 <= answer.status < 300:
        if answer.status != 200 or taken is None or taken.code != 0:
            return not_as_prescribed(answer)
        return DeliveryVerdict(DeliveryResult.SUCCESS, status=200, receipt=taken.ack_id)
    verdict = verdict_of(answer, result_of_status(answer.status))
    if answer.status != 400 or taken is None:
        return verdict
    if taken.code in _OF_THE_REQUEST:
        return verdict._replace(result=DeliveryResult.CONFIG)
    number = taken.number
    if taken.code not in _OF_AN_EVENT or number is None or not 0 <= number < count:
        return verdict
    return verdict._replace(
        refused=(RefusedEvent(number, f"code {taken.code}", answer.status),),
        again=frozenset(range(count)) - {number},
    )


def acknowledged(answer: RemoteAnswer) -> frozenset[int] | None:
    """Ids that are acknowledged by an answer; None if it does not tell."""
    if answer.status != 200:
        return None
    return read_answer(answer, _acknowledged_ids)


def _acknowledged_ids(body: bytes) -> frozenset[int]:
    acks = _decode_acks(body).acks
    return frozenset(int(ack_id) for ack_id, indexed in acks.items() if indexed)


def judge_acknowledgements(answer: RemoteAnswer) -> DeliveryVerdict:
    """Verdict of an answer to the question for acknowledgements: whether it tells of them."""
    if 200 <= answer.status < 300:
        return not_as_prescribed(answer) if acknowledged(answer) is None else SUCCESS
    verdict = judge(answer, 0)
    if verdict.result is DeliveryResult.PERMANENT:
        return verdict._replace(result=DeliveryResult.TRANSIENT)
    return verdict


class _Receipt(NamedTuple):
    """What acknowledges a batch, and when that was sent (`Clock.monotonic`)."""

    channel: str
    ack_id: int
    sent_at: float


class SplunkOutlet(HttpOutlet):
    """Outlet of the type `splunk_hec`."""

    limits = OutletLimits(500, _BYTES, _BYTES, unconfirmed=_UNCONFIRMED)

    def __init__(self, plan: OutletPlan) -> None:
        super().__init__(plan)
        self._settings: SplunkSettings = plan.settings
        self.confirmation: Confirmation = "received"
        self._url = self._settings.url.rstrip("/")
        self._timeout = float(parse_duration(self._settings.ack_timeout))
        self._metadata = _metadata(self._settings)
        # Ids that are not acknowledged yet, all of one channel, the newest that there was, and
        # when they were last asked for (`Clock.monotonic`).
        self._waiting: set[int] = set()
        self._newest = -1
        self._asked_at = -math.inf
        self._channel = ""
        self._begin_channel()

    def encode(self, outbound: OutboundEvent) -> bytes:
        event = self.plan.formatted(outbound)
        if not self.plan.format.json:
            event = _encode(event.decode())
        members = outbound.members
        fields = {"event_id": members.id, "tenant": members.tenant, "cursor": outbound.cursor}
        return b'{"time":%b,%b"event":%b,"fields":%b}\n' % (
            _milliseconds(members.time), self._metadata, event, _encode(fields),
        )  # fmt: skip

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        body, count = self.staged_body(batch), len(batch)
        verdict = await self._ask(_EVENTS, body, lambda answer: judge(answer, count))
        if verdict.result is not DeliveryResult.SUCCESS:
            return verdict
        return self._received(verdict)

    def _received(self, verdict: DeliveryVerdict) -> DeliveryVerdict:
        """Verdict of a batch that the collector has taken."""
        ack_id = verdict.receipt
        if not isinstance(ack_id, int):
            if self._settings.ack == "auto":
                return verdict
            return verdict._replace(
                result=DeliveryResult.CONFIG,
                kind="acknowledgement",
                message="the token has no indexer acknowledgement; switch it on in Splunk, or take "
                '"ack":"auto"',
            )
        if ack_id <= self._newest:
            # Of another indexer, or of one that has begun anew: of the same id, nobody knows which
            # batch is meant.
            return self._give_up(
                "the ids of acknowledgements began anew; was Splunk started again, or are there "
                "several behind a balancer that does not mind cookies?"
            )
        self.confirmation = "stored"
        self._newest = ack_id
        self._waiting.add(ack_id)
        receipt = _Receipt(self._channel, ack_id, self.plan.clock.monotonic())
        return verdict._replace(receipt=receipt)

    async def confirm(self, receipt: object) -> DeliveryVerdict:
        assert isinstance(receipt, _Receipt)
        clock = self.plan.clock
        ends = receipt.sent_at + self._timeout
        while receipt.channel == self._channel:
            if receipt.ack_id not in self._waiting:
                return SUCCESS
            now = clock.monotonic()
            if now >= ends:
                return self._give_up("not acknowledged in time")
            due = min(ends, receipt.sent_at + _next_question(self._asked_at - receipt.sent_at))
            if due > now:
                await clock.sleep(due - now)
                continue
            self._asked_at = now
            verdict = await self._ask_for_acknowledgements()
            if verdict.result is DeliveryResult.CONFIG:
                self._begin_channel()
                return verdict
        return _unacknowledged("batches before it were not acknowledged")

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        verdict = await self.send([encoded])
        if isinstance(verdict.receipt, _Receipt):
            self._waiting.discard(verdict.receipt.ack_id)
        return verdict._replace(receipt=None)

    async def _ask_for_acknowledgements(self) -> DeliveryVerdict:
        channel = self._channel

        def heed(answer: RemoteAnswer) -> DeliveryVerdict:
            # At once, as Splunk forgets what it has told. Meanwhile a batch that was sent may have
            # begun a channel, whose ids are others.
            if channel == self._channel:
                self._waiting -= acknowledged(answer) or frozenset()
            return judge_acknowledgements(answer)

        asked = _encode({"acks": sorted(self._waiting)})
        return await self._ask(_ACKS + channel, RequestBody(asked), heed, compress=False)

    async def _ask(
        self, path: str, body: RequestBody, judge: Judge, compress: bool = True
    ) -> DeliveryVerdict:
        token = self.secret("token")
        headers = {
            "Authorization": f"Splunk {token}",
            "Content-Type": "application/json",
            "X-Splunk-Request-Channel": self._channel,
        }
        return await self.attempt(self._url + path, body, headers, judge, (token,), compress)

    def _give_up(self, reason: str) -> DeliveryVerdict:
        """Verdict for what waits for acknowledgements, which is all to be sent again."""
        self._begin_channel()
        return _unacknowledged(reason)

    def _begin_channel(self) -> None:
        self._channel = str(uuid.uuid4())
        self._waiting.clear()
        self._newest = -1


def _unacknowledged(reason: str) -> DeliveryVerdict:
    return DeliveryVerdict(DeliveryResult.TRANSIENT, kind="acknowledgement", message=reason)


def _next_question(waited: float) -> float:
    """Seconds after sending when to ask next, where it was last asked so long after sending."""
    due = 0.0
    for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
        due += pause
        if due > waited:
            break
    return due


def _metadata(settings: SplunkSettings) -> bytes:
    """Members of each object that are the same for all events."""
    names = ("host", "source", "sourcetype", "index")
    members = {name: value for name in names if (value := getattr(settings, name))}
    return b"".join(b'"%b":%b,' % (name.encode(), _encode(text)) for name, text in members.items())


def _milliseconds(time: str) -> bytes:
    """Time of an event, in seconds since 1970 with three digits behind the point."""
    return b"%.3f" % (parse_formatted(time.encode()) // 1000 / 1000)


SPLUNK_HEC = OutletKind(
    SplunkSettings,
    SplunkOutlet,
    check,
    secrets=("token",),
    required=("token",),
    cookies=True,
)
