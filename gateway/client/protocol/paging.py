"""Reading of events page by page: `GET /v1/events`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.client.protocol.events import ReceivedEvent
from gateway.client.protocol.exchange import (
    NDJSON,
    QUIET_SECONDS,
    Emit,
    GatewayCall,
    Steps,
    error_of,
    persist,
)
from gateway.errors import InvalidRequest
from gateway.formats.cursors import cursor_in

_PATH = "/v1/events"


class EventPage(msgspec.Struct, frozen=True):
    """Events in order. `cursor` is behind them, and behind what was searched without a match:
    go on there. `has_more`: there were more when it was made."""

    events: list[ReceivedEvent]
    cursor: str
    has_more: bool


def pages(
    url: str, parameters: dict[str, Any], notice: Callable[[str], None], *, follow: bool, wait: int
) -> Steps[EventPage, None]:
    """Emits page after page, up to the newest event; with `follow` it goes on, and asks the gateway
    to wait so many seconds for new ones."""
    parameters = dict(parameters)
    while True:
        page = yield from _page(url, parameters, notice)
        if page.events or not page.has_more:
            yield Emit(page)
        if not page.has_more and not follow:
            return
        for name in ("since", "from"):
            parameters.pop(name, None)
        parameters["after"] = page.cursor
        if follow:
            parameters["wait"] = wait


def _event(url: str, parameters: dict[str, Any], line: bytes) -> ReceivedEvent:
    cursor = cursor_in(parameters.get("format", "native"), line)
    if cursor is None:
        raise InvalidRequest(f"{url} sent what is no event")
    return ReceivedEvent(line, cursor)


def _page(
    url: str, parameters: dict[str, Any], notice: Callable[[str], None]
) -> Steps[EventPage, EventPage]:
    quiet = QUIET_SECONDS + parameters.get("wait", 0)
    call = GatewayCall("GET", _PATH, params=parameters, accept=NDJSON, quiet=quiet)
    answer = yield from persist(url, call, notice)
    cursor = answer.headers.get("audit-cursor")
    if answer.status != 200:
        raise error_of(url, answer)
    events = [_event(url, parameters, line) for line in answer.body.split(b"\n") if line]
    if cursor is None:
        raise InvalidRequest(f"{url} sent a page without its cursor; is it an audit gateway?")
    return EventPage(events, cursor, answer.headers.get("audit-has-more") == "true")
