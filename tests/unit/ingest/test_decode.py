"""The members of an event: what each may be, where the limits are, and the path of a refusal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import msgspec
import pytest

from gateway.errors import InvalidEvents
from gateway.event import MAX_EVENT_BYTES, Draft
from gateway.ingest.decode import MAX_REPORTED, decode_event, decode_events
from gateway.ingest.strict_json import Refused

LEAST: dict[str, Any] = {"category": "auth", "action": "user.login"}
ID = "0190-made-by-the-gateway"
STAMP = b"2026-01-31T12:00:00.000000Z"


def ids() -> Iterator[str]:
    return repeat(ID)


def decoded(event: Any) -> Draft:
    return decode_event(event if isinstance(event, bytes) else msgspec.json.encode(event), ids())


def refused(event: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        decoded(event)
    msgspec.json.encode([caught.value.path, caught.value.reason])
    return caught.value


def stored(draft: Draft) -> dict[str, Any]:
    members: dict[str, Any] = msgspec.json.decode(b"{" + draft.stored(STAMP))
    return members


def test_the_least_event_gets_its_defaults() -> None:
    draft = decoded(LEAST)
    assert (draft.id, draft.tenant, draft.outcome, draft.severity) == (ID, "default", "unknown", 1)
    assert (draft.category, draft.action) == ("auth", "user.login")
    assert (draft.actor, draft.resources, draft.has_time) == ("", "", False)
    assert stored(draft) == {
        "recorded_at": STAMP.decode(),
        "time": STAMP.decode(),
        "id": ID,
        "tenant": "default",
        "category": "auth",
        "action": "user.login",
        "outcome": "unknown",
        "severity": 1,
    }


def test_every_member_is_kept() -> None:
    event = {
        "id": "evt 1~",
        "time": "2026-01-31T12:00:00.5+01:00",
        "tenant": "acme.eu-1_x",
        "category": "k8s.audit",
        "action": "pods.exec:create/sub",
        "outcome": "denied",
        "severity": 6,
        "actor": {"type": "user", "id": "u1", "name": "Ünal \N{GRINNING FACE}", "key_id": "AKIA"},
        "source": {"service": "api", "ip": "2001:db8::1", "port": 65535, "user_agent": "x"},
        "targets": [
            {"urn": "k8s:prod/ns/pay/pods/web-1", "type": "pod", "id": "1", "name": "web-1"},
            {"name": "without urn"},
            {"urn": "k8s:prod/ns/pay"},
        ],
        "request": {"id": "r1", "trace_id": "t1"},
        "reason": "line one\nline two",
        "data": {"free": ["form", None, {"x": 1}]},
    }
    draft = decoded(event)
    assert stored(draft) == {
        **event,
        "time": "2026-01-31T11:00:00.500000Z",
        "recorded_at": STAMP.decode(),
    }
    assert draft.has_time
    assert draft.actor == "u1"
    assert draft.resources == "k8s:prod/ns/pay/pods/web-1\nk8s:prod/ns/pay"


LIMITS: list[tuple[str, Any, Any]] = [
    # path, the most that is taken, the least that is not
    ("id", "x" * 128, "x" * 129),
    ("id", "x", ""),
    ("id", " ~!", "é"),
    ("id", " ", "\n"),
    ("id", "a\\b", "a\x7fb"),
    ("tenant", "a" * 64, "a" * 65),
    ("tenant", "a.b_c-9", ""),
    ("tenant", "a", "A"),
    ("tenant", "a", "a/b"),
    ("tenant", "a", "a\n"),
    ("category", "a" * 64, "a" * 65),
    ("category", "a.b_c-d.9", "a..b"),
    ("category", "a", ".a"),
    ("category", "a", "a."),
    ("category", "a", ""),
    ("category", "a", "Auth"),
    ("category", "a", "a b"),
    ("category", "a", "a\n"),
    ("category", "a", "a.*"),
    ("action", "a" * 128, "a" * 129),
    ("action", "a.b", "a..b"),
    ("action", "PutObject", ""),
    ("action", "a", "a b"),
    ("action", "a", "a\n"),
    ("outcome", "success", "Success"),
    ("outcome", "denied", "allowed"),
    ("severity", 1, 0),
    ("severity", 6, 7),
    ("severity", 3, "3"),
    ("severity", 3, 3.5),
    ("severity", 3, True),
    ("severity", 3, None),
    ("actor", {}, "u1"),
    ("actor", {}, None),
    ("actor", {}, ["u1"]),
    *[(f"actor.{name}", "é" * 256, "é" * 257) for name in ("type", "id", "name", "key_id")],
    ("actor.id", "7", 7),
    ("source.service", "x" * 256, "x" * 257),
    ("source.ip", "x" * 256, "x" * 257),
    ("source.port", 0, -1),
    ("source.port", 65535, 65536),
    ("source.port", 80, "80"),
    ("source.user_agent", "x" * 1024, "x" * 1025),
    ("targets", [{}] * 32, [{}] * 33),
    ("targets", [], {}),
    ("request.id", "x" * 256, "x" * 257),
    ("request.trace_id", "x" * 256, "x" * 257),
    ("reason", "x" * 1024, "x" * 1025),
    ("data", {}, []),
    ("data", {}, "x"),
    ("data", {}, None),
    ("data", {}, 1),
]


def with_path(path: str, value: Any) -> dict[str, Any]:
    outer, _, inner = path.partition(".")
    return {**LEAST, outer: {inner: value} if inner else value}


@pytest.mark.parametrize(("path", "most", "beyond"), LIMITS)
def test_each_member_has_its_limit_and_is_named_beyond_it(
    path: str, most: Any, beyond: Any
) -> None:
    decoded(with_path(path, most))
    refusal = refused(with_path(path, beyond))
    assert refusal.path == path
    assert refusal.reason


@pytest.mark.parametrize(
    ("target", "inner"),
    [
        ({"urn": "x" * 1025}, "urn"),
        ({"urn": ""}, "urn"),
        ({"urn": "a\nb"}, "urn"),
        ({"urn": "a\x7f"}, "urn"),
        ({"type": "x" * 257}, "type"),
        ({"id": 7}, "id"),
        ({"name": "x" * 257}, "name"),
        ({"uri": "x"}, "uri"),
    ],
)
def test_a_target_is_named_by_its_place(target: dict[str, Any], inner: str) -> None:
    assert (
        refused({**LEAST, "targets": [{"urn": "x" * 1024}, target]}).path == f"targets[1].{inner}"
    )


@pytest.mark.parametrize("member", ["category", "action"])
def test_category_and_action_are_required(member: str) -> None:
    event = {name: value for name, value in LEAST.items() if name != member}
    refusal = refused(event)
    assert (refusal.path, refusal.reason) == (member, "required")


@pytest.mark.parametrize(
    "path",
    ["user", "Category", "actor.email", "source.host", "request.span", "actor.recorded_at",
     "x` - at `$.y", "ü", "", "a\nb"],
)  # fmt: skip
def test_an_unknown_member_is_refused_with_its_path(path: str) -> None:
    refusal = refused(with_path(path, "x"))
    if "`" not in path:
        assert refusal.path == path
    assert "unknown member" in refusal.reason
    assert "`data`" in refusal.reason


@pytest.mark.parametrize("member", ["recorded_at", "cursor"])
def test_what_the_gateway_sets_is_refused_from_a_producer(member: str) -> None:
    refusal = refused({**LEAST, member: "2026-01-31T12:00:00Z"})
    assert refusal.path == member
    assert "the gateway sets this member" in refusal.reason


@pytest.mark.parametrize(
    ("time", "kept"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31t12:00:00.123456789-05:30", "2026-01-31T17:30:00.123456Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"),
        ("0099-01-01T00:00:00Z", "0099-01-01T00:00:00.000000Z"),
    ],
)
def test_time_is_stored_as_utc_with_microseconds(time: str, kept: str) -> None:
    assert stored(decoded({**LEAST, "time": time}))["time"] == kept


@pytest.mark.parametrize("time", ["", "yesterday", "2026-01-31", "2026-02-30T00:00:00Z", 1, None])
def test_a_time_that_is_none_is_named(time: Any) -> None:
    assert refused({**LEAST, "time": time}).path == "time"


def padded(size: int, **members: Any) -> bytes:
    """An event of exactly that many bytes."""
    bare = msgspec.json.encode({**LEAST, **members, "data": {"x": ""}})
    return msgspec.json.encode({**LEAST, **members, "data": {"x": "y" * (size - len(bare))}})


def test_an_event_as_sent_has_at_most_256_kib() -> None:
    assert MAX_EVENT_BYTES == 256 * 1024
    for members in ({}, {"id": "e1", "tenant": "t", "outcome": "denied", "severity": 2}):
        draft = decoded(padded(MAX_EVENT_BYTES, **members))
        # What the gateway adds is little, so that lines stay far below what clients take.
        assert len(draft.stored(STAMP)) < MAX_EVENT_BYTES + 1024
        refusal = refused(padded(MAX_EVENT_BYTES + 1, **members))
        assert refusal.path == ""
        assert "262145 bytes; at most 262144" in refusal.reason


def test_several_events_are_decoded_in_order() -> None:
    items = [msgspec.json.encode({**LEAST, "id": f"e{number}"}) for number in range(5)]
    assert [draft.id for draft in decode_events(items, ids())] == ["e0", "e1", "e2", "e3", "e4"]


def test_every_refused_item_is_listed_with_index_path_and_reason() -> None:
    items = [LEAST, {"action": "a"}, LEAST, {**LEAST, "severity": 9}, 7, {**LEAST, "x": 1}]
    with pytest.raises(InvalidEvents) as caught:
        decode_events(map(msgspec.json.encode, items), ids())
    errors = caught.value.members["errors"]
    assert [(error["index"], error["path"]) for error in errors] == [
        (1, "category"), (3, "severity"), (4, ""), (5, "x"),
    ]  # fmt: skip
    assert all(error["reason"] for error in errors)
    assert caught.value.detail.startswith("refused: 4 of the events")
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("members", "path", "rule"),
    [
        ({"id": ""}, "id", "1 to 128 printable ASCII"),
        ({"tenant": "AC"}, "tenant", "1 to 64 of a-z"),
        ({"category": "Auth"}, "category", "such as k8s.audit"),
        ({"action": "a b"}, "action", "such as user.login"),
        ({"targets": [{"urn": ""}]}, "targets[0].urn", "no control characters"),
    ],
)
def test_what_a_member_has_to_be_is_said_in_words(
    members: dict[str, Any], path: str, rule: str
) -> None:
    with pytest.raises(InvalidEvents) as caught:
        decode_events([msgspec.json.encode({**LEAST, **members})], ids())
    [error] = caught.value.members["errors"]
    assert (error["path"], "regex" in error["reason"]) == (path, False)
    assert rule in error["reason"]


def test_the_list_of_refusals_is_bounded() -> None:
    with pytest.raises(InvalidEvents, match="1000 or more") as caught:
        decode_events([b"{}"] * (MAX_REPORTED + 5), ids())
    assert len(caught.value.members["errors"]) == MAX_REPORTED


def test_numbers_of_a_large_event_let_other_threads_in() -> None:
    calls = 0

    def called(frame: object, kind: str, argument: object) -> None:
        nonlocal calls
        calls += kind == "call"

    counted = {}
    for count in (100, 20_000):
        item = b'{"category":"a","action":"b","data":{"l":[%b]}}' % b",".join([b"1.50"] * count)
        calls = 0
        sys.setprofile(called)
        try:
            decode_event(item, ids())
        finally:
            sys.setprofile(None)
        counted[count] = calls
    # Between two calls of functions in Python, another thread may have the interpreter.
    assert counted[20_000] >= 20_000
    assert counted[100] < 100


@pytest.mark.parametrize("number", [b"1.50", b"-0", b"12", b"1e2", b"9007199254740993"])
def test_a_large_event_means_what_a_small_one_means(number: bytes) -> None:
    drafts = []
    for size in (10, 50_000):
        item = b'{"category":"a","action":"b","data":{"l":[%b],"s":"%b"}}' % (number, b"x" * size)
        drafts.append(decoded(item))
    small, large = drafts
    assert small.tail.replace(b"x" * 10, b"x" * 50_000) == large.tail
    wrong = b'{"category":"a","action":"b","data":{"l":[18446744073709551616],"s":"%b"}}'
    assert refused(wrong % (b"x" * 50_000)).reason == refused(wrong % b"x").reason
