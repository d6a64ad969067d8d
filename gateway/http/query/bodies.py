"""Small JSON bodies of requests, as they are checked and as the OpenAPI document has them."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from gateway.access.keys.lifecycle import MAX_REASON
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


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The members of a body; others are refused."""


class Reason(Body, frozen=True):
    """Why something is done."""

    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


BODIES: tuple[type[Body], ...] = (Reason,)
AnyBody = TypeVar("AnyBody", bound=Body)


def parse_body(raw: Any, kind: type[AnyBody]) -> AnyBody:
    """The decoded JSON of a body as its declaration. Raises `InvalidRequest` naming the member."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_in_words(str(error), kind)) from None


def _in_words(message: str, kind: type[Body]) -> str:
    """A message of the decoder, in the words of other refusals."""
    if found := _UNKNOWN.match(message):
        there_are = ", ".join(kind.__struct_fields__)
        return f"unknown member {found[1][:64]!r}; there are {there_are}"
    if found := _MISSING.match(message):
        return f"{found[1]}: is required"
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
