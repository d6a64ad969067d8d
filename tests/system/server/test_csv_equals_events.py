"""CSV of pages and exports, over real stores, holds what the seen events hold."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from gateway_client import event
from gateways import Gateway, Start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters.postgres.database import SCHEMA
from tests.support.examples import examples
from tests.support.services.postgres import PostgresServer, installations

NAMES = ("Ann", "=bob", 'q"q', "a,b", "line\nline", "-1", "café", "@x")
COLUMNS = ("id", "tenant", "severity", "actor.name", "reason", "data.n", "data.note", "targets.urn",
           "data.none", "cursor")  # fmt: skip
READS = ["stream", "pull"]
Seen = dict[str, Any]


@pytest.fixture(params=["sqlite", f"postgres{max(installations())}"])
async def filled(
    request: pytest.FixtureRequest, start: Start, server_of: Callable[[str], PostgresServer]
) -> Any:
    """A gateway over each store, and keys: with columns that grants drop, and of which events."""
    async with AsyncExitStack() as stack:
        store = {}
        if request.param != "sqlite":
            server = server_of(request.param.removeprefix("postgres"))
            store["url"] = await stack.enter_async_context(server.database(SCHEMA))
        gateway = await start(store=store)
        for number in range(120):
            name = NAMES[number % len(NAMES)]
            await gateway.append(event(
                id=f"e{number}", tenant=("acme", "globex")[number % 2],
                category=("auth", "bill")[number % 3 % 2], severity=number % 6 + 1,
                actor={"id": f"u{number % 5}", "name": name}, reason=f"{name} was here",
                targets=[{"urn": f"k8s:x/{number % 4}"}, {"urn": name.replace("\n", " ")}],
                data={"n": -number, **({"note": [name, {"deep": number}]} if number % 4 else {})},
            ))  # fmt: skip
        dropping = {"tenants": ["acme"], "fields": {"drop": ["data.note"], "mask": ["reason"]}}
        nothing: Callable[[Seen], bool] = lambda seen: False  # noqa: E731
        yield gateway, [
            (await gateway.reader_key(), nothing),
            (
                await gateway.mint(
                    {"actions": READS, "categories": ["**"], **dropping},
                    {"actions": READS, "categories": ["**"], "tenants": ["globex"]},
                ),
                lambda seen: seen["tenant"] == "acme",
            ),
            (
                await gateway.mint(
                    {"actions": READS, "categories": ["auth"], "fields": {"mask": ["actor.name"]}},
                    {"actions": READS, "categories": ["bill"], "resources": ["k8s:x/*"],
                     "fields": {"drop": ["data.note"]}},
                    {"actions": READS, "categories": ["**"], "min_severity": 3},
                ),
                lambda seen: seen["category"] == "bill",
            ),
        ]  # fmt: skip


def written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def cell(seen: Seen, column: str, dropped: bool, raw: bool) -> str:
    values: list[Any] = [seen]
    for name in column.split("."):
        values = [
            inner[name]
            for value in values
            for inner in (value if isinstance(value, list) else [value])
            if isinstance(inner, dict) and name in inner
        ]
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    told = [one if isinstance(one, str) else written(one) for one in items]
    text = "; ".join(told)
    if not values and column == "data.note" and dropped:
        return "***"
    escaped = not raw and text[:1] in {*"=+-@\t\r"} and not isinstance(items[0], int)
    return f"'{text}" if escaped else text


@settings(
    max_examples=examples(20),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)
@given(data=st.data())
async def test_rows_are_the_events_that_a_plain_filter_leaves(
    filled: tuple[Gateway, list[tuple[str, Callable[[Seen], bool]]]], data: st.DataObject
) -> None:
    gateway, keys = filled
    key, drops = data.draw(st.sampled_from(keys))
    columns = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True))
    raw = data.draw(st.booleans())
    selectors: dict[str, str] = data.draw(
        st.sampled_from([{}, {"actor": "u1"}, {"min_severity": "4"}, {"filter": "data.n < -60"},
                         {"text": "bob"}, {"resource": "k8s:x/1"}])
    )  # fmt: skip
    params = {"category": "**", **selectors, "columns": ",".join(columns)}
    params |= {"raw": "1"} if raw else {}
    if data.draw(st.booleans()):
        path, params = "/v1/stream", {**params, "follow": "false", "from": "start"}
        order = 1
    else:
        path, order = "/v1/events", data.draw(st.sampled_from([1, -1]))
        params = {**params, "limit": "1000", "order": "asc" if order > 0 else "desc"}
    coding = data.draw(st.sampled_from(["identity", "gzip"]))
    chosen = (await gateway.pull(key, limit="1000", category="**", **selectors))["events"][::order]
    answer = await gateway.get(
        path, key=key, params=params, headers={"Accept": "text/csv", "Accept-Encoding": coding}
    )
    assert answer.status == 200, answer.body
    body = answer.body
    if answer.headers.get("Content-Encoding") == "gzip":
        body = gzip.decompress(body)
    head, *rows = csv.reader(io.StringIO(body.decode(), newline=""))
    assert head == columns
    assert rows == [[cell(seen, one, drops(seen), raw) for one in columns] for seen in chosen]
