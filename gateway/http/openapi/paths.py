"""Every path and method of the OpenAPI document."""

from __future__ import annotations

from gateway.http.openapi.parts import (
    ID,
    JSON,
    LAST_EVENT_ID,
    NAME,
    NDJSON,
    PAGE_LIMIT,
    TICKET,
    content,
    headers,
    operation,
    query,
    says,
)
from gateway.http.openapi.schemas import TEXT, Schema, listed, named
from gateway.http.query.query import BY_ID, FINDINGS, HISTORY, INGEST, PAGE, STREAM

SMALL_BODY = (408, 413, 415)
PREFER: Schema = {
    "name": "Prefer", "in": "header", "schema": TEXT,
    "description": "`handling=lenient` (RFC 7240) is `on_invalid=skip`.",
}  # fmt: skip
USAGE = ("window", "step")
STREAM_PROBLEMS = (406, 410)
STREAMED = says(
    "The stream. SSE: `id` is the cursor, `data` an event as JSON; named events `caught-up`, "
    "`gap`, `notice` and `end`. NDJSON: an event per line; lines with a `type` are `bookmark`, "
    "`gap`, `notice` and `end`.",
    TEXT,
    "text/event-stream",
    NDJSON,
    headers=headers(Audit_Cursor="Where the stream begins."),
)
UPGRADED = says(
    "WebSocket (RFC 6455). Without a subprotocol a text frame is an event. With `audit.v1` and "
    "`audit.v1.batch` frames are objects with a `type`. The close frame's reason is JSON with "
    "`reason` and `cursor`.",
    headers=headers(Audit_Cursor="Where the stream begins.",
                     Sec_WebSocket_Protocol="The subprotocol that was chosen."),
)  # fmt: skip
KEY_SHOWN = says("The key after the change.", named("Key"))
PLAIN = {"type": "string"}

PATHS: dict[str, dict[str, Schema]] = {
    "/": {
        "get": operation("index", "What is where.", {200: says("Text.", PLAIN, "text/plain")},
                          tag="operation", public=True),
    },
    "/healthz": {
        "get": operation("healthz", "The process is alive.",
                          {200: says("Alive.", PLAIN, "text/plain")},
                          tag="operation", public=True),
    },
    "/readyz": {
        "get": operation("readyz", "The gateway takes requests.",
                          {200: says("Ready.", PLAIN, "text/plain")}, (503,),
                          tag="operation", public=True),
    },
    "/metrics": {
        "get": operation("metrics", "Figures for Prometheus.",
                          {200: says("Text exposition format.", PLAIN, "text/plain")},
                          tag="operation", public=True),
    },
    "/openapi.json": {
        "get": operation("openapi", "This document.",
                          {200: says("OpenAPI 3.1.", {"type": "object"})},
                          tag="operation", public=True),
    },
    "/v1/events": {
        "post": operation(
            "ingest", "Send events: one, an array, or lines. All or nothing.",
            {201: says("All events are stored durably.", named("Ingested")),
             200: says("With `on_invalid=skip`: the good ones are stored durably.",
                       named("IngestedLeniently"),
                       headers=headers(Preference_Applied="Where `Prefer` was heeded."))},
            (*SMALL_BODY, 422), tag="events",
            parameters=[*query(INGEST), PREFER, {"name": "Content-Encoding", "in": "header",
                                         "schema": {"enum": ["identity", "gzip"]}}],
            body={"content": {
                JSON: {"schema": {"oneOf": [named("NewEvent"),
                                            listed(named("NewEvent"), minItems=1)]}},
                NDJSON: {"schema": named("NewEvent")},
            }},
        ),
        "get": operation(
            "pull", "A page of events.",
            {200: says(
                "A page. As NDJSON: an event per line; a first line with `\"type\":\"gap\"` if "
                "there is a gap.",
                headers=headers(Audit_Cursor="With NDJSON: the page's cursor.",
                                 Audit_Has_More="With NDJSON: `true` or `false`."),
                content={JSON: {"schema": named("Page")}, NDJSON: {"schema": named("Event")}},
            )},
            STREAM_PROBLEMS, tag="events",
            parameters=query(PAGE, limit={"schema": PAGE_LIMIT}),
        ),
    },
    "/v1/events/{id}": {
        "get": operation("event", "One event.", {200: says("The event.", named("Event"))},
                          (404, 409), tag="events",
                          parameters=[ID, *query(BY_ID, tenant={"schema": TEXT})]),
    },
    "/v1/stream": {
        "get": operation(
            "stream", "A live stream: SSE, NDJSON, or WebSocket with an upgrade.",
            {101: UPGRADED, 200: STREAMED}, STREAM_PROBLEMS, tag="events",
            parameters=[*query(STREAM), TICKET, LAST_EVENT_ID],
        ),
        "post": operation(
            "streamPost", "The same for parameters that are too long for a URL.",
            {200: STREAMED}, (*STREAM_PROBLEMS, *SMALL_BODY), tag="events",
            parameters=[LAST_EVENT_ID], body=content(named("StreamParameters")),
        ),
    },
    "/v1/tickets": {
        "post": operation(
            "ticket", "A ticket that opens this one stream within 30 seconds, for a browser.",
            {201: says("The ticket.", named("Ticket"))}, SMALL_BODY, tag="events",
            body=content(named("StreamParameters")),
        ),
    },
    "/v1/keys": {
        "get": operation("keys", "All keys.", {200: says("Oldest first.", named("KeyList"))},
                          tag="keys"),
        "post": operation(
            "makeKey", "Make a key.",
            {201: says("The key, shown this once.", named("MintedKey"),
                        headers=headers(Location="Its path."))},
            (*SMALL_BODY, 409), tag="keys", body=content(named("NewKey")),
        ),
    },
    "/v1/keys/{id}": {
        "get": operation("key", "One key.", {200: says("The key.", named("KeyInUse"))}, (404,),
                          tag="keys", parameters=[ID]),
    },
    "/v1/keys/{id}/history": {
        "get": operation(
            "keyHistory", "What a key was used for and what became of it: the log's records "
            "about it that the asking key may pull.",
            {200: says("A page.", named("Page"))}, (404, 410), tag="keys",
            parameters=[ID, *query(HISTORY, limit={"schema": PAGE_LIMIT})],
        ),
    },
    "/v1/keys/{id}/usage": {
        "get": operation(
            "keyUsage", "How much a key was used.",
            {200: says("Rows, oldest first.", named("UsageRows"))}, (404,), tag="keys",
            parameters=[ID, *query(USAGE)],
        ),
    },
    "/v1/findings": {
        "get": operation(
            "findings", "Unusual activity, newest first.",
            {200: says("Findings.", named("FindingList"))}, tag="keys",
            parameters=query(FINDINGS, limit={"schema": PAGE_LIMIT}),
        ),
    },
    "/v1/findings/{id}/expected": {
        "post": operation(
            "expectFinding", "Silence this signal for this key from now on.",
            {200: says("The finding after that.", named("Finding"))}, (*SMALL_BODY, 404),
            tag="keys", parameters=[ID], body=content(named("Reason")), optional_body=True,
        ),
        "delete": operation(
            "noLongerExpectFinding", "Let the signal be heard again.",
            {200: says("The finding after that.", named("Finding"))}, (404,), tag="keys",
            parameters=[ID],
        ),
    },
    "/v1/keys/{id}/document": {
        "get": operation(
            "keyDocument", "What a key is for and what it can see.",
            {200: says("By `Accept`.", content={
                "text/markdown": {"schema": PLAIN},
                "text/html": {"schema": PLAIN},
                JSON: {"schema": named("KeyDocument")},
            })},
            (404, 406), tag="keys", parameters=[ID],
        ),
    },
    **{
        f"/v1/keys/{{id}}/{change}": {
            "post": operation(
                f"{change}Key", summary, {200: KEY_SHOWN}, (*SMALL_BODY, 404, 409),
                tag="keys", parameters=[ID], body=content(named("Reason")), optional_body=True,
            ),
        }
        for change, summary in (
            ("suspend", "End a key's streams and refuse it until it is resumed."),
            ("resume", "End a suspension; for whoever could make such a key."),
        )
    },
    "/v1/keys/{id}/revoke": {
        "post": operation(
            "revokeKey", "End a key for good; its streams have ended when this returns.",
            {200: says("The key, and what came of it.", named("RevokedKey"))},
            (*SMALL_BODY, 404, 409), tag="keys", parameters=[ID],
            body=content(named("Revocation")), optional_body=True,
        ),
    },
    "/v1/keys/{id}/rotate": {
        "post": operation(
            "rotateKey", "Make a successor with the same rights; the old key drains.",
            {201: says("The successor, shown this once.", named("MintedKey"),
                        headers=headers(Location="Its path."))},
            (*SMALL_BODY, 404, 409), tag="keys", parameters=[ID],
            body=content(named("Overlap")), optional_body=True,
        ),
    },
    "/v1/authz/explain": {
        "post": operation("explain", "Why a key may or may not do something.",
                           {200: says("The decision.", named("Explanation"))},
                           (*SMALL_BODY, 404), tag="keys", body=content(named("Question"))),
    },
    "/v1/authz/simulate": {
        "post": operation("simulate", "What would change for a key under other grants.",
                           {200: says("What was found.", named("Simulation"))},
                           (*SMALL_BODY, 404), tag="keys", body=content(named("Proposal"))),
    },
    "/v1/roles": {
        "get": operation("roles", "All roles.", {200: says("Roles.", named("RoleList"))},
                          tag="keys"),
    },
    "/v1/roles/{name}": {
        "get": operation("role", "One role.", {200: says("The role.", named("Role"))}, (404,),
                          tag="keys", parameters=[NAME]),
        "put": operation(
            "putRole", "Make or replace a role; live streams narrow or end at once.",
            {200: says("Replaced.", named("Role")), 201: says("Made.", named("Role"))},
            SMALL_BODY, tag="keys", parameters=[NAME], body=content(named("NewRole")),
        ),
        "delete": operation("deleteRole", "Delete a role, and take it out of its keys.",
                             {200: says("Deleted; these keys had it.", named("DeletedRole")),
                              204: says("Deleted; no key had it.")}, (404, 409), tag="keys",
                             parameters=[NAME]),
    },
}  # fmt: skip
