"""Requests are counted by labels with closed sets of values."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from gateway.http.metrics.declarations import LABELLED
from gateway.http.request.admission import _REASONS
from gateway.http.response.request_metrics import (
    KINDS,
    REFUSALS,
    STATUSES,
    RequestMetrics,
    counted_as,
)
from gateway.http.routes.table import ROUTES

REFUSING = {"Unauthorized", "Forbidden", "CursorGone", "TooManyRequests", "TooFast", "Denied"}


def codes() -> Iterator[str]:
    """What errors of these kinds, and decisions, say as their code where that is written out."""
    for file in Path(gateway.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name in REFUSING:
                assigned = [one for one in node.body if isinstance(one, ast.Assign)]
                yield from texts(
                    [one.value for one in assigned if ast.unparse(one.targets[0]) == "code"]
                )
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "Denied":
                yield from texts(node.args)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in REFUSING:
                yield from texts([one.value for one in node.keywords if one.arg == "code"])


def texts(nodes: list[ast.expr]) -> Iterator[str]:
    return (
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_every_code_of_a_refusal_is_a_value_of_the_label() -> None:
    found = {*codes(), *_REASONS}
    assert {"invalid_key", "key_throttled", "own_case", "action_not_granted"} <= found
    assert found <= set(REFUSALS)


def test_every_answer_of_every_route_is_a_series() -> None:
    [requests] = [metric for metric in LABELLED if metric.name == "requests_total"]
    for route in ROUTES:
        answered = {STATUSES[max(status // 100 - 2, 0)] for status in route.answers}
        for status in answered | {"4xx", "5xx"}:
            assert (counted_as(route.documented_path), status) in requests.values


def test_what_no_list_has_is_counted_as_other() -> None:
    metrics = RequestMetrics()
    metrics.observe("", 404, "not_found", 0.1)
    metrics.observe("GET /v1/keys", 403, "from_a_client", 0.1)
    metrics.observe("GET /v1/keys", 401, "invalid_key", 0.1)
    assert metrics.answers == {("other", "4xx"): 1, ("/v1/keys", "4xx"): 2}
    assert metrics.refusals == {"other": 1, "invalid_key": 1}


def test_refused_sign_ins_by_key_are_counted() -> None:
    metrics = RequestMetrics()
    metrics.observe("POST /v1/session", 201, "", 0.1)
    metrics.observe("POST /v1/session", 401, "invalid_key", 0.1, 2)
    metrics.observe("GET /v1/session", 401, "missing_session", 0.1)
    assert metrics.sign_ins == {("key", "refused"): 2}


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("GET /v1/counts", "look"),
        ("POST /v1/events", "ingest"),
        ("POST /v1/ingest/{source}", "ingest"),
        ("POST /v1/logs", "ingest"),
        ("POST /services/collector/event", "ingest"),
        ("POST /{index}/_bulk", "ingest"),
        ("GET /v1/events/{id}", "page"),
        ("GET /v1/stream", "stream"),
        ("POST /v1/keys/{id}/rotate", "keys"),
        ("GET /v1/keys/{id}/document", "review"),
        ("POST /v1/authz/explain", "review"),
        ("GET /healthz", "other"),
        ("", "other"),
    ],
)
def test_requests_of_one_kind_share_a_histogram(route: str, kind: str) -> None:
    metrics = RequestMetrics()
    metrics.observe(route, 101, "", 0.1)
    assert {one: int(sum(metrics.seconds[one].cells[:-1])) for one in KINDS} == {
        one: int(one == kind) for one in KINDS
    }
    assert [*metrics.answers.values()] == [1]
    assert next(iter(metrics.answers))[1] == "2xx", "an opened WebSocket is a success"
