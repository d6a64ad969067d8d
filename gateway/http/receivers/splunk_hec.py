"""`/services/collector`: Splunk's HTTP Event Collector (HEC), with acknowledgement."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import msgspec
from aiohttp import web

from gateway.errors import InvalidRequest
from gateway.http.intake.sorted_items import store_sorted
from gateway.http.receivers.ack_ids import AckIds
from gateway.http.receivers.hec_answers import (
    HEALTHY,
    INVALID,
    QUEUES_FULL,
    SUCCESS,
    hec_answer,
)
from gateway.http.request.admission import Admission
from gateway.http.request.body import read_sent
from gateway.http.request.context import CONTEXT, Context
from gateway.http.request.decoding import Unit, bound_owner, check_nested, usual_owner
from gateway.http.response.answer import Answer
from gateway.http.response.answers import HecAcks
from gateway.http.response.problem import json_response
from gateway.ingest.marked import Lenient
from gateway.ingest.protocols.documents import Chosen, map_hec, work_apart
from gateway.ingest.protocols.splunk_hec import (
    HecEvent,
    events_of,
    events_of_lines,
    is_channel,
)
from gateway.ingest.sources.source import RecordSource

OWN = "splunk_hec"
ACK_IDS: web.AppKey[AckIds] = web.AppKey("ack_ids", AckIds)
# Query parameters, as Splunk has them; all but the channel and the source count for nothing.
OF_HEC = ("channel", "source", "sourcetype", "host", "index", "auto_extract_timestamp")
OF_ACKS = ("channel",)
_CHANNEL = "X-Splunk-Request-Channel"
_MOST_ACKS = 10_000
_ACKS_BYTES = 256 * 1024


class AckQuestion(msgspec.Struct):
    """Ids that are asked for."""

    acks: list[int]


_decode_acks = msgspec.json.Decoder(AckQuestion).decode


async def collect(request: web.Request, context: Context, admission: Admission) -> Answer:
    """`POST /services/collector/event`: objects behind each other."""
    return await _collect(request, context, admission, raw=False)


async def collect_raw(request: web.Request, context: Context, admission: Admission) -> Answer:
    """`POST /services/collector/raw`: lines."""
    return await _collect(request, context, admission, raw=True)


async def acknowledge(request: web.Request, context: Context, admission: Admission) -> Answer:
    """`POST /services/collector/ack`: which ids stand for durable events."""
    body = await read_sent(request, context, admission, most=_ACKS_BYTES)
    channel = _channel(request)
    if not channel:
        raise InvalidRequest(
            f"say by {_CHANNEL} or ?channel= with which channel the events were sent",
            code="no_channel",
        )
    try:
        asked = _decode_acks(body).acks
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f'{{"acks":[1,2]}} is needed: {error}') from None
    if len(asked) > _MOST_ACKS:
        raise InvalidRequest(f"ask for at most {_MOST_ACKS} ids at once")
    ids, key_id = request.app[ACK_IDS], admission.key.id
    await admission.recheck()
    return json_response(
        HecAcks({str(one): ids.acknowledges(one, key_id, channel) for one in asked})
    )


async def health(request: web.Request) -> Answer:
    """`GET /services/collector/health`."""
    context = request.app[CONTEXT]
    well = context.ready and context.degraded_reason is None and context.tasks.failure is None
    return hec_answer(HEALTHY if well else QUEUES_FULL)


async def _collect(
    request: web.Request, context: Context, admission: Admission, *, raw: bool
) -> Answer:
    channel = _channel(request)
    body = await read_sent(request, context, admission)
    if not body.strip():
        raise InvalidRequest("the body is empty; send events", code="no_data")
    codes: dict[int, int] = {}
    decoded = await _decode(request, context, admission, body, codes if not raw else None)
    _, found = await store_sorted(context, admission, decoded)
    if found.rejected:
        first = found.rejected[0]
        code = codes.get(first.index, INVALID)
        where = f"{first.path}: " if first.path else ""
        return hec_answer(code, number=first.index, detail=f"{where}{first.reason}")
    ack_id = request.app[ACK_IDS].new(admission.key.id, channel) if channel else None
    return hec_answer(SUCCESS, ack_id=ack_id)


async def _decode(
    request: web.Request,
    context: Context,
    admission: Admission,
    body: bytes,
    codes: dict[int, int] | None,
) -> Lenient:
    """What the events of a body become. `codes` are those of events that cannot be taken; without,
    the body has lines."""
    query, view, key_id = request.query, admission.view, admission.key.id
    most = context.settings.ingest.max_request_events
    named = _named(context, query.get("source", ""))
    if codes is None:
        named = named or _named(context, query.get("sourcetype", ""))
        if named is not None:
            return await context.decoder.map_records(
                body, key_id, named, usual_owner(view), most=most
            )
    check_nested(body)
    own = context.sources.named(OWN)
    assert own is not None
    chosen = Chosen(named, (own,), usual_owner(view), bound_owner(view), most)
    events = events_of_lines(body, query) if codes is None else events_of(body)
    units = _units(context, events, chosen, {} if codes is None else codes)
    return await context.decoder.map_units(units, key_id, most=most)


def _units(
    context: Context, events: Iterator[HecEvent], chosen: Chosen, codes: dict[int, int]
) -> Iterator[Unit]:
    """The events, each with its source; those that cannot be taken leave their code in `codes`."""
    for number, event in enumerate(events):
        if event.code:
            codes[number] = event.code
        of_one = chosen
        if chosen.named is None and event.sourcetype:
            of_one = chosen.by(_named(context, event.sourcetype))
        here = partial(map_hec, event, of_one)
        yield Unit(len(event.raw), here, work_apart(map_hec, event, of_one))


def _named(context: Context, name: str) -> RecordSource | None:
    """The source that a sender names, unless it is that of whatever comes this way."""
    found = context.sources.known_as(name) if name else None
    return None if found is None or found.name == OWN else found


def _channel(request: web.Request) -> str:
    """Channel of a request; "" without one. Raises `InvalidRequest`."""
    channel = request.headers.get(_CHANNEL) or request.query.get("channel", "")
    if channel and not is_channel(channel):
        raise InvalidRequest(
            "a channel is a GUID, such as fe0ecfad-13d5-401b-847d-77833bd77131",
            code="invalid_channel",
        )
    return channel
