"""Bodies are refused in words that name the member and what it has to be."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from msgspec import Meta

from gateway.access.keys.issuance import NewKeyBody
from gateway.errors import InvalidRequest
from gateway.http.openapi.schemas import schemas_of
from gateway.http.query.bodies import QuestionBody, ReasonBody
from gateway.json_members import Body, parse_body


class Sample(Body, frozen=True):
    name: str
    word: Annotated[str, Meta(max_length=3)] = ""
    number: Annotated[int, Meta(ge=1, le=5, description="How many.")] = 1
    sure: bool = False
    one_or_more: str | list[str] = ""


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        ([], "the body must be a JSON object"),
        (None, "the body must be a JSON object"),
        ({}, "name: required"),
        ({"name": None}, "name: a string is needed"),
        ({"name": "", "word": "four"}, "word: a string of at most 3 characters"),
        ({"name": "", "number": 0}, "number: a whole number of at least 1"),
        ({"name": "", "number": 6}, "number: a whole number of at most 5"),
        ({"name": "", "number": True}, "number: a whole number is needed"),
        ({"name": "", "sure": 1}, "sure: true or false is needed"),
        ({"name": "", "one_or_more": 1}, "one_or_more: a string or a list is needed"),
        ({"name": "", "one_or_more": [1]}, "one_or_more[0]: a string is needed"),
        (
            {"name": "", "nmae": ""},
            "unknown member 'nmae'; there are name, word, number, sure, one_or_more",
        ),
        ({"x`y\n": 1}, "unknown member 'x`y\\n'; there are name, word, number, sure, one_or_more"),
    ],
)
def test_a_wrong_body_is_refused_by_the_member_that_is_wrong(raw: Any, detail: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_body(raw, Sample)
    assert (refused.value.code, refused.value.detail) == ("invalid_request", detail)


def test_a_member_that_is_missing_is_named_with_its_meaning_and_the_code_of_the_body() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_body({"name": "n"}, NewKeyBody, code="invalid_key_request")
    assert refused.value.code == "invalid_key_request"
    assert refused.value.detail == "purpose: required, the one thing it is for"
    with pytest.raises(InvalidRequest, match="action: required, one of stream, pull, "):
        parse_body({"key": "k"}, QuestionBody)


def test_what_is_left_out_has_its_default() -> None:
    assert parse_body({"name": "n"}, Sample) == Sample(name="n")
    assert parse_body({}, ReasonBody).reason == ""


def test_the_schema_of_a_body_says_what_is_checked() -> None:
    assert schemas_of([Sample])["Sample"] == {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "word": {"type": "string", "maxLength": 3, "default": ""},
            "number": {
                "type": "integer", "minimum": 1, "maximum": 5, "default": 1,
                "description": "How many.",
            },
            "sure": {"type": "boolean", "default": False},
            "one_or_more": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
                "default": "",
            },
        },
        "required": ["name"],
        "additionalProperties": False,
    }  # fmt: skip


def test_a_question_gives_what_was_sent_and_nothing_else() -> None:
    sent = {"key": "k", "action": "pull", "resource": [], "event": {"a": 1}}
    assert parse_body(sent, QuestionBody).given() == {**sent, "address": None}
