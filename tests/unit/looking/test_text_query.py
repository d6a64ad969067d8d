"""Search in text: what occurs in the values of an event as a key sees it, and nothing else."""

from __future__ import annotations

import json
import pickle
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.filters.expression import FilterCost, Undecided, compile_filter
from gateway.looking.condition import TextCondition, condition_of
from gateway.looking.text import TextQuery, fold, parse_text, values_of
from tests.support.examples import examples

EVENT: dict[str, Any] = {
    "cursor": "abc-00000000000000000042",
    "recorded_at": "2026-11-30T10:00:00.000000Z",
    "tenant": "acme",
    "category": "auth.session",
    "actor": {"id": "ann@example.com", "name": "Ann Müller"},
    "targets": [{"urn": "k8s:prod/pod/1"}, {"urn": "k8s:test/pod/2", "name": "web"}],
    "reason": "no such user",
    "data": {"note": "in the caf\u00e9", "port": 8443, "ok": True, "part": 1.5, "none": None,
             "deep": [{"x": ["found here"]}]},
}  # fmt: skip


def query(text: str, within: str | None = None) -> TextQuery:
    found = parse_text(text, within)
    assert found is not None
    return found


def found(text: str, within: str | None = None, event: dict[str, Any] = EVENT) -> bool:
    return query(text, within).matches(event)


@pytest.mark.parametrize(
    "text",
    ["ann", "ANN", "auth", "café", "CAFÉ", "müller", "ann café", '"found here"', "8443", "true",
     "-nothing", "ann -bob", "k8s:test", "2026-11-30", '-"found  here"', "USER",
     "such\tuser"],
)  # fmt: skip
def test_what_is_there_is_found(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize(
    "text",
    ["bob", "cafe", "ann bob", '"ann cafe"', "-ann", 'ann -"found here"', "note", "cursor",
     "abc-0000", "1.5", "null", '"user in"', "00042", "none"],
)  # fmt: skip
def test_what_is_not_there_is_not_found(text: str) -> None:
    assert not found(text)


def test_a_word_stands_within_one_value_and_different_words_in_different_ones() -> None:
    event = {"reason": "alpha", "data": {"a": "beta", "b": "gamma delta"}}
    assert found("alpha beta", event=event)
    assert found('"gamma delta"', event=event)
    assert not found('"alpha beta"', event=event)
    assert not found("alphabeta", event=event)
    assert not found('"beta gamma"', event=event)


def test_members_narrow_where_it_is_looked_for() -> None:
    assert found("ann", "actor")
    assert found("ann", "actor.id,data.note")
    assert not found("ann", "data")
    assert found("web", "targets.name")
    assert not found("web", "targets.urn")
    assert found("here", "data.deep.x")
    assert not found("-ann", "actor.name")
    assert found("-ann", "data.note")


@pytest.mark.parametrize("text", ["ss", "k", "i", "s"])
def test_letters_of_ascii_are_equal_to_letters_of_ascii_alone(text: str) -> None:
    strange = "\u017f\u017f \u212a \u0130 \u00df \u1e9e \ufb01"
    assert not found(text, event={"reason": strange})
    assert found("\u017f\u017f \u212a \u0130 \u00df", event={"reason": strange})


@given(st.text(max_size=30))
def test_folding_is_the_same_for_each_character_wherever_it_stands(text: str) -> None:
    assert fold(text) == "".join(map(fold, text))
    assert fold(fold(text)) == fold(text)
    assert fold(text.upper() if text.isascii() else text) == fold(text)


@pytest.mark.parametrize(
    "text",
    ["", "  ", '"', '"open', 'a "b', '""', '"  "', '-""', '"a"b', " ".join("abcdefghi"), "x" * 257,
     "a\0b", '-"open'],
)  # fmt: skip
def test_what_is_no_text_is_refused_and_says_what_to_do(text: str) -> None:
    with pytest.raises(InvalidRequest, match="text: "):
        parse_text(text, None)


@pytest.mark.parametrize("within", ["", "nothing", "actor.secret", "data.", "actor,,data",
                                    "reason.x", "cursor", "masked"])  # fmt: skip
def test_members_that_are_none_are_refused(within: str) -> None:
    with pytest.raises(InvalidRequest, match="text_in: "):
        parse_text("a", within)


def test_members_without_a_text_are_refused() -> None:
    assert parse_text(None, None) is None
    with pytest.raises(InvalidRequest, match="send text="):
        parse_text(None, "actor")


def test_equal_texts_are_equal_queries() -> None:
    assert query("b A -c", "data,actor") == query("a  B -C", "actor,data,actor")
    assert hash(query("a b")) == hash(query("b a"))
    assert query("a") != query("-a")


# Masks


@pytest.mark.parametrize(
    ("masked", "event"),
    [
        (["actor.name"], {"actor": {"id": "ann", "name": "***"}}),
        (["actor"], {"actor": {"id": "***", "name": "***"}}),
        (["data.note"], {"data": {"note": "***", "other": "ann"}}),
        (["targets.name"], {"targets": [{"urn": "ann", "name": "***"}, {"name": "***"}]}),
        (["reason"], {"reason": "***", "data": {"x": "ann"}}),
        (["data.a.b"], {"data": {"a": [{"b": "***"}, {"b": "***", "c": "ann"}]}}),
    ],
)
def test_no_word_occurs_in_a_masked_value_nor_in_what_stands_there(
    masked: list[str], event: dict[str, Any]
) -> None:
    shown = {**event, "masked": masked, "pseudonymized": ["source.ip"]}
    for word in ("***", "*", "masked", masked[0], "source.ip"):
        assert not found(word, event=shown), word
        assert found(f"-{word}", event=shown), word
        for path in masked:
            assert not found(word, path, event=shown)
            assert found(f"-{word}", path, event=shown)


def test_stars_that_were_sent_are_found_beside_masked_ones() -> None:
    shown = {"data": {"a": "***", "b": "***", "a.b": "***"}, "masked": ["data.a", "data.a.b"]}
    assert found("***", event=shown)
    assert values_of(shown) == ["***", "***"]


# What a store may look for


def test_needles_are_words_of_ascii_that_json_cannot_write_in_two_ways() -> None:
    assert query('ann "a phrase" café x/y a\\b q"r -not').needles == ("a phrase", "ann")


texts = st.text(
    st.sampled_from('abAB \u00e9\u00c9\u212a"\\/\x01\n1'), min_size=1, max_size=6
).filter(lambda text: text.strip(" \n"))
contents = st.recursive(
    texts | st.integers(-(2**63), 2**63) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(300))
@given(data=st.dictionaries(texts, contents, max_size=4), word=texts, escaped=st.booleans())
def test_json_without_a_needle_or_a_backslash_never_holds_the_word(
    data: dict[str, Any], word: str, escaped: bool
) -> None:
    one = TextQuery((fold(word),))
    raw = json.dumps({"data": data}, ensure_ascii=escaped)
    event = orjson.loads(raw)
    if "\\" not in raw and any(
        needle.encode() not in raw.encode().lower() for needle in one.needles
    ):
        assert not one.matches(event)
    flat = list(map(fold, leaves(data)))
    assert one.matches(event) == any(fold(word) in value for value in flat)


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for one in value for leaf in leaves(one)]
    return [json.dumps(value) if isinstance(value, bool | int) else value]


# Conditions


def test_a_filter_beside_a_text_must_hold_too_and_an_event_is_counted_once() -> None:
    for source, counted in (('tenant == "acme"', False), ('data.note.contains("caf")', True)):
        both = TextCondition(query("ann"), compile_filter(source))
        assert both.filter is not None
        assert both.filter.counted == counted
        for event, wanted in (
            (EVENT, True),
            ({**EVENT, "tenant": "other", "data": {"note": ""}}, False),
            ({**EVENT, "actor": {}}, False),
        ):
            cost = FilterCost()
            assert both.matches(event) == both.matches_at_cost(event, cost) == wanted
            assert cost.events == 1
    assert condition_of(None, None) is None
    assert condition_of(both.filter, None) is both.filter


def test_the_cost_of_a_text_grows_with_the_event_and_an_ordinary_one_is_free() -> None:
    small, large = FilterCost(), FilterCost()
    words = TextCondition(query("a b c d e f g h"))
    words.matches_at_cost(EVENT, small)
    words.matches_at_cost({"data": {"x": ["y"] * 10_000}}, large)
    assert small.steps <= 200 < 30_000 <= large.steps


@pytest.mark.parametrize(
    "data", [{"x": list(range(50_000))}, {"x": ["y"] * 50_000}, {"x": "\u00e9" * 50_000}]
)
def test_an_event_that_takes_long_is_left_to_another_process(data: dict[str, Any]) -> None:
    words, cost = TextCondition(query("nothing")), FilterCost()
    with pytest.raises(Undecided):
        words.matches_at_cost({"data": data}, cost, 5_000)
    assert cost.events == 0
    assert not words.matches_at_cost({"data": data}, cost)
    assert cost.events == 1
    assert cost.steps > 5_000


def test_conditions_are_equal_after_they_were_sent_to_another_process() -> None:
    both = TextCondition(query("ann -bob", "actor"), compile_filter("severity > 3"))
    assert pickle.loads(pickle.dumps(both)) == both
    assert hash(both) == hash(TextCondition(query("-bob ann", "actor"), both.filter))
