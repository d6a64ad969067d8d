"""Answers of the HTTP Event Collector (HEC): its codes, its texts, and errors as these."""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.errors import (
    Forbidden,
    GatewayError,
    InvalidRequest,
    RequestTimeout,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from gateway.http.response.answer import Answer
from gateway.http.response.answers import HecResult
from gateway.http.response.problem import REQUEST_ID, Rendered

SUCCESS, TOKEN_DISABLED, TOKEN_MISSING, NOT_A_TOKEN, WRONG_TOKEN = 0, 1, 2, 3, 4
NO_DATA, INVALID, INTERNAL, BUSY, NO_CHANNEL, BAD_CHANNEL = 5, 6, 8, 9, 10, 11
IN_QUERY, HEALTHY, QUEUES_FULL, STOPPING = 16, 17, 18, 23
_TEXTS = {
    SUCCESS: "Success",
    TOKEN_DISABLED: "Token disabled",
    TOKEN_MISSING: "Token is required",
    NOT_A_TOKEN: "Invalid authorization",
    WRONG_TOKEN: "Invalid token",
    NO_DATA: "No data",
    INVALID: "Invalid data format",
    INTERNAL: "Internal server error",
    BUSY: "Server is busy",
    NO_CHANNEL: "Data channel is missing",
    BAD_CHANNEL: "Invalid data channel",
    12: "Event field is required",
    13: "Event field cannot be blank",
    15: "Error in handling indexed fields",
    IN_QUERY: "Query string authorization is not enabled",
    HEALTHY: "HEC is healthy",
    QUEUES_FULL: "HEC is unhealthy, queues are full",
    STOPPING: "Server is shutting down",
}
# Statuses other than 400.
_STATUSES = {
    SUCCESS: 200, TOKEN_DISABLED: 403, TOKEN_MISSING: 401, NOT_A_TOKEN: 401, WRONG_TOKEN: 403,
    INTERNAL: 500, BUSY: 503, HEALTHY: 200, QUEUES_FULL: 503, STOPPING: 503,
}  # fmt: skip
# By code of an error.
_CODES = {
    "missing_key": TOKEN_MISSING, "key_revoked": TOKEN_DISABLED, "key_expired": TOKEN_DISABLED,
    "key_suspended": TOKEN_DISABLED, "no_data": NO_DATA, "no_channel": NO_CHANNEL,
    "invalid_channel": BAD_CHANNEL, "key_in_url": IN_QUERY, "stopping": STOPPING,
    "not_ready": QUEUES_FULL,
}  # fmt: skip
# Statuses of refusals that stay as they are.
_KEPT = (413, 415, 431)


def hec_answer(
    code: int, *, number: int | None = None, ack_id: int | None = None, detail: str = ""
) -> Answer:
    """The answer with a code, and the status that belongs to it."""
    said = HecResult(_TEXTS[code], code, number, ack_id, detail)
    return Answer(msgspec.json.encode(said), "application/json", status=_STATUSES.get(code, 400))


def render(request: web.Request, error: GatewayError) -> Rendered:
    """An error as a sender understands it. It repeats what was not stored at 503 alone."""
    code = _code(request, error)
    status = error.status if error.status in _KEPT else _STATUSES.get(code, 400)
    said = HecResult(_TEXTS[code], code, detail=error.detail, request_id=request[REQUEST_ID])
    # What was too slow may arrive in time when it is sent again; at 408 it would be dropped.
    again = {"Retry-After": "1"} if isinstance(error, RequestTimeout) else {}
    return Rendered(status, "application/json", msgspec.json.encode(said), again)


def _code(request: web.Request, error: GatewayError) -> int:
    if error.code == "missing_key" and "Authorization" in request.headers:
        return NOT_A_TOKEN
    if error.code in _CODES:
        return _CODES[error.code]
    if isinstance(error, Unauthorized):
        return WRONG_TOKEN
    if isinstance(error, Forbidden):
        return TOKEN_DISABLED
    if isinstance(error, Unavailable | TooManyRequests | RequestTimeout):
        return BUSY
    return INVALID if isinstance(error, InvalidRequest) or error.status < 500 else INTERNAL
