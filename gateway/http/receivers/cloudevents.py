"""CloudEvents of `POST /v1/events`: structured, in batches, and in binary mode."""

from __future__ import annotations

from aiohttp import web

from gateway.errors import InvalidRequest
from gateway.formats.cloudevents import BATCH_TYPE, EVENT_TYPE
from gateway.http.request.admission import Admission
from gateway.http.request.body import media_type, read_sent
from gateway.http.request.context import Context
from gateway.http.request.decoding import usual_owner
from gateway.ingest.marked import Lenient
from gateway.ingest.sources.binary_cloudevents import structured

_SOURCE = "cloudevents"
_OF_BINARY_MODE = ("ce-specversion", "ce-id")
_BEGINS = {EVENT_TYPE: (b"{", "an object"), BATCH_TYPE: (b"[", "a list")}


def has_cloudevents(request: web.Request) -> bool:
    """Whether a request has CloudEvents in one of their modes."""
    return request.content_type.startswith("application/cloudevents") or any(
        name in request.headers for name in _OF_BINARY_MODE
    )


async def read_cloudevents(request: web.Request, context: Context, admission: Admission) -> Lenient:
    """Drafts and refusals of the CloudEvents of a request."""
    limits = context.settings.ingest
    batched = request.content_type.startswith("application/cloudevents")
    kind = media_type(request, (EVENT_TYPE, BATCH_TYPE)) if batched else ""
    body = await read_sent(request, context, admission)
    if batched:
        begin, what = _BEGINS[kind]
        if body.lstrip()[:1] != begin:
            raise InvalidRequest(f"a body of {kind} is {what}", code="malformed_json")
    else:
        body = structured(request.headers.items(), request.headers.get("Content-Type"), body)
    source = context.sources.named(_SOURCE)
    assert source is not None
    owner, most = usual_owner(admission.view), limits.max_request_events
    return await context.decoder.map_records(body, admission.key.id, source, owner, most=most)
