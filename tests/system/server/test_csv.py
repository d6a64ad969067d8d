"""Events as CSV: pages and exports, columns, cells, and what masks hide of them."""

from __future__ import annotations

import csv
import io

import pytest
from gateway_client import Answer, event
from gateways import Gateway

from gateway.formats.csv import DEFAULT_COLUMNS

CSV = {"Accept": "text/csv"}
EXPORT = "/v1/stream?follow=false&from=start"


def rows(answer: Answer) -> list[list[str]]:
    assert answer.status == 200, answer.body[:500]
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.body.decode(), newline="")))


@pytest.mark.parametrize("path", ["/v1/events?x", EXPORT])
async def test_csv_has_the_usual_columns_and_a_row_per_event(gateway: Gateway, path: str) -> None:
    path = path.replace("?x", "?limit=10")
    await gateway.send(
        event(id="1", tenant="acme", actor={"id": "ann", "name": "Ann, \"A\""},
              targets=[{"urn": "a"}, {"urn": "b"}]),
        event(id="2"),
    )  # fmt: skip
    seen = (await gateway.pull())["events"]
    answer = await gateway.request("GET", path, headers=CSV)
    head, *found = rows(answer)
    assert answer.body.count(b"\r\n") == 3
    assert tuple(head) == DEFAULT_COLUMNS
    first = dict(zip(head, found[0], strict=True))
    assert first["actor.name"] == 'Ann, "A"'
    assert first["targets.urn"] == "a; b"
    assert [dict(zip(head, row, strict=True))["cursor"] for row in found] == [
        one["cursor"] for one in seen
    ]
    assert dict(zip(head, found[1], strict=True))["actor.id"] == ""
