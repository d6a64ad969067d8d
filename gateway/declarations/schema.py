"""JSON Schema of files of declarations, for editors, made of the declarations of their members."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import msgspec

from gateway.access.grants.grant import Grant
from gateway.access.keys.key_limits import KeyLimits
from gateway.declarations.declared import KEY_PATTERN, DeclaredSet, SecretSource

NAME = "declaration.schema.json"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = re.compile("#/components/schemas/")


def made_schema() -> dict[str, Any]:
    """The schema, from the types."""
    [reference], found = msgspec.json.schema_components(
        [DeclaredSet], ref_template="#/$defs/{name}"
    )
    _, others = msgspec.json.schema_components(
        [Grant, KeyLimits, SecretSource], ref_template="#/$defs/{name}"
    )
    whole = {name: _plain(schema) for name, schema in {**others, **found}.items()}
    whole["KeyLimits"]["additionalProperties"] = False
    top = whole.pop(str(reference["$ref"]).rpartition("/")[2])
    top["properties"]["keys"]["propertyNames"] = {"pattern": f"^{KEY_PATTERN}$"}
    # Read from several files, of which one names the set.
    top.pop("required")
    return {
        "$schema": _DIALECT, "title": "Declarations of an audit log gateway", **top, "$defs": whole
    }  # fmt: skip


def schema_text() -> str:
    """The schema as it is shipped."""
    return json.dumps(made_schema(), indent=1, ensure_ascii=False) + "\n"


def shipped_schema() -> bytes:
    """The shipped file."""
    return resources.files("gateway.declarations").joinpath(NAME).read_bytes()


def _plain(part: Any) -> Any:
    if isinstance(part, list):
        return [_plain(one) for one in part]
    if isinstance(part, str):
        return _REFERENCE.sub("#/$defs/", part).replace(r"\A", "^").replace(r"\Z", "$")
    if not isinstance(part, dict):
        return part
    # References to what a checker reads by itself have no other members.
    named = isinstance(part.get("title"), str)
    return {name: _plain(value) for name, value in part.items() if not (named and name == "title")}
