"""Copies in events of records, found by the record under `data`."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from gateway.access.grants.copies import DeclaredCopies, RecordCopies, declare_copies
from gateway.access.grants.copies import declared_copies as declared
from gateway.access.grants.mask import Masks, masked
from gateway.event import Event
from gateway.ingest.mapping.path import parse_condition
from gateway.ingest.mapping.record_test import ConditionTest
from gateway.ingest.sources.catalog import Sources

_HEAD = (
    b'{"cursor":"' + b"0" * 31 + b'","recorded_at":"x","id":"1","category":"app","actor":{"id":"s"}'
)


@pytest.fixture(autouse=True)
def _shipped() -> None:
    declare_copies(Sources({}).copies())


def event_with(data: bytes, category: str = "app") -> Event:
    return Event(
        1, "t", category, "a", "unknown", 1, "s", "", b"", _HEAD + b',"data":' + data + b"}"
    )


def shown(data: bytes, category: str = "app") -> Any:
    event = event_with(data, category)
    return json.loads(masked(event, Masks(mask=("actor.id",))).json)["data"]


OCSF = b'"class_uid":1,"time":1,"metadata":{}'


def test_a_record_is_known_however_its_names_are_escaped() -> None:
    data = b'{%b,"actor":{"user":{"uid":"s"}}}' % OCSF.replace(b"class_uid", b"class\\u005fuid")
    assert shown(data)["actor"] == {"user": {"uid": "***"}}


def test_a_record_that_was_cut_is_still_known() -> None:
    data = b'{"class_uid":1,"time":1,"actor":{"user":{"uid":"s"}},"truncated":{"cut":["data.%b"]}}'
    assert shown(data % b"metadata")["actor"] == {"user": {"uid": "***"}}
    assert shown(data % b"other")["actor"] == {"user": {"uid": "s"}}


@pytest.mark.parametrize("text", ['{"user":{"uid":"s"}}', ' [{"user":1}]', '{"user'])
def test_json_in_a_text_is_masked_as_a_whole(text: str) -> None:
    data = b'{%b,"actor":%b}' % (OCSF, json.dumps(text).encode())
    event = masked(event_with(data), Masks(drop=("actor.id",)))
    assert json.loads(event.json)["data"]["actor"] == "***"
    assert json.loads(event.json)["masked"] == ["data.actor"]


def test_other_texts_stay_where_a_copy_would_be_within() -> None:
    data = b'{%b,"actor":"[info] a line"}' % OCSF
    assert shown(data)["actor"] == "[info] a line"


def test_copies_of_a_record_are_hidden_in_categories_of_another_source() -> None:
    data = b'{%b,"actor":{"user":{"uid":"s"}}}' % OCSF
    assert shown(data, category="vault.x")["actor"] == {"user": {"uid": "***"}}


def test_a_record_of_the_source_of_its_category_has_the_copies_of_that_source_alone() -> None:
    data = b'{"action":"a.b","org":"o","@timestamp":1,"actor":"s","user":"t"}'
    left = shown(data, category="github.git")
    assert (left["actor"], left["user"]) == ("***", "t")
    assert shown(data)["user"] == "***", "a document of anybody"


@pytest.mark.parametrize(
    "data", [b'{"class_uid":1,"actor":{"user":{"uid":"s"}}}', b'{"note":"class_uid"}', b"{}"]
)
def test_what_is_no_record_stays_as_it_is(data: bytes) -> None:
    event = masked(event_with(data), Masks(mask=("actor.id",)))
    assert event.json.endswith(b',"data":' + data + b',"masked":["actor.id"]}')


def test_numbers_that_no_decoder_takes_hide_no_record() -> None:
    data = b'{%b,"n":%b,"actor":{"user":{"uid":"s"}}}' % (OCSF, b"1e999")
    assert b'"uid":"s"' not in masked(event_with(data), Masks(mask=("actor.id",))).json


def test_a_source_without_a_condition_has_copies_wherever_its_paths_are() -> None:
    test = ConditionTest(())
    own = RecordCopies("own", {"data.who.x": ("actor.id",)}, test, (("who",),))
    declare_copies(DeclaredCopies(by_record=(own,)))
    assert shown(b'{"who":{"x":"s"}}') == {"who": {"x": "***"}}
    assert shown(b'{"what":{"x":"s"}}') == {"what": {"x": "s"}}


def test_names_in_any_case_are_found() -> None:
    test = ConditionTest(parse_condition("Area && !gone"), ignore_case=True)
    own = RecordCopies("own", {"data.WHO": ("actor.id",)}, test, test.names(), True)
    declare_copies(DeclaredCopies(by_record=(own,)))
    assert shown(b'{"AREA":1,"WHO":"s"}') == {"AREA": 1, "WHO": "***"}


def test_what_is_declared_can_be_told_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(declared())) == declared()
