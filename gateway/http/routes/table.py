"""Table of all routes of the HTTP interface.

The dispatch (`gateway/http/app.py`), the OpenAPI document, the reference `deploy/http.md` and the
refusal of unknown query parameters derive from it.
"""

from __future__ import annotations

from functools import partial

from gateway.formats.cloudevents import BATCH_TYPE, EVENT_TYPE
from gateway.http.openapi.parts import (
    JSON,
    LAST_EVENT_ID,
    NDJSON,
    PAGE_LIMIT,
    TICKET,
    content,
    headers,
    query,
    says,
)
from gateway.http.openapi.route import PUBLIC, Route
from gateway.http.openapi.schemas import TEXT, Schema, listed, named
from gateway.http.query.query import BY_ID, FINDINGS, HISTORY, INGEST, PAGE, STREAM, USAGE
from gateway.http.routes import (
    authz,
    document,
    events,
    findings,
    health,
    history,
    ingest,
    keys,
    roles,
    stream,
    tickets,
    usage,
)

_ADMIN = ("keys.admin",)
_ADMIN_OR_USAGE = ("keys.admin", "usage.read")
_PLAIN: Schema = {"type": "string"}
_CONTENT_ENCODING: Schema = {
    "name": "Content-Encoding", "in": "header", "schema": {"enum": ["identity", "gzip"]},
}  # fmt: skip
_PREFER: Schema = {
    "name": "Prefer", "in": "header", "schema": TEXT,
    "description": "`handling=lenient` (RFC 7240) is `on_invalid=skip`.",
}  # fmt: skip
_STREAMED = says(
    "The stream. SSE: `id` is the cursor, `data` an event as JSON; named events `caught-up`, "
    "`gap`, `notice` and `end`. NDJSON: an event per line; lines with a `type` are `bookmark`, "
    "`gap`, `notice` and `end`.",
    TEXT,
    "text/event-stream",
    NDJSON,
    "text/plain",
    headers=headers(Audit_Cursor="Where the stream begins."),
)
_UPGRADED = says(
    "WebSocket (RFC 6455). Without a subprotocol a text frame is an event. With `audit.v1` and "
    "`audit.v1.batch` frames are objects with a `type`; `cloudevents.json` has a CloudEvent per "
    "frame. The close frame's reason is JSON with "
    "`reason` and `cursor`.",
    headers=headers(Audit_Cursor="Where the stream begins.",
                     Sec_WebSocket_Protocol="The subprotocol that was chosen."),
)  # fmt: skip
_SHOWN_ONCE = headers(Location="Its path.")

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", health.index, PUBLIC, "index", "What is where.",
          {200: says("Text.", _PLAIN, "text/plain")}, tag="operation"),
    Route("GET", "/healthz", health.healthz, PUBLIC, "healthz", "The process is alive.",
          {200: says("Alive.", _PLAIN, "text/plain")}, tag="operation"),
    Route("GET", "/readyz", health.readyz, PUBLIC, "readyz", "The gateway takes requests.",
          {200: says("Ready.", _PLAIN, "text/plain")}, problems=(503,), tag="operation"),
    Route("GET", "/metrics", health.metrics, PUBLIC, "metrics",
          "Metrics for Prometheus: on a listener of their own where `metrics.port` is set, and for "
          "keys with `ops.read` alone where `metrics.require` says so.",
          {200: says("Prometheus' text format, or OpenMetrics by `Accept`.", _PLAIN, "text/plain",
                     "application/openmetrics-text")},
          problems=(401, 403, 429, 503), tag="operation"),
    Route("GET", "/openapi.json", health.openapi, PUBLIC, "openapi", "This document.",
          {200: says("OpenAPI 3.1.", {"type": "object"})}, tag="operation"),
    Route("POST", "/v1/events", ingest.ingest, ("ingest",), "ingest",
          "Send events: one, an array, or lines. All or nothing; with an answer in lines, group by "
          "group.",
          {201: says("All events are stored durably.", named("Ingested")),
           200: says("With `on_invalid=skip`: the good ones are stored durably. With NDJSON and "
                     "`Accept: application/x-ndjson`: a line per group of events that is stored "
                     "durably, while the body arrives.",
                     content={JSON: {"schema": named("IngestedLeniently")},
                              NDJSON: {"schema": named("IngestProgress")}},
                     headers=headers(Preference_Applied="Where `Prefer` was heeded."))},
          problems=(422,), tag="events",
          parameters=(*query(INGEST), _PREFER, _CONTENT_ENCODING),
          body={"content": {
              JSON: {"schema": {"oneOf": [named("NewEvent"),
                                          listed(named("NewEvent"), minItems=1)]}},
              NDJSON: {"schema": named("NewEvent")},
          }}),
    Route("GET", "/v1/events", events.pull, ("pull",), "pull", "A page of events.",
          {200: says(
              "A page. As NDJSON: an event per line; a first line with `\"type\":\"gap\"` if "
              "there is a gap.",
              headers=headers(Audit_Cursor="But for JSON: the page's cursor.",
                              Audit_Has_More="But for JSON: `true` or `false`.",
                              Audit_Gap="With a batch of CloudEvents: the gap as JSON, if any.",
                              Audit_Notice="With a batch of CloudEvents: the notice, if any."),
              content={JSON: {"schema": named("Page")}, NDJSON: {"schema": named("Event")},
                       BATCH_TYPE: {"schema": listed({"type": "object"})},
                       "text/plain": {"schema": TEXT}})},
          problems=(406, 410), tag="events",
          parameters=query(PAGE, limit={"schema": PAGE_LIMIT})),
    # Ids may contain slashes.
    Route("GET", "/v1/events/{id:.+}", events.by_id, ("pull",), "event", "One event.",
          {200: says("The event.", content={JSON: {"schema": named("Event")},
                                            EVENT_TYPE: {"schema": {"type": "object"}},
                                            "text/plain": {"schema": TEXT}})},
          problems=(404, 409), tag="events",
          parameters=query(BY_ID, tenant={"schema": TEXT})),
    # Parameters of streams also come in bodies and tickets: their parser refuses unknown ones.
    Route("GET", "/v1/stream", stream.stream, ("stream",), "stream",
          "A live stream: SSE, NDJSON, or WebSocket with an upgrade.",
          {101: _UPGRADED, 200: _STREAMED}, problems=(406, 410), tag="events",
          parameters=(*query(STREAM), TICKET, LAST_EVENT_ID), admitted=False),
    Route("POST", "/v1/stream", stream.stream_post, ("stream",), "streamPost",
          "The same for parameters that are too long for a URL.",
          {200: _STREAMED}, problems=(406, 410), tag="events", parameters=(LAST_EVENT_ID,),
          body=content(named("StreamParameters")), admitted=False),
    Route("POST", "/v1/tickets", tickets.create, ("stream",), "ticket",
          "A ticket that opens this one stream within 30 seconds, for a browser.",
          {201: says("The ticket.", named("Ticket"))}, tag="events",
          body=content(named("StreamParameters"))),
    Route("GET", "/v1/keys", keys.list_all, _ADMIN, "keys", "All keys.",
          {200: says("Oldest first.", named("KeyList"))}),
    Route("POST", "/v1/keys", keys.create, _ADMIN, "makeKey", "Make a key.",
          {201: says("The key, shown this once.", named("MintedKey"), headers=_SHOWN_ONCE)},
          problems=(409,), body=content(named("NewKey"))),
    Route("GET", "/v1/keys/{id}", keys.show, _ADMIN, "key", "One key.",
          {200: says("The key.", named("KeyInUse"))}, problems=(404,)),
    Route("POST", "/v1/keys/{id}/revoke", keys.revoke, _ADMIN, "revokeKey",
          "End a key for good; its streams have ended when this returns.",
          {200: says("The key, and what came of it.", named("RevokedKey"))},
          problems=(404, 409), body=content(named("Revocation")), body_required=False),
    Route("POST", "/v1/keys/{id}/suspend", keys.suspend, _ADMIN, "suspendKey",
          "End a key's streams and refuse it until it is resumed.",
          {200: says("The key after the change.", named("Key"))},
          problems=(404, 409), body=content(named("Reason")), body_required=False),
    Route("POST", "/v1/keys/{id}/resume", keys.resume, _ADMIN, "resumeKey",
          "End a suspension; for whoever could make such a key.",
          {200: says("The key after the change.", named("Key"))},
          problems=(404, 409), body=content(named("Reason")), body_required=False),
    Route("POST", "/v1/keys/{id}/rotate", keys.rotate, _ADMIN, "rotateKey",
          "Make a successor with the same rights; the old key drains.",
          {201: says("The successor, shown this once.", named("MintedKey"), headers=_SHOWN_ONCE)},
          problems=(404, 409), body=content(named("Overlap")), body_required=False),
    Route("GET", "/v1/keys/{id}/document", document.document, _ADMIN_OR_USAGE, "keyDocument",
          "What a key is for and what it can see.",
          {200: says("By `Accept`.", content={
              "text/markdown": {"schema": _PLAIN},
              "text/html": {"schema": _PLAIN},
              JSON: {"schema": named("KeyDocument")},
          })},
          problems=(404, 406)),
    Route("GET", "/v1/keys/{id}/history", history.history, ("pull",), "keyHistory",
          "What a key was used for and what became of it: the log's records about it that the "
          "asking key may pull.",
          {200: says("A page.", named("Page"))}, problems=(404, 410),
          parameters=query(HISTORY, limit={"schema": PAGE_LIMIT})),
    Route("GET", "/v1/keys/{id}/usage", usage.show, ("usage.read",), "keyUsage",
          "How much a key was used.",
          {200: says("Rows, oldest first.", named("UsageRows"))}, problems=(404,),
          parameters=query(USAGE)),
    Route("GET", "/v1/findings", findings.list_all, ("usage.read",), "findings",
          "Unusual activity, newest first.",
          {200: says("Findings.", named("FindingList"))},
          parameters=query(FINDINGS, limit={"schema": PAGE_LIMIT})),
    Route("POST", "/v1/findings/{id}/expected", partial(findings.mark, expected=True), _ADMIN,
          "expectFinding", "Silence this signal for this key from now on.",
          {200: says("The finding after that.", named("Finding"))}, problems=(404,),
          body=content(named("Reason")), body_required=False),
    Route("DELETE", "/v1/findings/{id}/expected", partial(findings.mark, expected=False), _ADMIN,
          "noLongerExpectFinding", "Let the signal be heard again.",
          {200: says("The finding after that.", named("Finding"))}, problems=(404,)),
    Route("POST", "/v1/authz/explain", authz.explain_access, _ADMIN_OR_USAGE, "explain",
          "Why a key may or may not do something.",
          {200: says("The decision.", named("Explanation"))}, problems=(404,),
          body=content(named("Question"))),
    Route("POST", "/v1/authz/simulate", authz.simulate, _ADMIN, "simulate",
          "What would change for a key under other grants.",
          {200: says("What was found.", named("Simulation"))}, problems=(404,),
          body=content(named("Proposal"))),
    Route("GET", "/v1/roles", roles.list_all, _ADMIN, "roles", "All roles.",
          {200: says("Roles.", named("RoleList"))}),
    Route("GET", "/v1/roles/{name}", roles.show, _ADMIN, "role", "One role.",
          {200: says("The role.", named("Role"))}, problems=(404,)),
    Route("PUT", "/v1/roles/{name}", roles.put, _ADMIN, "putRole",
          "Make or replace a role; live streams narrow or end at once.",
          {200: says("Replaced.", named("Role")), 201: says("Made.", named("Role"))},
          body=content(named("NewRole"))),
    Route("DELETE", "/v1/roles/{name}", roles.delete, _ADMIN, "deleteRole",
          "Delete a role, and take it out of its keys.",
          {200: says("Deleted; these keys had it.", named("DeletedRole")),
           204: says("Deleted; no key had it.")},
          problems=(404, 409)),
)  # fmt: skip
