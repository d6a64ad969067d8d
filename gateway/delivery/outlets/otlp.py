"""Destinations of the type `otlp`: log records of OpenTelemetry over HTTP.

The protocol knows no ids: what is sent again is stored twice. What a receiver refuses of a batch it
counts, without saying which records they are, and they must not be sent again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import msgspec

from gateway.clock import parse_formatted
from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.http_outlet import (
    HttpOutlet,
    authorization,
    check_header_name,
    check_headers,
    check_user,
)
from gateway.delivery.outlets.http_status import (
    not_as_prescribed,
    read_answer,
    result_of_status,
    verdict_of,
)
from gateway.delivery.outlets.otlp_encoding import (
    Encoding,
    LogRecord,
    RecordKind,
    json_encoding,
    protobuf_encoding,
)
from gateway.delivery.outlets.outlet import (
    Confirmation,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutboundMembers,
    OutletLimits,
)
from gateway.delivery.outlets.outlet_plan import (
    EventFormat,
    OutletKind,
    OutletPlan,
    invalid_setting,
)
from gateway.sanitize import clean

_PATH = "/v1/logs"
_SEVERITIES = {1: 9, 2: 10, 3: 13, 4: 17, 5: 18, 6: 21}
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-fA-F]{32}", re.ASCII)
# Records have times as nanoseconds in 64 bits, and 0 where there is none.
_LAST_TIME = ((1 << 64) - 1) // 1000
_LONGEST_REASON = 200
PARTIAL = "partial_success"


class OtlpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where log records are exported to, and how: `encoding` of the request, `body` of a record as
    text, or as a list of the members of an event, in which numbers lose their spelling. With `user`
    the secret `password` is sent along as Basic credentials; the secret `token` is sent as Bearer,
    or alone in the header `token_header`."""

    url: str
    encoding: Literal["protobuf", "json"] = "protobuf"
    body: Literal["text", "kvlist"] = "text"
    service_name: str = "audit-gateway"
    headers: dict[str, str] = {}
    user: str = ""
    token_header: str = ""


class _Request(msgspec.Struct, frozen=True):
    trace_id: str = ""


class _Members(OutboundMembers):
    request: _Request = _Request()


_decode = msgspec.json.Decoder(_Members).decode
_members = msgspec.json.Decoder(dict[str, Any]).decode


def check(settings: OtlpSettings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that do not go together."""
    if "?" in settings.url:
        raise invalid_setting("url", "leave out the ? and what follows")
    if not 0 < len(settings.service_name) <= 256:
        raise invalid_setting("service_name", "1 to 256 characters")
    check_headers(settings.headers)
    if settings.token_header:
        check_header_name("token_header", settings.token_header)
    check_user(settings.user)
    if settings.body == "kvlist" and not format.json:
        raise invalid_setting("body", f"{format.name} is no JSON; take text")
    if settings.encoding == "protobuf":
        try:
            protobuf_encoding()
        except ImportError:
            raise invalid_setting(
                "encoding",
                'protobuf needs a package: install audit-gateway[otlp], or take "encoding":"json"',
            ) from None


def judge(answer: RemoteAnswer, count: int, encoding: Encoding) -> DeliveryVerdict:
    """Verdict of an answer to a request with so many records."""
    if not 200 <= answer.status < 300:
        return verdict_of(answer, result_of_status(answer.status))
    partial = read_answer(answer, encoding.partial) if answer.status == 200 else None
    if partial is None:
        return not_as_prescribed(answer)
    message = clean(partial.message, _LONGEST_REASON)
    if not 0 <= partial.rejected <= count:
        # It has an answer, and this content is what it does not take. Sent again as it is, the
        # batch would be answered so for ever.
        return DeliveryVerdict(
            DeliveryResult.PERMANENT, kind=PARTIAL, status=answer.status, message=message
        )
    return DeliveryVerdict(
        DeliveryResult.SUCCESS,
        unidentified=partial.rejected,
        kind=PARTIAL if partial.rejected else "",
        status=answer.status,
        message=message,
    )


class OtlpOutlet(HttpOutlet):
    """Outlet of the type `otlp`."""

    confirmation: Confirmation = "received"
    limits = OutletLimits(1000, 4 << 20, 1 << 20)

    def __init__(self, plan: OutletPlan) -> None:
        super().__init__(plan)
        settings: OtlpSettings = plan.settings
        self._settings = settings
        self._url = settings.url.rstrip("/") + _PATH
        protobuf = settings.encoding == "protobuf"
        self._encoding = protobuf_encoding() if protobuf else json_encoding()

    def encode(self, outbound: OutboundEvent) -> bytes:
        known = _decode(outbound.json)
        text = self.plan.formatted(outbound)
        trace_id = known.request.trace_id
        return self._encoding.record(
            LogRecord(
                _nanoseconds(parse_formatted(known.time.encode())),
                _nanoseconds(outbound.recorded_at()),
                _SEVERITIES[known.severity],
                RecordKind(known.tenant, known.category, known.action, known.outcome),
                known.delivery_id,
                outbound.cursor,
                text if self._settings.body == "text" else _members(text),
                trace_id.lower() if trace_id and _TRACE_ID.fullmatch(trace_id) else "",
            )
        )

    def body_of(self, batch: Sequence[EncodedEvent]) -> bytes:
        parts = [encoded.body for encoded in batch]
        return self._encoding.request(self._settings.service_name, parts)

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        settings, encoding = self._settings, self._encoding
        password, token = self.secret("password"), self.secret("token")
        headers = {**settings.headers, "Content-Type": encoding.content_type}
        if settings.token_header and token:
            headers[settings.token_header] = token
        else:
            headers |= authorization(settings.user, password, token)
        judge_answer: Callable[[RemoteAnswer], DeliveryVerdict]
        judge_answer = partial(judge, count=len(batch), encoding=encoding)
        return await self.attempt(
            self._url, self.staged_body(batch), headers, judge_answer, (password, token)
        )

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        verdict = await super().test(encoded)
        if not verdict.unidentified:
            return verdict
        # Of one event it is known which.
        return verdict._replace(result=DeliveryResult.PERMANENT, unidentified=0)


def _nanoseconds(microseconds: int) -> int:
    return microseconds * 1000 if 0 < microseconds <= _LAST_TIME else 0


OTLP = OutletKind(OtlpSettings, OtlpOutlet, check, secrets=("token", "password"))
