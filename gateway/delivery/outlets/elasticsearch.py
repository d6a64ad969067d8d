"""Destinations of the type `elasticsearch`, and OpenSearch: documents by the bulk interface.

A document has the id of the event and lies in the index of the time at which it was recorded, and
is only ever created. So whatever is sent again meets what is there: repeats change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.http_outlet import HttpOutlet, authorization
from gateway.delivery.outlets.http_status import (
    not_as_prescribed,
    read_answer,
    result_of_status,
    verdict_of,
)
from gateway.delivery.outlets.outlet import (
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
from gateway.sanitize import clean

_PATH = "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
_PARTS = {"{yyyy}": "%Y", "{MM}": "%m", "{dd}": "%d"}
_INDEX = re.compile(r"[a-z0-9.][a-z0-9._-]{0,200}", re.ASCII)
_DAY = 86_400_000_000
# Errors of single documents that are none of their content.
_OF_THE_INDEX = {
    "invalid_index_name_exception", "index_closed_exception", "cluster_block_exception",
    "security_exception", "index_not_found_exception",
}  # fmt: skip
# Another one also stands for errors of content.
_ARGUMENT = "illegal_argument_exception"
# At its begin, as what is behind it may quote an event.
_MISCONFIGURED = re.compile(r"pipeline with id|no write index|data stream|only write ops with")
_NAME = re.compile(r"[a-z0-9_]{1,80}", re.ASCII)
_FIELD = re.compile(r"failed to parse field \[([\w.-]{1,80})\] of type \[(\w{1,40})\]", re.ASCII)
_SUCCESSES = (200, 201)
_LONGEST_REASON = 200


class ElasticsearchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where documents are created. `index` has the date of recording in it, `{yyyy}`, `{MM}` and
    `{dd}`; one without, such as a data stream, takes repeats twice once it has rolled over, which
    `allow_duplicates` allows. With `user` the secret `password` is sent as Basic credentials."""

    url: str
    index: str = "audit-{yyyy}.{MM}"
    user: str = ""
    allow_duplicates: bool = False


class _Error(msgspec.Struct):
    type: str = ""
    reason: str | None = None


class _Item(msgspec.Struct):
    status: int
    error: _Error | None = None


class _Bulk(msgspec.Struct):
    errors: bool
    items: list[dict[str, _Item]]


_decode = msgspec.json.Decoder(_Bulk).decode
_encode = msgspec.json.Encoder().encode


def check(settings: ElasticsearchSettings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that do not go together."""
    plain = settings.index
    for part in _PARTS:
        plain = plain.replace(part, "0000")
    if not _INDEX.fullmatch(plain):
        raise invalid_setting(
            "index", "small letters, digits, `.`, `_` and `-`, and {yyyy}, {MM}, {dd}"
        )
    if "{yyyy}" not in settings.index and not settings.allow_duplicates:
        raise invalid_setting(
            "index",
            "without {yyyy} repeats may be stored twice after a rollover; add it, or "
            '"allow_duplicates":true',
        )
    if "?" in settings.url:
        raise invalid_setting("url", "leave out the ? and what follows")
    if not format.json:
        raise invalid_setting("url", f"documents are JSON, which {format.name} is not")


def judge(answer: RemoteAnswer, count: int) -> DeliveryVerdict:
    """Verdict of an answer to a request with so many documents."""
    if not 200 <= answer.status < 300:
        return verdict_of(answer, result_of_status(answer.status))
    if answer.status != 200:
        return not_as_prescribed(answer)
    bulk = read_answer(answer, _decode)
    if bulk is None or any(len(item) != 1 for item in bulk.items):
        return not_as_prescribed(answer)
    items = [item for [item] in map(dict.values, bulk.items)]
    failed = any(item.status not in _SUCCESSES for item in items)
    if len(items) != count or (bulk.errors and not failed):
        return not_as_prescribed(answer)
    return _joined([_judge_item(item) for item in items], items)


def _judge_item(item: _Item) -> DeliveryResult:
    if item.status in _SUCCESSES:
        return DeliveryResult.SUCCESS
    error = item.error or _Error()
    if item.status == 409:
        known = error.type == "version_conflict_engine_exception"
        return DeliveryResult.SUCCESS if known else DeliveryResult.TRANSIENT
    result = result_of_status(item.status)
    if item.status == 400 and (
        error.type in _OF_THE_INDEX
        or (error.type == _ARGUMENT and _MISCONFIGURED.match(error.reason or ""))
    ):
        return DeliveryResult.CONFIG
    # A 2xx that is no success of this interface.
    return DeliveryResult.TRANSIENT if result is DeliveryResult.SUCCESS else result


def _joined(results: list[DeliveryResult], items: list[_Item]) -> DeliveryVerdict:
    """Verdict of the batch from those of its documents."""
    refused = tuple(
        RefusedEvent(index, _refusal(item.error or _Error()), item.status)
        for index, (result, item) in enumerate(zip(results, items, strict=True))
        if result is DeliveryResult.PERMANENT
    )
    waiting = (DeliveryResult.TRANSIENT, DeliveryResult.CONFIG)
    again = frozenset(index for index, result in enumerate(results) if result in waiting)
    # What is wrong with the configuration comes first, and then what will pass.
    order = (*reversed(waiting), DeliveryResult.SUCCESS, DeliveryResult.PERMANENT)
    joined = next(result for result in order if result in results)
    worst = items[results.index(joined)]
    failed = joined is not DeliveryResult.SUCCESS
    return DeliveryVerdict(
        joined,
        refused,
        again,
        duplicates=sum(
            item.status == 409 and result is DeliveryResult.SUCCESS
            for result, item in zip(results, items, strict=True)
        ),
        kind="http" if failed else "",
        status=worst.status,
        message=_reason(worst) if failed else "",
    )


def _refusal(error: _Error) -> str:
    """What a document is refused for, without its values, which reasons quote."""
    name = error.type if _NAME.fullmatch(error.type) else "error"
    field = _FIELD.match(error.reason or "")
    return f"{name}: field {field[1]} of type {field[2]}" if field else name


def _reason(item: _Item) -> str:
    error = item.error or _Error()
    return clean(f"{error.type}: {error.reason or item.status}", _LONGEST_REASON)


@lru_cache(64)
def _index_of_day(pattern: str, day: int) -> bytes:
    moment = datetime.fromtimestamp(day * _DAY / 1_000_000, UTC)
    for part, code in _PARTS.items():
        pattern = pattern.replace(part, moment.strftime(code))
    return pattern.encode()


class ElasticsearchOutlet(HttpOutlet):
    """Outlet of the type `elasticsearch`."""

    confirmation: Confirmation = "stored"
    limits = OutletLimits(1000, 5 << 20, 1 << 20)

    def __init__(self, plan: OutletPlan) -> None:
        super().__init__(plan)
        self._settings: ElasticsearchSettings = plan.settings
        self._url = self._settings.url.rstrip("/") + _PATH

    def encode(self, outbound: OutboundEvent) -> bytes:
        index = _index_of_day(self._settings.index, outbound.recorded_at() // _DAY)
        return b'{"create":{"_index":"%b","_id":%b}}\n%b\n' % (
            index, _encode(outbound.members.delivery_id), self.plan.formatted(outbound),
        )  # fmt: skip

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        password, token, api_key = map(self.secret, ("password", "token", "api_key"))
        headers = {"Content-Type": "application/x-ndjson"}
        headers |= authorization(self._settings.user, password, token)
        if api_key:
            headers["Authorization"] = f"ApiKey {api_key}"
        body = self.staged_body(batch)
        return await self.attempt(
            self._url,
            body,
            headers,
            lambda answer: judge(answer, len(batch)),
            (password, token, api_key),
        )


ELASTICSEARCH = OutletKind(
    ElasticsearchSettings,
    ElasticsearchOutlet,
    check,
    secrets=("password", "token", "api_key"),
    format=lambda settings: "ecs",
)
