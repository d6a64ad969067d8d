"""Which source an item has, and what gateways send each other comes back as it was."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given

from gateway.formats.format import FormatOptions
from gateway.formats.registry import make_formats
from gateway.ingest.protocols.documents import Chosen, Made, map_bulk, map_hec, work_apart
from gateway.ingest.protocols.elasticsearch_bulk import items_of_bulk
from gateway.ingest.protocols.own_documents import draft_of_ecs_form, native_of_ecs
from gateway.ingest.protocols.splunk_hec import events_of
from gateway.ingest.sources.catalog import Sources
from gateway.ingest.sources.lines import Line, native_lines
from gateway.ingest.sources.own_events import draft_of_own
from gateway.ingest.sources.source import Mapped, NotMapped, Owner
from tests.support.event_strategies import generated, shown_events

SOURCES = Sources({})
USUAL, BOUND = Owner("acme"), Owner("acme", True, "bound")
FREE = Owner("default")
ORIGINAL = make_formats(FormatOptions(original=True))["ecs"].encode
PLAIN = make_formats(FormatOptions())["ecs"].encode
SET = ("cursor", "recorded_at", "masked", "pseudonymized", "reduced")


def sources(*names: str) -> Any:
    return tuple(SOURCES.named(name) for name in names)


def hec(event: Any, owner: Owner = FREE, named: str = "", **members: Any) -> Made:
    [found] = events_of(json.dumps({"event": event, **members}).encode())
    by = SOURCES.known_as(named) if named else None
    return map_hec(found, Chosen(by, sources("splunk_hec"), USUAL, owner, 100))


def bulk(document: Any, owner: Owner = FREE, named: str = "", event_id: str = "") -> Made:
    action = {"create": {"_id": event_id} if event_id else {}}
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    [item] = items_of_bulk(json.dumps(action).encode() + b"\n" + raw)
    by = SOURCES.known_as(named) if named else None
    return map_bulk(item, Chosen(by, sources("ecs", "elasticsearch"), USUAL, owner, 100))


def event_of(made: Made) -> Any:
    [found] = made
    assert isinstance(found, Mapped), found
    return json.loads(b"{" + found.draft.tail)


NATIVE = {"category": "auth", "action": "user.login"}


def test_an_event_of_our_own_form_is_taken_as_it_is() -> None:
    event = event_of(hec(NATIVE | {"id": "a", "tenant": "t"}, time=1767225600.5))
    assert event == {
        "id": "a", "time": "2026-01-01T00:00:00.500000Z", "tenant": "t", "category": "auth",
        "action": "user.login", "outcome": "unknown", "severity": 1,
    }  # fmt: skip
    event = event_of(bulk(NATIVE, event_id="x1"))
    assert (event["id"], event["tenant"], "data" in event) == ("x1", "default", False)


def test_an_event_of_our_own_form_that_is_wrong_is_refused_with_its_member() -> None:
    for made in (hec(NATIVE | {"severity": 9}), bulk(NATIVE | {"severity": 9})):
        [found] = made
        assert isinstance(found, NotMapped)
        assert found.path == "severity"


@pytest.mark.parametrize("time", [b"1e400", b'"\xff"', b'"soon"', b"{}", b"null"])
def test_a_time_around_an_event_that_is_none_counts_for_nothing(time: bytes) -> None:
    body = b'{"time":%b,"event":{"category":"auth","action":"a","id":"i"}}' % time
    [found] = events_of(body)
    event = event_of(map_hec(found, Chosen(None, sources("splunk_hec"), USUAL, FREE, 100)))
    assert (event["id"], "time" in event) == ("i", False)


def test_the_same_event_has_the_same_id_and_other_times_other_ids() -> None:
    first, again, later = (
        event_of(hec(NATIVE, time=time))["id"] for time in (1767225600, 1767225600, 1767225601)
    )
    assert first == again != later
    texts = [event_of(hec("text", time=time))["id"] for time in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_declared_members_of_other_events_count() -> None:
    fields = {"tenant": "T1", "category": "pay", "event_id": "e1"}
    event = event_of(hec({"user": "bob", "action": "pay"}, host="h", fields=fields))
    assert (event["id"], event["tenant"], event["category"]) == ("e1", "t1", "pay")
    assert (event["actor"]["id"], event["targets"][0]["urn"]) == ("bob", "host:h")
    assert event["data"]["event"] == {"user": "bob", "action": "pay"}
    event = event_of(bulk({"message": "m", "event": {"dataset": "d.e"}}, event_id="é"))
    assert (event["category"], event["reason"]) == ("d.e", "m")
    assert event["id"].startswith("sha256-")


def test_a_tenant_among_the_fields_is_that_of_events_and_records_that_name_none() -> None:
    entry = {"uuid": "u1", "eventType": "user.session.start", "published": 0}
    for made in (
        hec(NATIVE, fields={"tenant": "T 1"}),
        hec(entry, named="okta", fields={"tenant": "T 1"}),
    ):
        assert event_of(made)["tenant"] == "t_1"
    assert event_of(hec(NATIVE | {"tenant": "own"}, fields={"tenant": "t1"}))["tenant"] == "own"
    assert event_of(hec(entry, BOUND, named="okta", fields={"tenant": "t1"}))["tenant"] == "acme"
    [found] = hec(entry, named="okta", fields={"tenant": "Gateway"})
    assert isinstance(found, NotMapped)
    assert found.path == "fields.tenant"


def test_what_the_key_is_bound_to_goes_before_what_others_declare() -> None:
    for made in (
        hec("text", BOUND, fields={"tenant": "other", "category": "other"}),
        bulk({"organization": {"id": "other"}, "category": "other", "message": "m"}, BOUND),
        bulk({"@timestamp": 1767225600, "event": {"action": "a", "dataset": "d"}}, BOUND),
    ):
        event = event_of(made)
        assert (event["tenant"], event["category"]) == ("acme", "bound")
    event = event_of(hec(NATIVE | {"tenant": "other"}, BOUND))
    assert event["tenant"] == "other", "which its key may not write"


def test_records_of_a_named_source_are_those_of_that_source() -> None:
    entry = {"uuid": "u1", "eventType": "user.session.start", "published": 0}
    for made in (
        hec(entry, named="OktaIM2:log"),
        hec(json.dumps(entry), named="okta"),
        bulk(entry, named="okta", event_id="x"),
    ):
        event = event_of(made)
        assert (event["id"], event["tenant"]) == ("u1", "acme")
        assert event["category"] == "okta.user.session"
    [found] = hec({"x": 1}, named="okta")
    assert isinstance(found, NotMapped)
    line = "<38>1 2026-01-01T00:00:00Z h su 1 - - session opened for user root"
    assert event_of(hec(line, named="syslog"))["category"] == "syslog.su"


def test_another_process_makes_the_same_of_an_item() -> None:
    [event] = events_of(json.dumps({"event": {"a": "b"}, "time": 1}).encode())
    chosen = Chosen(None, sources("splunk_hec"), USUAL, BOUND, 100)
    work = pickle.loads(pickle.dumps(work_apart(map_hec, event, chosen)))
    assert work() == map_hec(event, chosen)
    named = chosen.by(SOURCES.named("okta"))
    assert work_apart(map_hec, event, named)() == map_hec(event, named)


def spelled(event: bytes) -> Any:
    """An event whose numbers are as they were written, without what the gateway has set."""
    decoded = json.loads(event, parse_int=str, parse_float=str)
    return {name: value for name, value in decoded.items() if name not in SET}


@given(shown_events())
@generated(300, share=8)
def test_every_event_that_a_gateway_sends_by_hec_comes_back_as_it_was(native: bytes) -> None:
    whole = b'{"time":1767225600.000,"event":' + native + b',"fields":{"event_id":"x"}}'
    [event] = events_of(whole)
    [found] = map_hec(event, Chosen(None, sources("splunk_hec"), USUAL, BOUND, 100))
    assert isinstance(found, Mapped), found
    if b'"masked"' not in native and b'"pseudonymized"' not in native:
        assert spelled(b"{" + found.draft.tail) == spelled(native)


@given(shown_events())
@generated(300, share=8)
def test_every_document_that_a_gateway_sends_comes_back_as_the_event_that_it_was(
    native: bytes,
) -> None:
    masked = any(f'"{name}":['.encode() in native for name in SET)
    found = event_of(bulk(ORIGINAL(native), event_id="acme:x"))
    if not masked:
        assert found == {
            name: value for name, value in json.loads(native).items() if name not in SET
        }
    of_ecs = native_of_ecs(PLAIN(native))
    assert of_ecs is not None
    plain = of_ecs[0]
    event, came = json.loads(native), json.loads(plain)
    for name in ("id", "tenant", "time", "category", "action", "outcome", "severity"):
        assert came[name] == event[name]
    if not masked:
        assert without_empty(spelled(plain)) == without_empty(spelled(native))
    assert event_of(bulk(PLAIN(native)))["id"] == event["id"]


@pytest.mark.parametrize("encode", [ORIGINAL, PLAIN])
@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b'"ecs":', b'"ecs":{},"ecs":'),
        (b'"targets":[', b'"targets":[{"n":99999999999999999999999},'),
        (b'"data":{', b'"data":{"n":1,"n":2,'),
        (b'"data":{', b'"data":{"deep":' + b"[" * 62 + b"]" * 62 + b","),
        (b'"data":{', b'"data":{"n":"\\ud800",'),
        (b'"related":{', b'"related":{"user":[99999999999999999999999],'),
    ],
)  # fmt: skip
def test_a_changed_document_is_none_of_ours_whatever_its_original_says(
    encode: Any, part: bytes, other: bytes
) -> None:
    document = encode(GIVEN_OUT)
    assert draft_of_ecs_form(document) is not None
    changed = document.replace(part, other, 1)
    assert changed != document
    assert draft_of_ecs_form(changed) is None
    [made] = bulk(changed)
    assert isinstance(made, NotMapped) or made.draft.category == "ecs" or made.marks


@given(shown_events())
@generated(300, share=8)
def test_one_check_makes_the_same_event_of_a_document_as_two(native: bytes) -> None:
    for document in (ORIGINAL(native), PLAIN(native)):
        found = draft_of_ecs_form(document)
        native_form = native_of_ecs(document)
        assert native_form is not None
        assert found is None or found == draft_of_own(*native_form)


GIVEN_OUT = json.dumps(
    {
        "cursor": "AAAA", "recorded_at": "2026-01-31T12:00:00.000000Z", "id": "e",
        "time": "2026-01-31T12:00:00.000000Z", "tenant": "acme", "category": "auth",
        "action": "user.login", "outcome": "denied", "severity": 2, "actor": {"id": "ann"},
        "targets": [{"urn": "app:u/1"}], "data": {"x": "é"},
    },
    separators=(",", ":"), ensure_ascii=False,
).encode()  # fmt: skip


def without_empty(value: Any) -> Any:
    """An event without empty texts and objects outside of `data`, which documents do not have."""
    kept = {}
    for name, member in value.items():
        if isinstance(member, dict) and name != "data":
            member = without_empty(member)
        if isinstance(member, list) and name == "targets":
            member = [without_empty(one) for one in member]
        if member not in ("", {}, []) or name == "data":
            kept[name] = member
    return kept


def test_a_document_that_only_looks_like_ours_is_a_document() -> None:
    document = {
        "@timestamp": "2026-01-01T00:00:00Z", "labels": {"cursor": "c"},
        "event": {"action": "a", "id": "i"},
    }  # fmt: skip
    event = event_of(bulk(document))
    assert (event["category"], event["data"]) == ("ecs", document)


def test_an_event_of_our_own_form_may_come_as_text() -> None:
    event = event_of(hec(json.dumps(NATIVE | {"id": "a"}), time=1767225600))
    assert (event["id"], event["category"], event["time"][:4]) == ("a", "auth", "2026")


def test_an_event_of_our_own_form_without_an_id_has_the_same_id_in_files_and_protocols() -> None:
    moment = "2026-01-01T00:00:00.000000Z"
    for around, event in (({}, NATIVE), ({"time": 1767225600}, NATIVE | {"time": moment})):
        [line] = native_lines("acme")(json.dumps(event).encode())
        assert isinstance(line, Line)
        in_file = json.loads(line.line)["id"]
        assert event_of(hec(NATIVE, host="web-1", **around))["id"] == in_file
        assert event_of(bulk(event))["id"] == in_file
