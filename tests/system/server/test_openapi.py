"""`/openapi.json` says what there is: no route, parameter or status more or less."""

from __future__ import annotations

import re
from typing import Any

import pytest
from gateway_client import event
from gateways import Gateway
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from open_streams import Refused, open_stream
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.access.grants.grant import Grant, When
from gateway.errors import GatewayError
from gateway.http.app import DOCUMENT, make_app
from gateway.http.query.query import (
    BY_ID,
    FINDINGS,
    HISTORY,
    MAX_LIMIT_PAGE,
    MAX_WAIT,
    PAGE,
    STREAM,
    USAGE,
)
from gateway.http.routes.table import ROUTES

METHODS = ("get", "put", "post", "patch", "delete")


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): item[method]
        for path, item in DOCUMENT["paths"].items()
        for method in METHODS
        if method in item
    }


def names(operation: dict[str, Any], where: str) -> list[str]:
    return [one["name"] for one in operation.get("parameters", []) if one["in"] == where]


def validator_of(schema: str) -> Any:
    pointer = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    return Draft202012Validator(pointer)


def valid(answer: Any, schema: str) -> None:
    """Fail unless the answer is what the document says of it."""
    validator_of(schema).validate(answer)


async def test_the_document_is_served_as_it_is_without_a_key(gateway: Gateway) -> None:
    answer = await gateway.get("/openapi.json", key=None)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json() == DOCUMENT


def test_the_document_is_valid_openapi_3_1() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


async def test_it_has_the_routes_and_methods_that_there_are_and_no_others(
    gateway: Gateway,
) -> None:
    app = make_app(gateway.context)
    there_are = set()
    for route in app.router.routes():
        assert route.resource is not None
        # A pattern behind a name, as in `{id:.+}`, is not part of the name.
        path = re.sub(r"\{(\w+):[^}]+\}", r"{\1}", route.resource.canonical)
        if route.method != "HEAD":
            there_are.add((route.method, path))
    assert there_are == set(operations())


@pytest.mark.parametrize(
    ("method", "path", "parameters"),
    [
        ("GET", "/v1/events", PAGE),
        ("GET", "/v1/events/{id}", BY_ID),
        ("GET", "/v1/stream", (*STREAM, "ticket")),
        ("GET", "/v1/keys/{id}/history", HISTORY),
        ("GET", "/v1/keys/{id}/usage", USAGE),
        ("GET", "/v1/findings", FINDINGS),
    ],
)
def test_the_query_parameters_are_those_that_are_known(
    method: str, path: str, parameters: tuple[str, ...]
) -> None:
    documented = names(operations()[method, path], "query")
    assert len(documented) == len(set(documented))
    assert set(documented) == set(parameters)


def test_every_part_of_a_path_is_a_parameter() -> None:
    for (_, path), operation in operations().items():
        assert set(re.findall(r"\{(\w+)\}", path)) == set(names(operation, "path"))


def test_bounds_are_those_of_the_code() -> None:
    schemas = {
        one["name"]: one["schema"] for one in operations()["GET", "/v1/events"]["parameters"]
    }
    assert schemas["limit"]["maximum"] == MAX_LIMIT_PAGE
    assert schemas["wait"]["maximum"] == MAX_WAIT


def test_grants_have_the_members_that_are_known() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas["Grant"]["properties"]) == set(Grant.__struct_fields__)
    assert set(schemas["When"]["properties"]) == set(When.__struct_fields__)


# Identity providers add parameters of their own.
PASSES_OVER = "/v1/session/oidc/callback"
# Paths whose refusals are no problem documents.
RENDERED = {route.documented_path for route in ROUTES if route.refusals_as is not None}


@pytest.mark.parametrize(("method", "path"), [one for one in operations() if "/v1/" in one[1]])
async def test_a_parameter_that_is_not_known_is_refused_by_name_everywhere(
    gateway: Gateway, method: str, path: str
) -> None:
    address = re.sub(r"\{\w+\}", "x", path)
    answer = await gateway.request(method, f"{address}?categroy=auth", key=gateway.admin, json={})
    if path == PASSES_OVER:
        assert b"no_provider" in answer.body
    elif (method, path) == ("POST", "/v1/stream"):
        assert "not in both" in answer.problem(400, "invalid_request")["detail"]
    elif path in RENDERED:
        assert (answer.status, b"'categroy'" in answer.body) == (400, True)
    else:
        assert answer.problem(400, "unknown_parameter")["parameter"] == "categroy"


def test_every_status_of_an_error_has_a_response() -> None:
    def statuses(kind: type[GatewayError]) -> set[int]:
        return {kind.status}.union(*(statuses(sub) for sub in kind.__subclasses__()))

    documented = {int(name.removeprefix("Problem")) for name in DOCUMENT["components"]["responses"]}
    # 405 is for what is not in the document, and 500 for what nobody meant.
    assert documented == statuses(GatewayError) - {405, 500}


def test_every_schema_and_response_is_used() -> None:
    text = str(DOCUMENT)
    for kind in ("schemas", "responses"):
        for name in DOCUMENT["components"][kind]:
            assert f"'#/components/{kind}/{name}'" in text, name


async def test_what_the_gateway_answers_is_what_the_document_says(gateway: Gateway) -> None:
    grant = {"actions": ["pull"], "categories": ["auth.*"], "tenants": ["acme"]}
    admin: dict[str, Any] = {"key": gateway.admin}
    sent = [event(id="x", tenant="a", targets=[{"urn": "u"}], actor={"id": "i"}), event(id="x")]
    for one in sent:
        valid(one, "NewEvent")
    valid((await gateway.post("/v1/events", json=sent)).json(), "Ingested")
    valid(await gateway.pull(), "Page")
    valid((await gateway.get("/v1/events/x?tenant=a")).json(), "Event")
    valid((await gateway.get("/v1/events/x")).json(), "Problem")
    asked = {"name": "n", "purpose": "p", "owner": "o", "grants": [grant], "expires_in": "1h"}
    valid(asked, "NewKey")
    minted = (await gateway.post("/v1/keys", json=asked, **admin)).json()
    valid(minted, "MintedKey")
    path = f"/v1/keys/{minted['id']}"
    valid((await gateway.get(path, **admin)).json(), "KeyInUse")
    valid((await gateway.get("/v1/keys", **admin)).json(), "KeyList")
    rotated = (await gateway.post(path + "/rotate", json={"overlap": "1h"}, **admin)).json()
    valid(rotated, "MintedKey")
    valid((await gateway.get(path, **admin)).json(), "KeyInUse")
    for change in ("suspend", "resume", "revoke"):
        path = f"/v1/keys/{rotated['id']}/{change}"
        valid((await gateway.post(path, json={"reason": "r"}, **admin)).json(), "Key")
    key = f"/v1/keys/{minted['id']}"
    valid((await gateway.get(key + "/history", **admin)).json(), "Page")
    valid((await gateway.get(key + "/usage?window=1h&step=15m", **admin)).json(), "UsageRows")
    valid((await gateway.get("/v1/findings", **admin)).json(), "FindingList")
    role = {"description": "d", "grants": [grant]}
    valid(role, "NewRole")
    answer = await gateway.request("PUT", "/v1/roles/watcher", json=role, **admin)
    assert answer.status == 201
    valid(answer.json(), "Role")
    valid((await gateway.get("/v1/roles", **admin)).json(), "RoleList")
    valid((await gateway.post("/v1/tickets", json={"category": "auth"})).json(), "Ticket")
    question = {"key": minted["id"], "action": "pull", "category": "auth", "tenant": "b"}
    valid(question, "Question")
    valid((await gateway.post("/v1/authz/explain", json=question, **admin)).json(), "Explanation")
    proposal = {"key": minted["id"], "grants": [grant]}
    valid(proposal, "Proposal")
    valid((await gateway.post("/v1/authz/simulate", json=proposal, **admin)).json(), "Simulation")
    answer = await gateway.post("/v1/events", json=[{"x": 1}, {"category": 5}])
    valid(answer.problem(422, "invalid_events"), "EventsProblem")
    with pytest.raises(Refused) as refused:
        await open_stream(gateway, "sse", after="other-" + "0" * 20)
    valid(refused.value.answer.problem(410, "cursor_unknown"), "GoneProblem")
    skipped = await gateway.pull(after="other-" + "0" * 20, on_gap="skip")
    valid(skipped, "Page")
    valid(skipped["gap"], "Gap")


async def test_what_the_document_refuses_the_gateway_refuses_too(gateway: Gateway) -> None:
    validator = validator_of("NewEvent")
    for wrong in (
        {}, {"category": "a"}, event(severity=0), event(severity=7), event(outcome="x"),
        event(id=""), event(id="ä"), event(id="x" * 129), event(tenant="A"), event(tenant=""),
        event(category="A"), event(category="a..b"), event(category="a" * 65), event(data=[]),
        event(actor={"x": "y"}), event(source={"port": 65536}), event(targets=[{}] * 33),
        event(reason="x" * 1025), event(more=1), event(recorded_at="2026-01-01T00:00:00Z"),
        event(actor={"id": "x" * 257}), event(targets=[{"urn": "a\nb"}]), event(outcome=None),
        event(source={"user_agent": "x" * 1025}), event(request={"trace_id": "x" * 257}),
    ):  # fmt: skip
        assert not validator.is_valid(wrong), wrong
        (await gateway.post("/v1/events", json=wrong)).problem(422, "invalid_events")
