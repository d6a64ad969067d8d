"""Problem documents (RFC 9457) for errors, and the id of each request."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import CIMultiDict

from gateway.access.credentials.token import is_key_id, looks_like_token
from gateway.access.limits.limits import Decision
from gateway.clock import Clock
from gateway.errors import (
    Forbidden,
    GatewayError,
    InUse,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from gateway.http.response.answer import ALWAYS, Answer
from gateway.http.response.request_metrics import RequestMetrics, route_of
from gateway.json_members import about
from gateway.logging_context import REQUEST
from gateway.tracing.spans import NO_SPAN, TracedSpan, begin

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
# Decision of the limit, for the headers of the answer.
LIMIT_DECISION: web.RequestKey[Decision] = web.RequestKey("limit_decision", Decision)
# Logs and counts an unexpected exception.
REPORT: web.AppKey[Callable[[str, BaseException], None]] = web.AppKey("report")
_LOGGER = logging.getLogger(__name__)
_URL_NAMES = frozenset({"key", "token", "access_token", "api_key", "apikey", "authorization"})
MALFORMED = "malformed_http"
# Ids of events may look like keys: the event is looked up first.
BY_ID_PATH = "/v1/events/"
_REALM = 'Bearer realm="audit-gateway"'
_BASIC = 'Basic realm="audit-gateway", charset="UTF-8"'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rendered(NamedTuple):
    """A refusal as the senders of a route understand it, with headers beside those of a problem."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = MappingProxyType({})


# What a route answers instead of problem documents.
Renderer = Callable[[web.Request, GatewayError], Rendered]
# By method and path of the route.
RENDERERS: web.AppKey[Mapping[str, Renderer]] = web.AppKey("renderers")


class ProblemAnswer(msgspec.Struct):
    """Members of every problem document."""

    type: str
    title: str
    status: int
    code: Annotated[str, about("Stable, for programs.")]
    detail: Annotated[str, about("What to do, for people.")]
    request_id: str


def json_response(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    encoded = msgspec.json.encode(body)
    return Answer(encoded, "application/json", status=status, headers=headers or {})


def problem(
    error: GatewayError, request_id: str, *, basic: bool = False, rendered: Rendered | None = None
) -> Answer:
    """Problem document of an error, or what it was `rendered` to, with the headers that its status
    requires.

    `basic`: who sends no good key is told that Basic credentials are taken, too.
    """
    headers = CIMultiDict[str]()
    if isinstance(error, Unauthorized):
        hint = "" if error.code == "missing_key" else ', error="invalid_token"'
        headers["WWW-Authenticate"] = _REALM + hint
        if basic:
            headers.add("WWW-Authenticate", _BASIC)
    elif isinstance(error, Forbidden):
        headers["WWW-Authenticate"] = _REALM + ', error="insufficient_scope"'
    elif isinstance(error, Unavailable | TooManyRequests | InUse):
        headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.members.get("allowed", ()))
    elif error.code == "bad_handshake":
        # Required by RFC 6455, section 4.4.
        headers["Sec-WebSocket-Version"] = "13"
    if rendered is None:
        document = msgspec.json.encode(problem_members(error, request_id))
        rendered = Rendered(error.status, "application/problem+json", document)
    headers.update(rendered.headers)
    response = Answer(rendered.body, rendered.content_type, status=rendered.status, headers=headers)
    if isinstance(error, PayloadTooLarge | RequestTimeout) or error.code == MALFORMED:
        # The rest of the body is not worth reading, or its end is unknown.
        response.force_close()
    return response


def _may_ask(request: web.Request) -> bool:
    """Whether a client may be asked for Basic credentials: not a browser, which alone sends
    `Sec-Fetch-Mode`. It would show a dialog over whatever page has asked, keep the key, and send it
    with the requests of all other pages."""
    return "Sec-Fetch-Mode" not in request.headers


def problem_members(error: GatewayError, request_id: str) -> dict[str, Any]:
    said = ProblemAnswer(
        "about:blank", error.title, error.status, error.code, error.detail, request_id
    )
    return {**msgspec.structs.asdict(said), **error.members}


def problems(
    metrics: RequestMetrics, clock: Clock, takes_basic: Callable[[web.Request], bool]
) -> Middleware:
    """Middleware for request ids, problem documents of exceptions, and counts of answers."""

    @web.middleware
    async def traced(request: web.Request, handler: Handler) -> web.StreamResponse:
        route = route_of(request)
        with begin(route or "HTTP", "server", request.headers.get("traceparent", "")) as span:
            return await answered(request, handler, span)

    async def answered(
        request: web.Request, handler: Handler, span: TracedSpan
    ) -> web.StreamResponse:
        began = clock.monotonic()
        request_id = f"{random.getrandbits(64):016x}"
        request[REQUEST_ID] = request_id
        REQUEST.set(request_id)
        refused_with = ""
        try:
            _refuse_odd_framing(request)
            response = await handler(request)
        except GatewayError as error:
            refused_with = error.code
            basic = isinstance(error, Unauthorized) and _may_ask(request) and takes_basic(request)
            try:
                response = _refusal(request, error, request_id, basic)
            except ConnectionError:
                # Senders that would give up what is answered are not answered.
                seconds = clock.monotonic() - began
                metrics.observe(route_of(request), error.status, refused_with, seconds)
                raise
        except web.HTTPException as error:
            response = _refusal(request, from_aiohttp(error, request), request_id)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            response = _failed(request, request_id, error)
        if not isinstance(response, Answer):
            response.headers.update(ALWAYS)
        decision = request.get(LIMIT_DECISION)
        if decision is not None:
            response.headers.update(decision.headers())
        seconds = clock.monotonic() - began
        metrics.observe(route_of(request), response.status, refused_with, seconds)
        REQUEST.set("")
        _describe(span, request, response.status, refused_with)
        return response

    return traced


def _describe(span: TracedSpan, request: web.Request, status: int, refused_with: str) -> None:
    """Set the attributes of a request, by the names of OpenTelemetry: nothing of its URL but the
    route, whose parts may be ids."""
    if span is NO_SPAN:
        return
    method, _, path = route_of(request).partition(" ")
    if path:
        span.set("http.request.method", method)
        span.set("http.route", path)
    span.set("http.response.status_code", status)
    span.set("audit.request_id", request[REQUEST_ID])
    if status >= 500:
        span.fail(refused_with or str(status))
    elif refused_with:
        span.set("error.type", refused_with)


def _refusal(
    request: web.Request, error: GatewayError, request_id: str, basic: bool = False
) -> Answer:
    """Answer to a request that is refused, in the form that its route has."""
    render = request.app[RENDERERS].get(route_of(request))
    rendered = None if render is None else render(request, error)
    return problem(error, request_id, basic=basic, rendered=rendered)


def _failed(request: web.Request, request_id: str, error: Exception) -> Answer:
    """Answer to an internal error, which is logged."""
    # Without the query, which may hold secrets.
    _LOGGER.error("request %s failed: %s %s", request_id, request.method, request.path)
    request.app[REPORT]("request", error)
    return _refusal(request, internal_error(request_id), request_id)


def internal_error(request_id: str) -> GatewayError:
    """Error for a request that failed by a bug."""
    return GatewayError(f"an error of ours; please report it with the request id {request_id}")


def _refuse_odd_framing(request: web.Request) -> None:
    """Refuse framing that a proxy may interpret differently (RFC 9112, section 6.1)."""
    if "Transfer-Encoding" in request.headers:
        codings = request.headers.getall("Transfer-Encoding")
        chunked = [coding.strip().lower() for coding in codings] == ["chunked"]
        if request.version < (1, 1) or not chunked:
            raise InvalidRequest(
                "Transfer-Encoding can only be chunked, and only in HTTP/1.1", code=MALFORMED
            )
    if request.version < (1, 0):
        raise InvalidRequest("use HTTP/1.1", code=MALFORMED)


def refuse_key_in_url(request: web.Request) -> None:
    """Refuse a key in a URL: URLs end up in logs and histories."""
    path = request.path
    by_id = path.startswith(BY_ID_PATH)
    if not request.query:
        if not by_id and looks_like_token(path):
            raise key_in_url()
        return
    query = list(request.query.items())
    texts = [text for pair in query for text in pair]
    if not by_id:
        texts.append(path)
    # Ids of keys are not secret: findings are queried by `key`. An empty value is no key.
    sent = any(
        value and name.lower() in _URL_NAMES and not is_key_id(value) for name, value in query
    )
    if sent or any(map(looks_like_token, texts)):
        raise key_in_url()


def key_in_url() -> InvalidRequest:
    """Error for a key that was sent in a URL."""
    return InvalidRequest(
        "a key never goes into a URL, where logs keep it: send it as "
        "`Authorization: Bearer <key>`, and revoke the one that was sent",
        code="key_in_url",
    )


def from_aiohttp(error: web.HTTPException, request: web.BaseRequest) -> GatewayError:
    """Error for an exception of aiohttp, without quoting the request."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = sorted(error.allowed_methods)
        return MethodNotAllowed(
            f"{request.method} is not possible here; use {', '.join(allowed)}", allowed=allowed
        )
    if error.status == 404:
        return NotFound(f"there is nothing at {request.path}; see /openapi.json", code="no_route")
    if error.status == 417:
        return InvalidRequest("Expect: 100-continue is all that can be expected")
    if error.status == 413:
        return PayloadTooLarge("the request body is too large")
    if error.status < 500:
        return InvalidRequest(error.reason)
    return GatewayError(error.reason)
