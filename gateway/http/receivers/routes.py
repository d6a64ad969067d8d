"""Rows of the table of routes for the protocols of Splunk and Elasticsearch."""

from __future__ import annotations

from gateway.http.openapi.parts import JSON, NDJSON, content, says
from gateway.http.openapi.route import PUBLIC, Refusals, Route
from gateway.http.openapi.schemas import TEXT, Schema, listed, named
from gateway.http.receivers import elasticsearch, hec_answers, splunk_hec

_INGEST = ("ingest",)
_ABOUT = {
    "source": "Name of a source that all records are of.",
    "channel": "A GUID; also as the header `X-Splunk-Request-Channel`.",
    "filter_path": "Members of the answer that are wanted, such as `errors,items.*.error`.",
}
_PASSED_OVER = "Passed over: clients send it."
_CONTENT_ENCODING: Schema = {
    "name": "Content-Encoding", "in": "header", "schema": {"enum": ["identity", "gzip"]},
}  # fmt: skip
_ACKS: Schema = {"type": "object", "properties": {"acks": listed({"type": "integer"})}}
_HEC_REFUSALS = Refusals(
    hec_answers.render,
    content(named("HecResult"))["content"],
    (400, 401, 403, 413, 415, 431, 503),
)
_BULK: Schema = {
    "type": "object",
    "properties": {
        "took": {"type": "integer"},
        "errors": {"type": "boolean"},
        "items": listed({"type": "object"}),
    },
}
_BULK_ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "object"}, "status": {"type": "integer"}},
    "required": ["error", "status"],
}
# Under overload, and to a body that is too slow, there is no answer.
_BULK_REFUSALS = Refusals(
    elasticsearch.render, content(_BULK_ERROR)["content"], (400, 401, 403, 413, 415, 431)
)


def _parameters(names: tuple[str, ...]) -> tuple[Schema, ...]:
    return tuple(
        {"name": name, "in": "query", "schema": TEXT, "description": _ABOUT.get(name, _PASSED_OVER)}
        for name in names
    )


def _hec(path: str, name: str, raw: bool = False) -> Route:
    handler = splunk_hec.collect_raw if raw else splunk_hec.collect
    what = "lines" if raw else "objects behind each other"
    return Route(
        "POST", path, handler, _INGEST, name,
        f"Splunk's HTTP Event Collector: events as {what}.",
        {200: says("All events are stored durably.", named("HecResult"))},
        tag="events", parameters=(*_parameters(splunk_hec.OF_HEC), _CONTENT_ENCODING),
        body=content(TEXT if raw else {"type": "object"}, "text/plain" if raw else JSON),
        refusals_as=_HEC_REFUSALS,
    )  # fmt: skip


def _ack(path: str, name: str) -> Route:
    return Route(
        "POST", path, splunk_hec.acknowledge, _INGEST, name,
        "Which acknowledgement ids of a channel stand for events that are stored durably.",
        {200: says("By id.", named("HecAcks"))},
        tag="events", parameters=_parameters(splunk_hec.OF_ACKS), body=content(_ACKS),
        refusals_as=_HEC_REFUSALS,
    )  # fmt: skip


def _health(path: str, name: str) -> Route:
    healthy = says("Healthy, code 17.", named("HecResult"))
    unhealthy = says("Not ready, code 18.", named("HecResult"))
    return Route(
        "GET", path, splunk_hec.health, PUBLIC, name,
        "Whether the HTTP Event Collector takes events.", {200: healthy, 503: unhealthy},
        tag="operation",
    )  # fmt: skip


def _bulk(method: str, path: str, name: str) -> Route:
    return Route(
        method, path, elasticsearch.bulk, _INGEST, name,
        "Elasticsearch's bulk interface: `create` and `index`, each item for itself. Under "
        "overload the connection is closed without an answer.",
        {200: says("What is not named under `error` is stored durably.", _BULK)},
        tag="events", parameters=(*_parameters(elasticsearch.OF_BULK), _CONTENT_ENCODING),
        body=content({"type": "object"}, NDJSON, JSON), refusals_as=_BULK_REFUSALS,
    )  # fmt: skip


_HEC = "/services/collector"
ROUTES_OF_SENDERS: tuple[Route, ...] = (
    _hec(_HEC, "hec"),
    _hec(f"{_HEC}/1.0", "hecV1"),
    _hec(f"{_HEC}/event", "hecEvent"),
    _hec(f"{_HEC}/event/1.0", "hecEventV1"),
    _hec(f"{_HEC}/raw", "hecRaw", raw=True),
    _hec(f"{_HEC}/raw/1.0", "hecRawV1", raw=True),
    _ack(f"{_HEC}/ack", "hecAck"),
    _ack(f"{_HEC}/ack/1.0", "hecAckV1"),
    _health(f"{_HEC}/health", "hecHealth"),
    _health(f"{_HEC}/health/1.0", "hecHealthV1"),
    _bulk("POST", "/_bulk", "bulk"),
    _bulk("PUT", "/_bulk", "bulkPut"),
    _bulk("POST", "/{index}/_bulk", "bulkOfIndex"),
    _bulk("PUT", "/{index}/_bulk", "bulkOfIndexPut"),
)
