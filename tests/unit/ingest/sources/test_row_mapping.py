"""Rows become events, or events that say why not: never an error, never nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidSetting
from gateway.ingest.sources.row_mapping import MEMBERS, RowMapping

COLUMNS = {
    "id": "a", "time": "b", "tenant": "c", "category": "d", "action": "e", "outcome": "f",
    "severity": "g", "reason": "h", "data": "i", "targets": "j.list", "actor.id": "j.actor.id",
    "source.port": "k", "source.ip": "=10.0.0.1", "request.id": "l",
}  # fmt: skip
MAPPING = RowMapping("t", COLUMNS)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from(["2026-01-31T12:00:00Z", "auth", "user.login", "gateway", "gateway.x", "{",
                       '{"actor": {"id": "x"}}', "\x00", "success", "x" * 2000]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["actor", "id", "list", "x"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
rows = st.dictionaries(st.sampled_from("abcdefghijklm"), values)


@given(row=rows, key=st.text(max_size=300))
def test_every_row_makes_an_event(row: dict[str, Any], key: str) -> None:
    draft = MAPPING.draft(key, json.dumps(row))
    event = json.loads(b"{" + draft.tail)
    assert event["id"] == draft.id
    if draft.category == "gateway.rejected":
        assert event["data"]["rejected_item"]["reason"]
    else:
        assert not draft.category.startswith("gateway")
        assert draft.tenant != "gateway"
    assert MAPPING.draft(key, json.dumps(row)) == draft, "the same event each time"


@given(text=st.text(max_size=50))
def test_what_is_no_json_makes_an_event_too(text: str) -> None:
    event = json.loads(b"{" + MAPPING.draft("7", text + "]").tail)
    assert event["category"] == "gateway.rejected"
    assert event["data"]["rejected_item"]["content"].startswith(text[:1])
    assert event["data"]["key"] == "7"


@pytest.mark.parametrize("depth", [65, 900, 5000])
def test_a_row_nested_too_deeply_stands_under_its_own_category_without_that(depth: int) -> None:
    row = '{"d":"auth","e":"login","i":{"small":1,"deep":' + '{"x":' * depth
    draft = MAPPING.draft("7", row + "1" + "}" * depth + "}}")
    assert (draft.category, draft.action) == ("auth", "login")
    data = json.loads(b"{" + draft.tail)["data"]
    assert data["small"] == 1
    assert data["truncated"]["cut"] == ["data.deep"]
    assert data["truncated"]["reason"] == "nested deeper than 64 levels"


def test_a_row_that_is_too_large_keeps_who_what_and_when_and_nothing_raw() -> None:
    row = {"a": "id-1", "c": "acme", "d": "auth", "e": "login", "b": "2026-01-31T12:00:00Z",
           "i": {"x": "y" * 300_000}}  # fmt: skip
    draft = MAPPING.draft("7", json.dumps(row))
    assert (draft.id, draft.tenant, draft.category, draft.action) == (
        "id-1", "acme", "auth", "login",
    )  # fmt: skip
    event = json.loads(b"{" + draft.tail)
    assert event["time"] == "2026-01-31T12:00:00.000000Z"
    assert event["data"]["truncated"]["reason"] == "larger than 262144 bytes"
    assert "yyy" not in json.dumps(event)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"x": 1.50}, {"x": 1.5}),
        ([1, 2], {"value": [1, 2]}),
        ("text", {"value": "text"}),
        (None, None),
    ],
)
def test_data_is_an_object_or_is_put_into_one(value: Any, data: Any) -> None:
    row = {"d": "auth", "e": "login", "i": value}
    assert json.loads(b"{" + MAPPING.draft("7", json.dumps(row)).tail).get("data") == data


def test_numbers_stay_digit_for_digit() -> None:
    draft = MAPPING.draft("7", '{"d":"auth","e":"login","i":{"n":0.10000000000000000000000001}}')
    assert b'"n":0.10000000000000000000000001' in draft.tail


def test_an_id_comes_from_the_row_or_else_from_its_key() -> None:
    for own, wanted in (("x", "x"), (7, "7"), (None, "t:5"), ("", "t:5"), ("é", "t:5")):
        row = {"a": own, "d": "auth", "e": "login"}
        assert MAPPING.draft("5", json.dumps(row)).id == wanted
    assert MAPPING.row_id("5") == MAPPING.prefix + "5" == "t:5"
    long = MAPPING.draft("k" * 200, '{"d":"auth","e":"login"}').id
    assert long == MAPPING.row_id("k" * 200)
    assert long.startswith("sha256-")


def test_a_member_that_is_unknown_or_missing_is_named() -> None:
    with pytest.raises(InvalidSetting, match=r"no member 'actor\.mail'") as caught:
        RowMapping("t", {**COLUMNS, "actor.mail": "x"})
    assert all(member in caught.value.detail for member in MEMBERS)
    with pytest.raises(InvalidSetting, match="category is needed"):
        RowMapping("t", {"action": "x"})


def test_a_constant_or_text_may_be_a_number() -> None:
    mapping = RowMapping(
        "t", {"category": "=a", "action": "=b", "severity": "=4", "source.port": "p"}
    )
    event = json.loads(b"{" + mapping.draft("7", '{"p": "443"}').tail)
    assert (event["severity"], event["source"]["port"]) == (4, 443)


def test_rows_that_make_no_event_are_counted() -> None:
    mapping = RowMapping("t", {"category": "=a", "action": "verb"})
    mapping.draft("1", '{"verb": "pay"}')
    assert mapping.marked == 0
    mapping.draft("2", "{}")
    mapping.draft("3", None)
    assert mapping.marked == 2


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("category", "="), ("category", "=..."), ("category", "=gateway.rows"), ("category", ""),
        ("action", "="), ("action", "verb..x"), ("tenant", "=ACME"),
        ("tenant", "="), ("tenant", "=gateway"), ("outcome", "=ok"), ("severity", "=high"),
        ("severity", "="), ("time", "=yesterday"), ("time", "="), ("actor.id", "payload."),
        ("data", ".x"),
    ],
)  # fmt: skip
def test_a_mapping_of_which_only_rejected_or_wrong_events_can_come_is_refused(
    member: str, value: str
) -> None:
    with pytest.raises(InvalidSetting, match=re.escape(f"store.columns: {member} = {value!r}: ")):
        RowMapping("t", {"category": "=a", "action": "verb", member: value})


@pytest.mark.parametrize(
    ("member", "value"),
    [("category", "=Auth.Login"), ("severity", "=4"), ("time", "=2026-01-31T12:00:00Z"),
     ("tenant", "=acme"), ("outcome", "=denied"), ("reason", "="), ("actor.id", "payload.user.id")],
)  # fmt: skip
def test_constants_that_events_can_have_are_taken(member: str, value: str) -> None:
    RowMapping("t", {"category": "=a", "action": "verb", member: value})
