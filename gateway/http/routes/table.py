"""Table of all routes of the HTTP interface.

The dispatch (`gateway/http/app.py`), the OpenAPI document, the reference `deploy/http.md` and the
refusal of unknown query parameters derive from it.
"""

from __future__ import annotations

from functools import partial

from gateway.formats.cloudevents import BATCH_TYPE, EVENT_TYPE
from gateway.formats.csv import CSV_TYPE
from gateway.http.console.routes import CONSOLE_ROUTES
from gateway.http.declarations.routes import DECLARATION_ROUTES
from gateway.http.health.routes import HEALTH_ROUTES
from gateway.http.keys.routes import KEY_ROUTES
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
from gateway.http.openapi.route import PUBLIC, Refusals, Route
from gateway.http.openapi.schemas import TEXT, Schema, listed, named
from gateway.http.pages import counts
from gateway.http.query.counts import COUNTS
from gateway.http.query.query import (
    BY_ID,
    CONSUMER,
    DEAD_LETTERS,
    FINDINGS,
    HISTORY,
    INGEST,
    OF_CLUSTERS,
    OF_LOGS,
    OF_SOURCES,
    PAGE,
    STREAM,
)
from gateway.http.query.streams import STREAMS
from gateway.http.receivers.otlp import PROTOBUF_TYPE, receive_logs, render
from gateway.http.receivers.routes import ROUTES_OF_SENDERS
from gateway.http.review.routes import REVIEW_ROUTES
from gateway.http.routes import (
    authz,
    consumers,
    destinations,
    document,
    events,
    findings,
    health,
    history,
    ingest,
    roles,
    stream,
    streams,
)
from gateway.http.viewer.routes import VIEWER_ROUTES
from gateway.looking.buckets import AUTO, STEPS

_ADMIN = ("keys.admin",)
_LOOKING = ("keys.read",)
_READING = ("stream", "pull", "usage.read")
_OF_CONSUMERS = ("stream", "pull", "keys.admin")
_ADMIN_OR_USAGE = ("keys.admin", "usage.read")
_LOOKING_OR_USAGE = ("keys.read", "usage.read")
_RESOLVING = ("pseudonyms.resolve",)
_DELIVERY = ("destinations.admin",)
_PLAIN: Schema = {"type": "string"}
_CONTENT_ENCODING: Schema = {
    "name": "Content-Encoding", "in": "header", "schema": {"enum": ["identity", "gzip"]},
}  # fmt: skip
_RECORDS_TAKEN = says(
    "What was stored is durable. A refused record is named by its index.",
    named("IngestedLeniently"),
)
_RECORDS: Schema = {
    "content": {JSON: {"schema": {}}, NDJSON: {"schema": {}}, "text/plain": {"schema": TEXT}}
}
_SKIPS: Schema = {"schema": {"enum": ["fail", "skip"], "default": "skip"}}
_BINARY: Schema = {"schema": {"type": "string", "format": "binary"}}
_STATUS: Schema = {
    "type": "object", "required": ["code", "message"], "additionalProperties": False,
    "properties": {"code": {"type": "integer"}, "message": TEXT},
}  # fmt: skip
_PREFER: Schema = {
    "name": "Prefer", "in": "header", "schema": TEXT,
    "description": "`handling=lenient` (RFC 7240) is `on_invalid=skip`.",
}  # fmt: skip
_STREAMED = says(
    "The stream. SSE: `id` is the cursor, `data` an event as JSON; named events `caught-up`, "
    "`gap`, `notice` and `end`. NDJSON: an event per line; lines with a `type` are `bookmark`, "
    "`gap`, `notice` and `end`. CSV, with `follow=false` alone: a line of names, and a row per "
    "event; the last chunk is missing unless it is whole.",
    TEXT,
    "text/event-stream",
    NDJSON,
    "text/plain",
    CSV_TYPE,
    headers=headers(
        Audit_Cursor="Where the stream begins.",
        Content_Disposition="With `follow=false`: the name of the file.",
        Audit_Gap="With CSV: the gap that it begins with, as JSON.",
        Audit_Notice="With CSV: the notice, as JSON.",
    ),
)
_UPGRADED = says(
    "WebSocket (RFC 6455). Without a subprotocol a text frame is an event. With `audit.v1` and "
    "`audit.v1.batch` frames are objects with a `type`, with `audit.v1.lines` they are lines of "
    "events or one such object; `cloudevents.json` has a CloudEvent per "
    "frame. The close frame's reason is JSON with "
    "`reason` and `cursor`.",
    headers=headers(Audit_Cursor="Where the stream begins.",
                     Sec_WebSocket_Protocol="The subprotocol that was chosen."),
)  # fmt: skip
_STEP: Schema = {
    "schema": {"enum": [AUTO, *STEPS], "default": AUTO},
    "description": "Length of the buckets, which begin at its multiples in UTC; `auto` is the "
    "smallest that gives at most 300.",
}
_SHOWN_ONCE = headers(Location="Its path.")

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", health.index, PUBLIC, "index", "What is where.",
          {200: says("The console for browsers, else text; for clients of Elasticsearch, which "
                     "name JSON or accept nothing by name, what they look for.",
                     content={"text/plain": {"schema": _PLAIN}, "text/html": {"schema": _PLAIN},
                              JSON: {"schema": {"type": "object"}}})}, tag="operation"),
    Route("GET", "/healthz", health.healthz, PUBLIC, "healthz", "The process is alive.",
          {200: says("Alive.", _PLAIN, "text/plain")}, tag="operation"),
    Route("GET", "/metrics", health.metrics, PUBLIC, "metrics",
          "Metrics for Prometheus: on a listener of their own where `metrics.port` is set, and for "
          "keys with `ops.read` alone where `metrics.require` says so.",
          {200: says("Prometheus' text format, or OpenMetrics by `Accept`.", _PLAIN, "text/plain",
                     "application/openmetrics-text")},
          problems=(401, 403, 429, 503), tag="operation"),
    Route("GET", "/openapi.json", health.openapi, PUBLIC, "openapi", "This document.",
          {200: says("OpenAPI 3.1.", {"type": "object"})}, tag="operation"),
    Route("POST", "/v1/events", ingest.ingest, ("ingest",), "ingest",
          "Send events: one, an array, or lines; or CloudEvents, also in binary mode (`ce-` "
          "headers and any body). All or nothing; with an answer in lines, group by group.",
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
              EVENT_TYPE: {"schema": {"type": "object"}},
              BATCH_TYPE: {"schema": listed({"type": "object"})},
          }}),
    Route("POST", "/v1/ingest/{source}", ingest.ingest_records, ("ingest",), "ingestRecords",
          "Send records of others, such as of Kubernetes or Okta: one, an array, lines, or any "
          "envelope around them. The good ones are stored, unless `on_invalid=fail`.",
          {200: _RECORDS_TAKEN}, problems=(404, 422), tag="events",
          parameters=(*query(OF_SOURCES, on_invalid=_SKIPS), _CONTENT_ENCODING), body=_RECORDS),
    Route("POST", "/v1/ingest/{source}/{cluster}", ingest.ingest_records, ("ingest",),
          "ingestRecordsOfCluster",
          "The same with the name of a Kubernetes cluster in the path: kube-apiserver drops the "
          "query of its webhook's address.",
          {200: _RECORDS_TAKEN}, problems=(404, 422), tag="events",
          parameters=(*query(OF_CLUSTERS, on_invalid=_SKIPS), _CONTENT_ENCODING), body=_RECORDS),
    Route("POST", "/v1/logs", receive_logs, ("ingest",), "receiveLogs",
          "Send log records of OpenTelemetry (OTLP/HTTP), as its exporters do.",
          {200: says("The records are stored durably, but for those that `partialSuccess` counts: "
                     "these are kept apart, and must not be sent again.",
                     content={JSON: {"schema": {"type": "object"}}, PROTOBUF_TYPE: _BINARY})},
          problems=(404,), tag="events",
          parameters=(*query(OF_LOGS), _CONTENT_ENCODING),
          body={"content": {JSON: {"schema": {"type": "object"}}, PROTOBUF_TYPE: _BINARY}},
          refusals_as=Refusals(render, {JSON: {"schema": _STATUS}, PROTOBUF_TYPE: _BINARY},
                               (400, 401, 403, 404, 413, 415, 429, 431, 503))),
    Route("GET", "/v1/events", events.pull, ("pull",), "pull", "A page of events.",
          {200: says(
              "A page. As NDJSON: an event per line; a first line with `\"type\":\"gap\"` if "
              "there is a gap. As CSV: a line of names, and a row per event.",
              headers=headers(Audit_Cursor="But for JSON: the page's cursor.",
                              Audit_Has_More="But for JSON: `true` or `false`.",
                              Audit_Gap="With CSV or a batch of CloudEvents: the gap as JSON.",
                              Audit_Notice="With CSV or a batch of CloudEvents: the notice.",
                              Content_Disposition="With CSV: the name of the file."),
              content={JSON: {"schema": named("Page")}, NDJSON: {"schema": named("Event")},
                       BATCH_TYPE: {"schema": listed({"type": "object"})},
                       "text/plain": {"schema": TEXT}, CSV_TYPE: {"schema": TEXT}})},
          problems=(406, 409, 410), tag="events", for_viewers=True,
          parameters=query(PAGE, limit={"schema": PAGE_LIMIT})),
    Route("GET", "/v1/counts", counts.count, ("pull",), "counts",
          "Numbers of events by time and by members, without the events.",
          {200: says("Exact as far as it goes back.", named("Counts"))},
          problems=(410,), tag="events", parameters=query(COUNTS, step=_STEP), for_viewers=True),
    # Ids may contain slashes.
    Route("GET", "/v1/events/{id:.+}", events.by_id, ("pull",), "event", "One event.",
          {200: says("The event; with `around` it is one member of the answer.",
                     content={JSON: {"schema": {"anyOf": [named("Event"), named("Around")]}},
                                            EVENT_TYPE: {"schema": {"type": "object"}},
                                            "text/plain": {"schema": TEXT}})},
          problems=(404, 409), tag="events",
          parameters=query(BY_ID, tenant={"schema": TEXT})),
    # Parameters of streams also come in bodies and tickets: their parser refuses unknown ones.
    Route("GET", "/v1/stream", stream.stream, ("stream",), "stream",
          "A live stream: SSE, NDJSON, or WebSocket with an upgrade.",
          {101: _UPGRADED, 200: _STREAMED}, problems=(406, 409, 410), tag="events",
          parameters=(*query(STREAM), TICKET, LAST_EVENT_ID), admitted=False),
    Route("POST", "/v1/stream", stream.stream_post, ("stream",), "streamPost",
          "The same for parameters that are too long for a URL.",
          {200: _STREAMED}, problems=(406, 409, 410), tag="events", parameters=(LAST_EVENT_ID,),
          body=content(named("StreamParameters")), admitted=False),
    Route("POST", "/v1/tickets", stream.create_ticket, ("stream", "pull"), "ticket",
          "A ticket for a browser, which counts once within 30 seconds: it opens this one stream, "
          "or with `viewer` an embedded viewer.",
          {201: says("The ticket.", named("Ticket"))}, tag="events",
          body=content(named("NewTicket"))),
    Route("GET", "/v1/streams", streams.list_all, ("ops.read", "stream"), "streams",
          "Live streams of all workers and replicas; without `ops.read` those of the asking key.",
          {200: says("In the order asked for. `partial`: the processes in `missing` did not answer "
                     "within a second.", named("LiveStreamList"))},
          parameters=STREAMS, tag="operation"),
    Route("POST", "/v1/streams/{id}/end", streams.end, ("ops.act",), "endStream",
          "End a live stream with 4005; its client comes back after a pause.",
          {200: says("The stream as it was.", named("LiveStream"))}, problems=(404, 409),
          tag="operation", body=content(named("Reason")), body_required=False),
    Route("GET", "/v1/consumers", consumers.list_all, _READING, "consumers",
          "The durable consumers of a key and its predecessors; with `usage.read` all.",
          {200: says("By key and name.", named("ConsumerList"))}, problems=(404,), tag="events",
          parameters=query(CONSUMER)),
    Route("GET", "/v1/consumers/{name}", consumers.show, _READING, "consumer",
          "One durable consumer.",
          {200: says("The consumer.", named("Consumer"))}, problems=(404,), tag="events",
          parameters=query(CONSUMER)),
    Route("PUT", "/v1/consumers/{name}", consumers.put, _OF_CONSUMERS, "putConsumer",
          "Make a durable consumer, or change its options; others than those sent stay.",
          {200: says("Changed.", named("Consumer")), 201: says("Made.", named("Consumer"))},
          problems=(404, 409, 410), tag="events", parameters=query(CONSUMER),
          body=content(named("NewConsumer")), body_required=False),
    Route("POST", "/v1/consumers/{name}/ack", consumers.acknowledge, _OF_CONSUMERS,
          "acknowledge", "Everything up to a cursor, or a page, needs no further delivery.",
          {200: says("The position, which is durable.", named("Acknowledged"))},
          problems=(404, 409, 410), tag="events", parameters=query(CONSUMER),
          body=content(named("Ack"))),
    Route("POST", "/v1/consumers/{name}/rewind", consumers.rewind, _OF_CONSUMERS,
          "rewindConsumer",
          "Set the position, either way; the reader is ended with 1012, and comes back there.",
          {200: says("The consumer after that.", named("Consumer"))}, problems=(404, 410),
          tag="events", parameters=query(CONSUMER), body=content(named("Rewind"))),
    Route("DELETE", "/v1/consumers/{name}", consumers.delete, _OF_CONSUMERS, "deleteConsumer",
          "Delete a durable consumer; its reader is ended with 4505.",
          {204: says("Deleted.")}, problems=(404,), tag="events", parameters=query(CONSUMER)),
    Route("GET", "/v1/keys/{id}/document", document.document, _LOOKING_OR_USAGE, "keyDocument",
          "What a key is for and what it can see.",
          {200: says("By `Accept`.", content={
              "text/markdown": {"schema": _PLAIN},
              "text/html": {"schema": _PLAIN},
              JSON: {"schema": named("KeyDocument")},
          })},
          problems=(404, 406)),
    Route("GET", "/v1/keys/{id}/history", history.history, ("pull", "keys.read"), "keyHistory",
          "What a key was used for and what became of it: the log's records about it that the "
          "asking key may pull.",
          {200: says("A page.", named("Page"))}, problems=(404, 410),
          parameters=query(HISTORY, limit={"schema": PAGE_LIMIT})),
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
    Route("POST", "/v1/pseudonyms/resolve", authz.resolve, _RESOLVING, "resolvePseudonym",
          "Find the values behind a pseudonym, in events that the key may pull itself.",
          {200: says("What was found so far.", named("ResolvedPseudonym"))},
          problems=(404, 409, 410), body=content(named("Pseudonym"))),
    Route("GET", "/v1/roles", roles.list_all, _LOOKING, "roles", "All roles.",
          {200: says("Roles.", named("RoleList"))}),
    Route("GET", "/v1/roles/{name}", roles.show, _LOOKING, "role", "One role.",
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
    Route("GET", "/v1/destinations", destinations.list_all, ("ops.read",), "destinations",
          "All destinations with their health.",
          {200: says("By name.", named("DestinationList"))}, tag="delivery"),
    Route("POST", "/v1/destinations", destinations.create, _DELIVERY, "makeDestination",
          "Make a destination, which begins to deliver what its key may see.",
          {201: says("The destination.", named("Destination"), headers=_SHOWN_ONCE)},
          problems=(404, 409, 410), tag="delivery", body=content(named("NewDestination"))),
    Route("GET", "/v1/destinations/{name}", destinations.show, ("ops.read",), "destination",
          "One destination with its health.",
          {200: says("The destination.", named("Destination"))}, problems=(404,), tag="delivery"),
    Route("PATCH", "/v1/destinations/{name}", destinations.change, _DELIVERY, "changeDestination",
          "Change members by a merge patch (RFC 7396); it takes effect between batches.",
          {200: says("The destination.", named("Destination"))}, problems=(404, 409),
          tag="delivery", body=content(named("DestinationPatch"))),
    Route("DELETE", "/v1/destinations/{name}", destinations.delete, _DELIVERY, "deleteDestination",
          "Stop and delete a destination, with its position, secrets and dead letters.",
          {204: says("Deleted.")}, problems=(404, 409), tag="delivery"),
    Route("POST", "/v1/destinations/{name}/pause", destinations.pause, ("ops.act",),
          "pauseDestination", "Stop after the request that is under way; the position stays.",
          {200: says("The destination.", named("Destination"))}, problems=(404, 409),
          tag="delivery", body=content(named("Reason")), body_required=False),
    Route("POST", "/v1/destinations/{name}/resume", destinations.resume, ("ops.act",),
          "resumeDestination", "Go on from the position, whoever stopped it.",
          {200: says("The destination.", named("Destination"))}, problems=(404, 409),
          tag="delivery", body=content(named("Reason")), body_required=False),
    Route("POST", "/v1/destinations/{name}/test", destinations.test, ("ops.act",),
          "testDestination",
          "Send one event that is not in the log, the whole way; with a body by that definition, "
          "before it is made.",
          {200: says("What became of it.", named("Test"))}, problems=(404,), tag="delivery",
          body=content(named("NewDestination")), body_required=False),
    Route("POST", "/v1/destinations/{name}/replay", destinations.replay, _DELIVERY,
          "replayDestination",
          "Deliver a part of the log, or dead letters, a second time beside the delivery.",
          {200: says("The destination; `replay` says how far it is.", named("Destination"))},
          problems=(404, 409, 410), tag="delivery", body=content(named("Replay"))),
    Route("DELETE", "/v1/destinations/{name}/replay", destinations.cancel_replay, ("ops.act",),
          "cancelReplay", "Cancel the replay that goes on, at once.",
          {200: says("The destination.", named("Destination"))}, problems=(404, 409),
          tag="delivery"),
    Route("PUT", "/v1/destinations/{name}/secrets/{secret}", destinations.set_secret, _DELIVERY,
          "setDestinationSecret", "Set or rotate a secret.",
          {200: says("The destination.", named("Destination"))}, problems=(404, 409),
          tag="delivery", body=content(named("Secret"))),
    Route("GET", "/v1/destinations/{name}/dead-letters", destinations.dead_letters, ("ops.read",),
          "deadLetters", "Pointers to the events that the receiver did not take.",
          {200: says("In the order of the log.", named("DeadLetterList"))}, problems=(404,),
          parameters=query(DEAD_LETTERS, limit={"schema": PAGE_LIMIT}), tag="delivery"),
    Route("DELETE", "/v1/destinations/{name}/dead-letters", destinations.delete_dead_letters,
          _DELIVERY, "deleteDeadLetters", "Delete all dead letters; the events stay in the log.",
          {200: says("How many there were.", named("DeletedDeadLetters"))}, problems=(404,),
          tag="delivery"),
    Route("DELETE", "/v1/destinations/{name}/dead-letters/{id}", destinations.delete_dead_letters,
          _DELIVERY, "deleteDeadLetter", "Delete one dead letter.",
          {200: says("Whether there was one: 1 or 0.", named("DeletedDeadLetters"))},
          problems=(404,), tag="delivery"),
    *KEY_ROUTES,
    *DECLARATION_ROUTES,
    *REVIEW_ROUTES,
    *HEALTH_ROUTES,
    *CONSOLE_ROUTES,
    *VIEWER_ROUTES,
    *ROUTES_OF_SENDERS,
)  # fmt: skip
