"""`/v1/tickets`: tickets with which browsers open streams, in place of a key."""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.ticket import MAX_LENGTH, new_ticket, sign
from gateway.clock import format_rfc3339
from gateway.errors import InvalidRequest
from gateway.http.query.query import pairs_of_body, parse_stream
from gateway.http.request.admission import Admission
from gateway.http.request.body import json_body
from gateway.http.request.consumer_access import refuse_consumer_with_ticket
from gateway.http.request.context import Context
from gateway.http.request.origin import check_origin
from gateway.http.response.answers import TicketAnswer
from gateway.http.response.problem import json_response


async def create(request: web.Request, context: Context, admission: Admission) -> web.Response:
    """`POST /v1/tickets`: the parameters of a stream as JSON."""
    check_origin(request)
    pairs = pairs_of_body(await json_body(request))
    now = context.clock.now()
    refuse_consumer_with_ticket(parse_stream(pairs, None, now))
    ticket = new_ticket(admission.key.id, tuple(pairs), request.headers.get("Origin"), now)
    secret = context.keyring.peppers.current.secret
    text = sign(ticket, secret)
    if len(text) > MAX_LENGTH:
        raise InvalidRequest("the parameters are too long for a ticket; shorten the filter")
    expires_at = format_rfc3339(int(ticket.expires_at * 1_000_000))
    return json_response(TicketAnswer(text, expires_at), status=201)
