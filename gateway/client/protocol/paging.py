"""Reading of events page by page: `GET /v1/events`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.client.protocol.events import ReceivedEvent
from gateway.client.protocol.exchange import (
    NDJSON,
    QUIET_SECONDS,
    Emit,
    GatewayCall,
    Pause,
    Steps,
    error_of,
    persist,
    told,
)
from gateway.errors import InvalidRequest
from gateway.formats.cursors import cursor_in

_PATH = "/v1/events"
_NOTHING_SECONDS = 1.0


class EventPage(msgspec.Struct, frozen=True):
    """Events in order. `cursor` is behind them, and behind what was searched without a match:
    go on there, with the newest first by `before`. `has_more`: there were more when it was made."""

    events: list[ReceivedEvent]
    cursor: str
    has_more: bool


def pages(
    url: str, parameters: dict[str, Any], notice: Callable[[str], None], *, follow: bool, wait: int
) -> Steps[EventPage, None]:
    """Emits page after page, up to the newest event, or down to the oldest in the order `desc`;
    with `follow` it goes on, and asks the gateway to wait so many seconds for new ones."""
    if not isinstance(wait, int) or wait < 0:
        raise InvalidRequest(f"wait: seconds as a whole number are needed, not {wait!r:.64}")
    parameters = dict(parameters)
    downwards = parameters.get("order") == "desc"
    if follow and (downwards or not parameters.keys().isdisjoint(("until", "before"))):
        raise InvalidRequest("follow: pages with until, before or the order desc have an end")
    on = "before" if downwards else "after"
    while True:
        page = yield from _page(url, parameters, notice)
        if page.events or not page.has_more:
            yield Emit(page)
        elif page.cursor == parameters.get(on):
            # It says that there is more, and gives none of it.
            yield Pause(_NOTHING_SECONDS)
        if not page.has_more and not follow:
            return
        if not downwards:
            for name in ("since", "from"):
                parameters.pop(name, None)
        parameters[on] = page.cursor
        if follow:
            parameters["wait"] = wait


def _events_in(
    url: str, format: str, body: bytes, notice: Callable[[str], None]
) -> Iterator[ReceivedEvent]:
    """Events of a page, in front of which stands what the gateway says besides."""
    for line in filter(None, body.split(b"\n")):
        cursor = cursor_in(format, line)
        if cursor is not None:
            yield ReceivedEvent(line, cursor)
        elif (message := _control(line)) is not None:
            notice(told(message))
        else:
            raise InvalidRequest(f"{url} sent what is no event")


def _control(line: bytes) -> dict[str, Any] | None:
    """A `gap` or a `notice`; None if the line is neither."""
    try:
        message = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return message if message.get("type") in ("gap", "notice") else None


def _page(
    url: str, parameters: dict[str, Any], notice: Callable[[str], None]
) -> Steps[EventPage, EventPage]:
    quiet = QUIET_SECONDS + parameters.get("wait", 0)
    call = GatewayCall("GET", _PATH, params=parameters, accept=NDJSON, quiet=quiet)
    answer = yield from persist(url, call, notice)
    cursor = answer.headers.get("audit-cursor")
    if answer.status != 200:
        raise error_of(url, answer)
    format = parameters.get("format", "native")
    events = list(_events_in(url, format, answer.body, notice))
    if cursor is None:
        raise InvalidRequest(f"{url} sent a page without its cursor; is it an audit gateway?")
    return EventPage(events, cursor, answer.headers.get("audit-has-more") == "true")
