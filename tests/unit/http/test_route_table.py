"""The table of routes, and the page that is made of it."""

from __future__ import annotations

import pytest

from gateway.access.grants.grant import ACTIONS
from gateway.errors import InvalidRequest
from gateway.http.query.query import refuse_unknown
from gateway.http.routes.table import ROUTES
from tests.support.gateway_process import ROOT
from tests.support.http_reference import page

NEEDS_NO_KEY = {
    "/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/services/collector/health",
    "/services/collector/health/1.0", "/console/{file}", "/declaration.schema.json",
    "/embed", "/embed/{name}", "/v1/viewer/session",
}  # fmt: skip


def test_deploy_http_md_is_current() -> None:
    current = (ROOT / "deploy" / "http.md").read_text(encoding="utf-8") == page()
    assert current, "run .venv/bin/python -m tests.support.http_reference > deploy/http.md"


def test_every_route_stands_once_and_has_a_name_of_its_own() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert len({route.name for route in ROUTES}) == len(ROUTES)


def test_every_route_has_an_action_that_grants_know_or_is_one_of_few_public_ones() -> None:
    assert {route.path for route in ROUTES if route.public} == NEEDS_NO_KEY
    needed = {action for route in ROUTES for action in route.actions if route.for_keys}
    assert needed == set(ACTIONS)


def test_only_streams_and_public_routes_take_parameters_that_the_table_does_not_have() -> None:
    lenient = {route.path for route in ROUTES if not route.admitted}
    assert lenient == {"/v1/stream"}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (("category", "wait"), "; did you mean `category`?"),
        (("window", "step"), "; there are window, step"),
        ((), "; there are none here"),
    ],
)
def test_the_refusal_of_a_parameter_names_it_and_those_that_there_are(
    known: tuple[str, ...], said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        refuse_unknown(["categroy"], known)
    error = refused.value
    assert error.detail == f"unknown parameter 'categroy'{said}"
    assert error.code == "unknown_parameter"
    assert error.members == {"parameter": "categroy", "allowed": known}
