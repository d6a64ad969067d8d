"""Declared members of JSON objects, none of them twice."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import Meta

from gateway.errors import InvalidRequest

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(
    r"Expected `(?P<kinds>[\w |]+)`(?:, got `\w+`|(?: of length)? (?P<bound><=|>=) (?P<limit>\d+))"
    r"(?: - at `\$\.?(?P<path>.*)`)?"
)
_WORDS = {
    "str": "a string", "int": "a whole number", "bool": "true or false", "array": "a list",
    "object": "an object",
}  # fmt: skip
_BOUNDS = {"<=": "at most", ">=": "at least"}


def about(description: str | None = None, **schema: Any) -> Meta:
    """Additions to the schema of a member, which no decoder checks."""
    return Meta(description=description, extra_json_schema=schema or None)


def reference(name: str) -> Meta:
    """Reference to the schema of that name, whatever the type of the member."""
    return about(**{"$ref": f"#/components/schemas/{name}"})


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Members of a body; others are refused."""


AnyBody = TypeVar("AnyBody", bound=Body)


def parse_body(raw: Any, kind: type[AnyBody], *, code: str | None = None) -> AnyBody:
    """Body of a kind from its decoded JSON. Raises `InvalidRequest`, which names the member."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_in_words(str(error), kind), code=code) from None


def _in_words(message: str, kind: type[Body]) -> str:
    """Error message for one of the decoder."""
    if found := _UNKNOWN.match(message):
        there_are = ", ".join(kind.__struct_fields__)
        return f"unknown member {found[1][:64]!r}; there are {there_are}"
    if found := _MISSING.match(message):
        return f"{found[1]}: required{_meaning(kind, found[1])}"
    found = _EXPECTED.fullmatch(message)
    if found is None:
        return message
    if not found["path"]:
        return "the body must be a JSON object"
    kinds = found["kinds"].split(" | ")
    words = " or ".join(_WORDS[one] for one in kinds if one in _WORDS)
    if not found["bound"]:
        return f"{found['path']}: {words} is needed"
    unit = " characters" if kinds == ["str"] else ""
    return f"{found['path']}: {words} of {_BOUNDS[found['bound']]} {found['limit']}{unit}"


def _meaning(kind: type[Body], member: str) -> str:
    """Purpose or allowed values of a member, if declared."""
    made = msgspec.json.schema_components([kind])[1][kind.__name__]["properties"][member]
    if "enum" in made:
        return f", one of {', '.join(made['enum'])}"
    about = made.get("description", "").rstrip(".")
    return about and f", {about[0].lower()}{about[1:]}"


def refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    """Raise `InvalidRequest` for a duplicate member: one of them would be silently ignored.

    For `json.loads(.., object_pairs_hook=refuse_repeated)`, whose result is not used.
    """
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidRequest(f"the member {name[:64]!r} stands twice; send it once")
        seen.add(name)
