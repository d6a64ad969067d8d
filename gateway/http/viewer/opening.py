"""`/v1/viewer/session`: a viewer's ticket is traded for the token that its page holds."""

from __future__ import annotations

from aiohttp import web

from gateway.access.credentials.viewer import as_token
from gateway.access.usage.access import VIEWER_OPENED
from gateway.clock import format_time
from gateway.http.credentials.guard import check_own_page
from gateway.http.credentials.viewer import viewer_of_ticket
from gateway.http.query.query import refuse_unknown
from gateway.http.query.viewer import ViewerTicketBody
from gateway.http.request.body import json_body
from gateway.http.request.context import CONTEXT
from gateway.http.request.stream_access import spend_ticket
from gateway.http.response.answer import Answer
from gateway.http.response.console_answers import ViewerSession
from gateway.http.response.problem import json_response
from gateway.json_members import parse_body


async def open_viewer(request: web.Request) -> Answer:
    """`POST /v1/viewer/session`: 201 with a token. No cookie is read or set.

    A ticket counts once, whoever has it: what its page of another origin sends is refused before.
    """
    context = request.app[CONTEXT]
    control = context.admission
    access = await control.arrive(request, "pull")
    refuse_unknown(request.query, ())
    check_own_page(request, needs_origin=False)
    body = parse_body(await json_body(request), ViewerTicketBody)
    ticket = viewer_of_ticket(body.ticket, context.keyring.peppers, context.clock.now())
    if ticket is None or ticket in context.used_tickets:
        await control.refuse_ticket(request)
    admission = await control.admit_viewer(ticket, request, "pull")
    async with spend_ticket(request, ticket):
        await admission.recheck()
        made, text = as_token(ticket, context.keyring.peppers.current.secret, context.clock.now())
    access.action = VIEWER_OPENED
    shown = ViewerSession(
        text, format_time(made.expires_at), made.origin, made.may, made.columns, made.theme,
        made.since,
    )  # fmt: skip
    return json_response(shown, status=201)
