"""Documents of the format `ecs`, held against the fields that Elastic publishes for the schema."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import given

from gateway.formats.registry import make_formats
from tests.setup_clients import node_program
from tests.support.event_strategies import generated, shown_events
from tests.support.machine_time import patience

ECS = make_formats()["ecs"]
# What is not of the schema stands here, and nowhere else.
OURS = ("audit",)


@cache
def ecs_fields() -> dict[str, Any]:
    script = Path(__file__).with_name("ecs_fields.mjs")
    printed = subprocess.run(
        [str(node_program()), str(script)], capture_output=True, check=True, timeout=patience(60)
    ).stdout
    return json.loads(printed)  # type: ignore[no-any-return]


def leaves(members: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by their names with dots; `labels` is one."""
    for name, value in members.items():
        whole = f"{path}{name}"
        if isinstance(value, dict) and whole != "labels":
            yield from leaves(value, f"{whole}.")
        else:
            yield whole, value


def check_value(field: dict[str, Any], value: Any) -> None:
    kind = field["type"]
    if kind == "ip":
        assert ipaddress.ip_address(value).version in (4, 6)
        assert "%" not in value
    elif kind == "date":
        datetime.fromisoformat(value.replace("Z", "+00:00"))
    elif kind == "long":
        assert type(value) is int
        assert abs(value) < 2**63
    elif kind == "object":
        assert all(type(label) is str for label in value.values())
    else:
        assert kind in ("keyword", "match_only_text", "wildcard")
        assert type(value) is str
    assert field.get("values") is None or value in field["values"]


@given(shown_events())
@generated(10_000, share=50)
def test_each_field_is_one_of_the_schema_and_has_its_type(native: bytes) -> None:
    made = json.loads(ECS.encode(native))
    for name in OURS:
        made.pop(name, None)
    assert made["ecs"]["version"] == "9.4.0"
    for name, value in leaves(made):
        field = ecs_fields().get(name)
        assert field is not None, name
        assert isinstance(value, list) == field["list"], name
        for one in value if field["list"] else [value]:
            check_value(field, one)
