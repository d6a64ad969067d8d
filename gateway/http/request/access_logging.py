"""Access log entries for every request with a key, and for every refusal of one.

The middleware makes an `Access` for each request; authentication sets its key, handlers its result.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from gateway.access.keys.lifecycle import check_reason
from gateway.access.policy.decision import View
from gateway.access.policy.satisfiability import (
    EVERYTHING,
    selected_values,
    unsatisfiable_parameter,
)
from gateway.access.usage.access import DENIED, FAILED, OPENED, Access
from gateway.access.usage.meter import Meter
from gateway.clock import Clock
from gateway.errors import Forbidden, GatewayError, TooFast, Unauthorized
from gateway.http.connection.address import client_address
from gateway.http.response.problem import REQUEST_ID, Handler, refuse_key_in_url
from gateway.http.response.request_metrics import route_of
from gateway.oversight.access_log.access_entry import MOST_PARAMETERS
from gateway.oversight.access_log.access_log import AccessLog
from gateway.oversight.access_log.out_of_scope import categories_out_of_scope, foreign_values
from gateway.sanitize import clean

if TYPE_CHECKING:
    from gateway.http.query.query import Query
    from gateway.http.query.values import Pairs

CURRENT_ACCESS: web.RequestKey[Access] = web.RequestKey("access", Access)
# Why a change is made, percent-encoded, as headers hold ASCII alone.
REASON_HEADER = "Audit-Reason"
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Parameters of the begin: the events read through tell it better.
_POSITION = frozenset({"after", "since", "until", "before", "last_event_id", "lastEventId", "wait"})
_MOST_PARAMETER = 2048
# Bytes of a value in JSON beside itself: name, quotes and commas.
_MEMBER = 16
_MOST_CLIENT = 256
_MOST_CATEGORY = 64
# The detector remembers no more.
_MOST_PROBED = 16
_TOO_MANY = 429
_ADMINISTERED = re.compile(r"/v1/(key|role|declaration)s/([0-9A-Za-z._-]{1,64})(?:/|\Z)")
_CLAIMED = re.compile(r"alpk_([0-9A-Za-z]{12})_")
_ENCODE = msgspec.json.Encoder(order="deterministic").encode


def access_logging(access_log: AccessLog, usage: Meter, clock: Clock) -> Middleware:
    """Middleware that logs the result of each request with a key, or without a required one."""

    @web.middleware
    async def recorded(request: web.Request, handler: Handler) -> web.StreamResponse:
        access = Access(
            at=clock.now(),
            address=client_address(request) or "",
            # Invalid text would be invalid in the access log, too.
            client=clean(request.headers.get("User-Agent", ""), _MOST_CLIENT),
            request_id=request[REQUEST_ID],
            route=route_of(request),
        )
        request[CURRENT_ACCESS] = access
        access.about = _about(request)
        try:
            refuse_key_in_url(request)
            access.parameters = _reason(request)
            response = await handler(request)
        except GatewayError as error:
            if error.code == "key_in_url":
                found = _CLAIMED.search(str(request.rel_url))
                access.claimed = found[1] if found is not None else ""
            if note_refusal(access, error):
                access_log.log(access)
            if access.key is not None:
                usage.count(access.key.id, requests=1, denials=int(access.action == DENIED))
            raise
        except (asyncio.CancelledError, Exception) as error:
            if access.key is not None:
                gone = isinstance(error, asyncio.CancelledError | ConnectionError | TimeoutError)
                access.refused(FAILED, "failure", "client_gone" if gone else "internal")
                access_log.log(access)
            raise
        if access.key is not None:
            usage.count(access.key.id, requests=1)
        # An opened stream was logged before its first byte.
        if access.key is not None and access.action != OPENED:
            access_log.log(access)
        return response

    return recorded


def _reason(request: web.Request) -> str:
    """Reason of a change as parameters of its access; "" without one."""
    given = request.headers.get(REASON_HEADER) if request.method in _CHANGING else None
    if not given:
        return ""
    return _ENCODE({"reason": [check_reason(unquote(given), REASON_HEADER)]}).decode()


def log_query(access: Access, pairs: Pairs, query: Query, view: View) -> dict[str, Any] | None:
    """Log the query, and what of it the key may not see.

    Returns the members of a notice if none of it can ever be seen.
    """
    values: dict[str, list[str]] = {}
    room = MOST_PARAMETERS // 2
    left_out = 0
    for name, value in pairs:
        if name in _POSITION:
            continue
        text = clean(value, _MOST_PARAMETER)
        if len(text) + _MEMBER > room:
            left_out += 1
            continue
        room -= len(text) + _MEMBER
        values.setdefault(name, []).append(text)
    if values:
        asked: dict[str, Any] = {**values, "left_out": left_out} if left_out else {**values}
        access.parameters = _ENCODE(asked).decode()
    wanted, tenants = query.wanted.category, query.wanted.tenant
    if query.filter is not None:
        wanted += tuple(query.filter.equalities.get("category", ()))
        tenants += tuple(query.filter.equalities.get("tenant", ()))
    log_out_of_scope(access, view, wanted, tenants, query.wanted.resource)
    parameter = unsatisfiable_parameter(view, query.wanted, query.filter)
    if parameter is None:
        return None
    # A query that contradicts itself is a mistake, not probing.
    if unsatisfiable_parameter(EVERYTHING, query.wanted, query.filter) is None:
        selected = selected_values(parameter, query.wanted, query.filter)
        access.out_of_scope = tuple([clean(one) for one in selected])
        # One signal is enough: selecting nothing else is not probing as well.
        access.probed = ()
    return {
        "code": "nothing_selected_can_match",
        "parameter": parameter,
        "detail": f"no event that this key may see can match {parameter}; look at its spelling, "
        "or at what the key is granted",
    }


def log_out_of_scope(
    access: Access,
    view: View,
    categories: Iterable[str] = (),
    tenants: Iterable[str] = (),
    resources: Iterable[str] = (),
) -> None:
    """Log for detection which of these the key may not see or write at all."""
    wanted = tuple(categories)
    # Too many different categories, from all events of a request, are not cached.
    few = len(wanted) <= _MOST_PROBED
    access.forbidden = (_kept_foreign if few else _foreign_categories)(view, wanted)
    probed = tuple(islice(tenants, _MOST_PROBED)), tuple(islice(resources, _MOST_PROBED))
    access.probed = _probes(view, *probed)


def _foreign_categories(view: View, categories: tuple[str, ...]) -> tuple[str, ...]:
    # Longer categories do not exist; invalid text could not be stored.
    found = categories_out_of_scope(view, categories)
    return tuple([clean(one, _MOST_CATEGORY) for one in found])


# Cached: few keys repeat the same requests.
_kept_foreign = lru_cache(64)(_foreign_categories)


@lru_cache(64)
def _probes(view: View, tenants: tuple[str, ...], resources: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([clean(one) for one in foreign_values(view, tenants, resources)])


def note_refusal(access: Access, error: GatewayError) -> bool:
    """Set the result of an access; return whether it is worth an entry."""
    limited = error.status == _TOO_MANY
    denied = isinstance(error, Unauthorized | Forbidden) or limited
    # A request that is too fast asks for nothing forbidden, so no signal follows.
    forbidden = denied and not (limited and (access.key is not None or isinstance(error, TooFast)))
    access.refused(DENIED if denied else FAILED, "denied" if forbidden else "failure", error.code)
    return denied or access.key is not None or error.code == "key_in_url"


def _about(request: web.Request) -> str:
    """Key, role, declared set or finding that a request is about."""
    found = _ADMINISTERED.match(request.path)
    if found is None and request.path.startswith("/v1/findings/"):
        return clean(f"finding:{request.match_info.get('id', '')}")
    return f"{found[1]}:{found[2]}" if found is not None else ""
