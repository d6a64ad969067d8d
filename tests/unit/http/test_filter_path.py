"""`filter_path`: which members of an answer are wanted."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.http.receivers.filter_path import filtered

ANSWER: dict[str, Any] = {
    "took": 1,
    "errors": True,
    "items": [
        {"create": {"_id": "a", "status": 201}},
        {"index": {"_id": "b", "status": 400, "error": {"type": "t", "reason": "r"}}},
    ],
}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ("took", {"took": 1}),
        ("errors,items.*.error.type", {
            "errors": True, "items": [{"index": {"error": {"type": "t"}}}]}),
        ("items.*.stat*", {"items": [{"create": {"status": 201}}, {"index": {"status": 400}}]}),
        ("items.create", {"items": [{"create": {"_id": "a", "status": 201}}]}),
        ("**.reason", {"items": [{"index": {"error": {"reason": "r"}}}]}),
        ("**", ANSWER),
        ("nothing", {}),
        ("", ANSWER),
        ("-took", ANSWER),
        ("**." * 100 + "x", ANSWER),
        ("a" * 2000, ANSWER),
    ],
)  # fmt: skip
def test_an_answer_has_the_members_that_are_wanted(paths: str, expected: dict[str, Any]) -> None:
    assert filtered(ANSWER, paths) == expected
