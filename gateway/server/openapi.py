"""`/openapi.json`: the whole HTTP interface as an OpenAPI 3.1 document.

Written by hand, because it says what a client may rely on; a test compares it
with the routes and parameters that there really are.
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from gateway import __version__
from gateway.event import OUTCOMES
from gateway.server.openapi_schemas import CURSOR, SCHEMAS, TEXT, Schema, listed, named
from gateway.server.query import BY_ID, MAX_LIMIT_PAGE, MAX_WAIT, PAGE, STREAM

JSON, NDJSON = "application/json", "application/x-ndjson"
_PROBLEMS = {
    400: "The request makes no sense; nothing was done.",
    401: "No key, or none that is known or still valid.",
    403: "The key does not allow this; `code` is the reason.",
    404: "No such thing, or none that the key may see.",
    406: "None of the media types in `Accept` can be produced.",
    408: "The body did not arrive in time.",
    409: "The request contradicts what is there.",
    410: "The cursor's events are not here (any more); `earliest` and `latest` are cursors "
    "that work.",
    413: "The body, or the number of events in it, is too large.",
    415: "The type or encoding of the body is not supported.",
    422: "Items are refused, each named in `errors`; nothing was stored.",
    429: "Too much at once; try again after `Retry-After` seconds.",
    503: "Try again after `Retry-After` seconds.",
}
_PROBLEM_SCHEMAS = {410: "GoneProblem", 422: "EventsProblem"}


def _many(about: str, **schema: Any) -> Schema:
    """A selector: may repeat."""
    return {"schema": listed({**TEXT, **schema}), "explode": True, "description": about}


_PATTERN = "`*` is one segment, `**` any number and only last. May repeat: one of them holds."
_PARAMETERS: dict[str, Schema] = {
    "tenant": _many(f"Tenants; {_PATTERN}"),
    "category": _many(f"Categories, such as `auth.*`; {_PATTERN}"),
    "action": _many(f"Actions, such as `user.*`; {_PATTERN}"),
    "outcome": _many("Outcomes. May repeat: one of them holds.", enum=list(OUTCOMES)),
    "actor": _many(f"Ids of actors; {_PATTERN}"),
    "resource": _many(f"Urns of targets, such as `k8s:prod/**`; {_PATTERN}"),
    "after": {"schema": CURSOR, "description": "Begin behind this cursor."},
    "since": {"schema": TEXT, "description": "Begin at a time (RFC 3339) or so long ago (`15m`)."},
    "from": {
        "schema": {"enum": ["start", "now"]},
        "description": "Begin at an end of the log; without a position a stream begins `now`, "
        "a page at the `start`.",
    },
    "min_severity": {"schema": {"type": "integer", "minimum": 1, "maximum": 6}},
    "filter": {
        "schema": {"type": "string", "maxLength": 4096},
        "description": "A CEL expression over one event: `outcome == \"denied\" && severity >= 4`.",
    },
    "format": {"schema": {"enum": ["native"]}},
    "limit": {"schema": {"type": "integer", "minimum": 1}},
    "on_gap": {
        "schema": {"enum": ["fail", "skip"], "default": "fail"},
        "description": "With `skip` a cursor that is gone is no 410: the first message is a `gap`.",
    },
    "last_event_id": {"schema": CURSOR, "description": "As the header `Last-Event-ID`."},
    "lastEventId": {"schema": CURSOR, "description": "As the header `Last-Event-ID`."},
    "follow": {
        "schema": {"enum": ["true", "false", "1", "0"], "default": "true"},
        "description": "With `false` the stream ends at the head as of the request.",
    },
    "consumer": {"schema": TEXT, "deprecated": True, "description": "Not in this version."},
    "wait": {
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": 0},
        "description": "Long poll: wait so many seconds for the first event.",
    },
}  # fmt: skip
_PAGE_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT_PAGE, "default": 100}
_TICKET = {
    "name": "ticket",
    "in": "query",
    "schema": TEXT,
    "description": "A ticket instead of a key, for browsers; of the other parameters only "
    "`last_event_id` and `lastEventId` may stand beside it.",
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": CURSOR,
    "description": "Begin behind this cursor, whatever the parameters say.",
}
_ID = {"name": "id", "in": "path", "required": True, "schema": TEXT}
_NAME = {"name": "name", "in": "path", "required": True, "schema": TEXT}


def _query(names: tuple[str, ...], **instead: Schema) -> list[Schema]:
    return [
        {"name": name, "in": "query", **_PARAMETERS[name], **instead.get(name, {})}
        for name in names
    ]


def _content(schema: Schema, *kinds: str) -> Schema:
    return {"content": {kind: {"schema": schema} for kind in kinds or (JSON,)}}


def _says(about: str, schema: Schema | None = None, *kinds: str, **more: Any) -> Schema:
    return {"description": about, **(_content(schema, *kinds) if schema else {}), **more}


def _headers(**headers: str) -> Schema:
    return {
        name.replace("_", "-"): {"schema": TEXT, "description": about}
        for name, about in headers.items()
    }


def _operation(
    name: str,
    summary: str,
    responses: dict[int, Schema],
    problems: tuple[int, ...] = (),
    *,
    tag: str,
    body: Schema | None = None,
    optional_body: bool = False,
    parameters: list[Schema] | None = None,
    public: bool = False,
) -> Schema:
    every = problems if public else (400, 401, 403, 429, 503, *problems)
    made: Schema = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "responses": {
            **{str(status): response for status, response in responses.items()},
            **{str(s): {"$ref": f"#/components/responses/Problem{s}"} for s in sorted(set(every))},
        },
    }
    if public:
        made["security"] = []
    if parameters:
        made["parameters"] = parameters
    if body is not None:
        made["requestBody"] = {"required": not optional_body, **body}
    return made


_SMALL_BODY = (408, 413, 415)
_STREAM_PROBLEMS = (406, 410)
_STREAM = _says(
    "The stream. SSE: `id` is the cursor, `data` an event as JSON; named events `caught-up`, "
    "`gap`, `notice` and `end`. NDJSON: an event per line; lines with a `type` are `bookmark`, "
    "`gap`, `notice` and `end`.",
    TEXT,
    "text/event-stream",
    NDJSON,
    headers=_headers(Audit_Cursor="Where the stream begins."),
)
_UPGRADED = _says(
    "WebSocket (RFC 6455). Without a subprotocol a text frame is an event. With `audit.v1` and "
    "`audit.v1.batch` frames are objects with a `type`. The close frame's reason is JSON with "
    "`reason` and `cursor`.",
    headers=_headers(Audit_Cursor="Where the stream begins.",
                     Sec_WebSocket_Protocol="The subprotocol that was chosen."),
)  # fmt: skip
_KEY_SHOWN = _says("The key after the change.", named("Key"))
_PLAIN = {"type": "string"}

PATHS: dict[str, dict[str, Schema]] = {
    "/": {
        "get": _operation("index", "What is where.", {200: _says("Text.", _PLAIN, "text/plain")},
                          tag="operation", public=True),
    },
    "/healthz": {
        "get": _operation("healthz", "The process is alive.",
                          {200: _says("Alive.", _PLAIN, "text/plain")},
                          tag="operation", public=True),
    },
    "/readyz": {
        "get": _operation("readyz", "The gateway takes requests.",
                          {200: _says("Ready.", _PLAIN, "text/plain")}, (503,),
                          tag="operation", public=True),
    },
    "/metrics": {
        "get": _operation("metrics", "Figures for Prometheus.",
                          {200: _says("Text exposition format.", _PLAIN, "text/plain")},
                          tag="operation", public=True),
    },
    "/openapi.json": {
        "get": _operation("openapi", "This document.",
                          {200: _says("OpenAPI 3.1.", {"type": "object"})},
                          tag="operation", public=True),
    },
    "/v1/events": {
        "post": _operation(
            "ingest", "Send events: one, an array, or lines. All or nothing.",
            {201: _says("All events are stored durably.", named("Ingested"))},
            (*_SMALL_BODY, 422), tag="events",
            parameters=[{"name": "Content-Encoding", "in": "header",
                         "schema": {"enum": ["identity", "gzip"]}}],
            body={"content": {
                JSON: {"schema": {"oneOf": [named("NewEvent"),
                                            listed(named("NewEvent"), minItems=1)]}},
                NDJSON: {"schema": named("NewEvent")},
            }},
        ),
        "get": _operation(
            "pull", "A page of events.",
            {200: _says(
                "A page. As NDJSON: an event per line; a first line with `\"type\":\"gap\"` if "
                "there is a gap.",
                headers=_headers(Audit_Cursor="With NDJSON: the page's cursor.",
                                 Audit_Has_More="With NDJSON: `true` or `false`."),
                content={JSON: {"schema": named("Page")}, NDJSON: {"schema": named("Event")}},
            )},
            _STREAM_PROBLEMS, tag="events",
            parameters=_query(PAGE, limit={"schema": _PAGE_LIMIT}),
        ),
    },
    "/v1/events/{id}": {
        "get": _operation("event", "One event.", {200: _says("The event.", named("Event"))},
                          (404, 409), tag="events",
                          parameters=[_ID, *_query(BY_ID, tenant={"schema": TEXT})]),
    },
    "/v1/stream": {
        "get": _operation(
            "stream", "A live stream: SSE, NDJSON, or WebSocket with an upgrade.",
            {101: _UPGRADED, 200: _STREAM}, _STREAM_PROBLEMS, tag="events",
            parameters=[*_query(STREAM), _TICKET, _LAST_EVENT_ID],
        ),
        "post": _operation(
            "streamPost", "The same for parameters that are too long for a URL.",
            {200: _STREAM}, (*_STREAM_PROBLEMS, *_SMALL_BODY), tag="events",
            parameters=[_LAST_EVENT_ID], body=_content(named("StreamParameters")),
        ),
    },
    "/v1/tickets": {
        "post": _operation(
            "ticket", "A ticket that opens this one stream within 30 seconds, for a browser.",
            {201: _says("The ticket.", named("Ticket"))}, _SMALL_BODY, tag="events",
            body=_content(named("StreamParameters")),
        ),
    },
    "/v1/keys": {
        "get": _operation("keys", "All keys.", {200: _says("Oldest first.", named("KeyList"))},
                          tag="keys"),
        "post": _operation(
            "makeKey", "Make a key.",
            {201: _says("The key, shown this once.", named("MintedKey"),
                        headers=_headers(Location="Its path."))},
            (*_SMALL_BODY, 409), tag="keys", body=_content(named("NewKey")),
        ),
    },
    "/v1/keys/{id}": {
        "get": _operation("key", "One key.", {200: _says("The key.", named("KeyInUse"))}, (404,),
                          tag="keys", parameters=[_ID]),
    },
    "/v1/keys/{id}/document": {
        "get": _operation(
            "keyDocument", "What a key is for and what it can see.",
            {200: _says("By `Accept`.", content={
                "text/markdown": {"schema": _PLAIN},
                "text/html": {"schema": _PLAIN},
                JSON: {"schema": {"type": "object"}},
            })},
            (404, 406), tag="keys", parameters=[_ID],
        ),
    },
    **{
        f"/v1/keys/{{id}}/{change}": {
            "post": _operation(
                f"{change}Key", summary, {200: _KEY_SHOWN}, (*_SMALL_BODY, 404, 409),
                tag="keys", parameters=[_ID], body=_content(named("Reason")), optional_body=True,
            ),
        }
        for change, summary in (
            ("revoke", "End a key for good; its streams have ended when this returns."),
            ("suspend", "End a key's streams and refuse it until it is resumed."),
            ("resume", "End a suspension."),
        )
    },
    "/v1/keys/{id}/rotate": {
        "post": _operation(
            "rotateKey", "Make a successor with the same rights; the old key drains.",
            {201: _says("The successor, shown this once.", named("MintedKey"),
                        headers=_headers(Location="Its path."))},
            (*_SMALL_BODY, 404, 409), tag="keys", parameters=[_ID],
            body=_content(named("Overlap")), optional_body=True,
        ),
    },
    "/v1/authz/explain": {
        "post": _operation("explain", "Why a key may or may not do something.",
                           {200: _says("The decision.", named("Explanation"))},
                           (*_SMALL_BODY, 404), tag="keys", body=_content(named("Question"))),
    },
    "/v1/authz/simulate": {
        "post": _operation("simulate", "What would change for a key under other grants.",
                           {200: _says("What was found.", named("Simulation"))},
                           (*_SMALL_BODY, 404), tag="keys", body=_content(named("Proposal"))),
    },
    "/v1/roles": {
        "get": _operation("roles", "All roles.", {200: _says("Roles.", named("RoleList"))},
                          tag="keys"),
    },
    "/v1/roles/{name}": {
        "get": _operation("role", "One role.", {200: _says("The role.", named("Role"))}, (404,),
                          tag="keys", parameters=[_NAME]),
        "put": _operation(
            "putRole", "Make or replace a role; live streams narrow or end at once.",
            {200: _says("Replaced.", named("Role")), 201: _says("Made.", named("Role"))},
            _SMALL_BODY, tag="keys", parameters=[_NAME], body=_content(named("NewRole")),
        ),
        "delete": _operation("deleteRole", "Delete a role; its keys lose its grants.",
                             {204: _says("Deleted.")}, (404, 409), tag="keys",
                             parameters=[_NAME]),
    },
}  # fmt: skip

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Audit log gateway",
        "version": __version__,
        "description": "Live, least-privilege audit event streams.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "tags": [{"name": "events"}, {"name": "keys"}, {"name": "operation"}],
    "security": [{"key": []}],
    "paths": PATHS,
    "components": {
        "securitySchemes": {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "alpk_<kid>_<secret>",
                "description": "`Authorization: Bearer <key>`; `token <key>` works as well. "
                "A key never goes into a URL.",
            }
        },
        "responses": {
            f"Problem{status}": {
                "description": about,
                **_content(
                    named(_PROBLEM_SCHEMAS.get(status, "Problem")), "application/problem+json"
                ),
            }
            for status, about in _PROBLEMS.items()
        },
        "schemas": SCHEMAS,
    },
}
_BODY = orjson.dumps(DOCUMENT)


async def openapi(request: web.Request) -> web.Response:
    """`GET /openapi.json`."""
    return web.Response(body=_BODY, content_type=JSON)
