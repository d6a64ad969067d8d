"""The table of routes says what a key needs, and handlers require just that."""

from __future__ import annotations

from gateway_client import Answer
from gateways import Gateway

from gateway.access.grants.grant import ACTIONS, IMPLIED_BY
from gateway.http.app import make_app
from gateway.http.openapi.route import Route
from gateway.http.routes.table import ROUTES

# What each route needs, written down a second time: a slip in the table lets somebody in.
ACTIONS_OF = {
    "ingest": ("ingest",),
    "ingestRecords": ("ingest",),
    "ingestRecordsOfCluster": ("ingest",),
    "receiveLogs": ("ingest",),
    **dict.fromkeys(
        (
            "hec",
            "hecV1",
            "hecEvent",
            "hecEventV1",
            "hecRaw",
            "hecRawV1",
            "hecAck",
            "hecAckV1",
            "bulk",
            "bulkPut",
            "bulkOfIndex",
            "bulkOfIndexPut",
        ),
        ("ingest",),
    ),
    "pull": ("pull",),
    "counts": ("pull",),
    "event": ("pull",),
    "stream": ("stream",),
    "streamPost": ("stream",),
    "ticket": ("stream", "pull"),
    "streams": ("ops.read", "stream"),
    "doctor": ("ops.read",),
    "status": ("ops.read",),
    "endStream": ("ops.act",),
    "consumers": ("stream", "pull", "usage.read"),
    "consumer": ("stream", "pull", "usage.read"),
    "putConsumer": ("stream", "pull", "keys.admin"),
    "acknowledge": ("stream", "pull", "keys.admin"),
    "rewindConsumer": ("stream", "pull", "keys.admin"),
    "deleteConsumer": ("stream", "pull", "keys.admin"),
    "keys": ("keys.read",),
    "makeKey": ("keys.admin",),
    "key": ("keys.read",),
    "changeKey": ("keys.admin",),
    "applyDeclarations": ("keys.admin",),
    "revokeKey": ("keys.admin",),
    "suspendKey": ("keys.admin",),
    "resumeKey": ("keys.admin",),
    "reviewKey": ("keys.read",),
    "rotateKey": ("keys.admin",),
    "confirmKey": ("keys.admin",),
    "keyDocument": ("keys.read", "usage.read"),
    "keyHistory": ("pull", "keys.read"),
    "keyUsage": ("usage.read",),
    "usage": ("usage.read",),
    "review": ("keys.read",),
    "findings": ("usage.read",),
    "expectFinding": ("keys.admin",),
    "noLongerExpectFinding": ("keys.admin",),
    "explain": ("keys.admin", "usage.read"),
    "simulate": ("keys.admin",),
    "preview": ("keys.admin",),
    "resolvePseudonym": ("pseudonyms.resolve",),
    "views": ("pull", "stream"),
    "view": ("pull", "stream"),
    "putView": ("pull", "stream"),
    "deleteView": ("pull", "stream"),
    "roles": ("keys.read",),
    "role": ("keys.read",),
    "putRole": ("keys.admin",),
    "deleteRole": ("keys.admin",),
    "destinations": ("ops.read",),
    "makeDestination": ("destinations.admin",),
    "destination": ("ops.read",),
    "changeDestination": ("destinations.admin",),
    "deleteDestination": ("destinations.admin",),
    "pauseDestination": ("ops.act",),
    "resumeDestination": ("ops.act",),
    "testDestination": ("ops.act",),
    "replayDestination": ("destinations.admin",),
    "cancelReplay": ("ops.act",),
    "setDestinationSecret": ("destinations.admin",),
    "deadLetters": ("ops.read",),
    "deleteDeadLetters": ("destinations.admin",),
    "deleteDeadLetter": ("destinations.admin",),
}
# A key that may pull and no more makes tickets of viewers alone: test_viewers.py.
TICKET_OF_A_VIEWER = ("ticket", "pull")
# These need a setting, or a ticket.
OF_VIEWERS = ("embed", "embedNamed", "openViewer")
WITH_KEY = [route for route in ROUTES if route.for_keys]
CATEGORIES = ["**", "gateway.**"]


async def call(gateway: Gateway, route: Route, key: str | None, query: str = "") -> Answer:
    """A request that gets no further than to be let in, or that changes nothing."""
    path = route.documented_path.replace("{id}", "x").replace("{name}", "x")
    path = path.replace("{secret}", "x").replace("{source}", "x").replace("{cluster}", "x")
    path = path.replace("{index}", "x").replace("{set}", "x")
    wants_nothing = {"Accept": "image/png"}
    return await gateway.request(
        route.method, path + query, key=key, json={}, headers=wants_nothing
    )


def implying(actions: tuple[str, ...]) -> set[str]:
    return {IMPLIED_BY[action] for action in actions if action in IMPLIED_BY}


async def key_with(gateway: Gateway, actions: tuple[str, ...]) -> str:
    return await gateway.mint({"actions": list(actions), "categories": CATEGORIES})


async def test_the_router_has_the_routes_of_the_table_and_no_others(gateway: Gateway) -> None:
    there_are = {
        (route.method, route.get_info().get("path") or route.get_info()["formatter"])
        for route in make_app(gateway.context).router.routes()
        if route.method != "HEAD"
    }
    assert there_are == {(route.method, route.documented_path) for route in ROUTES}


def test_each_route_needs_the_action_that_is_written_down_for_it() -> None:
    assert {route.name: route.actions for route in WITH_KEY} == ACTIONS_OF


async def test_a_key_without_the_action_of_a_route_is_refused(gateway: Gateway) -> None:
    keys = {
        actions: await key_with(
            gateway, tuple(sorted(set(ACTIONS) - set(actions) - implying(actions)))
        )
        for actions in {route.actions for route in WITH_KEY}
    }
    for route in WITH_KEY:
        answer = await call(gateway, route, keys[route.actions])
        if route.refusals_as is None:
            problem = answer.problem(403, "action_not_granted")
            assert problem["action"] == route.actions[-1], route.name
        assert answer.status == 403, route.name


async def test_a_key_with_one_of_the_actions_of_a_route_is_let_in(gateway: Gateway) -> None:
    keys = {action: await key_with(gateway, (action,)) for action in ACTIONS}
    for route in WITH_KEY:
        for action in route.actions:
            if (route.name, action) == TICKET_OF_A_VIEWER:
                continue
            status = (await call(gateway, route, keys[action])).status
            assert status in (200, 201, 204, 400, 404, 406, 422, 428), (route.name, action, status)


async def test_a_public_route_needs_no_key_and_takes_any_parameter(gateway: Gateway) -> None:
    for route in ROUTES:
        if route.public and route.name not in ("consoleFile", *OF_VIEWERS):
            assert (await call(gateway, route, None, "?x=1")).status == 200, route.name
            answer = await gateway.request("HEAD", route.path, key=None)
            assert (answer.status, answer.body) == (200, b""), route.name


async def test_an_unknown_parameter_is_told_only_to_a_key_that_may_use_the_route(
    gateway: Gateway,
) -> None:
    reader = await gateway.reader_key()
    (await gateway.get("/v1/roles?x=1", key=None)).problem(401, "missing_key")
    (await gateway.get("/v1/roles?x=1", key=reader)).problem(403, "action_not_granted")
    problem = (await gateway.get("/v1/roles?x=1", key=gateway.admin)).problem(
        400, "unknown_parameter"
    )
    assert (problem["parameter"], problem["allowed"]) == ("x", [])
    problem = (await gateway.get("/v1/events?x=1", key=reader)).problem(400, "unknown_parameter")
    assert (problem["parameter"], problem["allowed"][-1]) == ("x", "wait")
