"""Index templates for `elasticsearch`: every member that ECS documents have is mapped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.formats.ecs import ecs_encoder
from gateway.formats.format import FormatOptions
from tests.support.outbound_events import outbound_event

SHIPPERS = Path(__file__).parents[4] / "deploy" / "shippers"
FULL = {
    "time": "2026-01-31T12:00:00Z",
    "tenant": "acme",
    "outcome": "denied",
    "severity": 4,
    "actor": {"type": "user", "id": "u-1", "name": "ann", "key_id": "k"},
    "source": {"service": "sso", "ip": "203.0.113.7", "port": 443, "user_agent": "Mozilla"},
    "targets": [{"urn": "user:bob", "type": "user", "id": "bob", "name": "Bob"}, {"urn": "x:y"}],
    "request": {"id": "r-1", "trace_id": "t-1"},
    "reason": "because",
    "data": {"n": 1},
}


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict) and path != "audit.data":
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, path)
    else:
        yield path


def mapped(properties: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in properties.items():
        yield from mapped(field.get("properties", {}), f"{prefix}{name}.")
        if "type" in field:
            yield f"{prefix}{name}", field["type"]


def template(name: str) -> dict[str, str]:
    whole = orjson.loads((SHIPPERS / name).read_bytes())
    assert whole["index_patterns"] == ["audit-*"]
    assert whole["template"]["mappings"]["dynamic"] is False
    return dict(mapped(whole["template"]["mappings"]["properties"]))


@pytest.mark.parametrize(
    "name", ["elasticsearch-template.json", "elasticsearch-template-flattened.json"]
)
def test_every_member_of_a_document_is_mapped(name: str) -> None:
    encode = ecs_encoder(FormatOptions(original=True))
    found = set(leaves(orjson.loads(encode(outbound_event(**FULL).json))))
    # An address that is masked, and members that were hidden or left out.
    more = {"source.address", "audit.masked", "audit.pseudonymized", "audit.reduced"}
    assert found | more == template(name).keys()
    assert len(found) > 30


def test_free_content_is_kept_and_not_indexed_so_that_it_cannot_conflict() -> None:
    plain = orjson.loads((SHIPPERS / "elasticsearch-template.json").read_bytes())
    data = plain["template"]["mappings"]["properties"]["audit"]["properties"]["data"]
    assert data == {"type": "object", "enabled": False}
    assert template("elasticsearch-template-flattened.json")["audit.data"] == "flattened"
