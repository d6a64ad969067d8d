"""Tickets of embedded viewers, which servers make with a key."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from msgspec import UNSET

from gateway.access.credentials.viewer import LIVE, MAX_LENGTH, Viewer, as_ticket
from gateway.clock import format_time, parse_duration
from gateway.errors import Forbidden, InvalidRequest
from gateway.http.connection.web_origin import parse_origin
from gateway.http.query.query import pairs_of_body
from gateway.http.query.viewer import ViewerOptionsBody, check_columns, check_selection
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.answers import TicketAnswer
from gateway.http.response.problem import json_response
from gateway.json_members import parse_body
from gateway.sanitize import clean

MOST_SUBJECT = 256


def subject_of(body: Any) -> tuple[str, Any]:
    """Whom a ticket is made for, and the rest of the body."""
    if not isinstance(body, dict) or "subject" not in body:
        return "", body
    rest = {name: value for name, value in body.items() if name != "subject"}
    subject = body["subject"]
    if not isinstance(subject, str) or not subject or clean(subject, MOST_SUBJECT) != subject:
        raise InvalidRequest(
            f"subject: a text of 1 to {MOST_SUBJECT} printable characters is needed",
            parameter="subject",
        )
    return subject, rest


async def viewer_ticket(
    context: Context, admission: Admission, body: dict[str, Any], subject: str
) -> web.Response:
    """`POST /v1/tickets` with the member `viewer`."""
    if admission.key.person is not None:
        raise Forbidden(
            "viewers outlast whoever has signed in: make the ticket with a key of your server",
            code="not_for_people",
        )
    now = context.clock.now()
    options = parse_body(body["viewer"], ViewerOptionsBody)
    pairs = pairs_of_body({name: value for name, value in body.items() if name != "viewer"})
    check_selection(pairs, now)
    may = () if options.may is UNSET else tuple(dict.fromkeys(options.may))
    for action in ("pull", "stream") if LIVE in may else ("pull",):
        if admission.view_of(action) is None:
            raise Forbidden(
                f"no grant of this key allows the action `{action}`, which the viewer needs",
                code="action_not_granted",
                action=action,
            )
    viewer = Viewer(
        "", admission.key.id, tuple(pairs), _origin_of(options, context), 0.0, subject,
        may,
        0 if options.since is UNSET else parse_duration(options.since),
        check_columns(options.columns), options.theme,
    )  # fmt: skip
    made, text = as_ticket(viewer, context.keyring.peppers.current.secret, now)
    if len(text) > MAX_LENGTH:
        raise InvalidRequest("the parameters are too long for a viewer; shorten the filter")
    await admission.recheck()
    return json_response(TicketAnswer(text, format_time(made.expires_at)), status=201)


def _origin_of(options: ViewerOptionsBody, context: Context) -> str:
    """Origin of the page around a viewer, which browsers let no other page be."""
    allowed = context.settings.server.allowed_origins
    if options.origin:
        if parse_origin(options.origin) in [parse_origin(one) for one in allowed]:
            return options.origin.lower()
        raise InvalidRequest(
            "viewer.origin: pages of this origin may not show the gateway; add it to "
            "server.allowed_origins",
            parameter="viewer.origin",
        )
    if len(allowed) != 1:
        raise InvalidRequest(
            "viewer.origin: say the origin of the page around the viewer, one of "
            "server.allowed_origins",
            parameter="viewer.origin",
        )
    return allowed[0].lower()
