"""A record that reports several events becomes as many."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import InvalidSetting, PayloadTooLarge
from gateway.ingest.sources.catalog import definition_in_settings, make_source
from gateway.ingest.sources.source import Mapped, NotMapped
from tests.support.exports import source_named

# As the Reports API of Google Workspace answers.
ACTIVITY = {
    "kind": "admin#reports#activity",
    "id": {
        "time": "2026-01-01T00:00:00.000Z", "uniqueQualifier": "358068855354",
        "applicationName": "admin", "customerId": "C03az79cb",
    },
    "actor": {"callerType": "USER", "email": "root@example.com", "profileId": "1045242"},
    "ipAddress": "192.0.2.1",
    "events": [
        {"type": "USER_SETTINGS", "name": "CREATE_USER",
         "parameters": [{"name": "USER_EMAIL", "value": "new@example.com"}]},
        {"type": "GROUP_SETTINGS", "name": "ADD_GROUP_MEMBER",
         "parameters": [{"name": "USER_EMAIL", "value": "new@example.com"}]},
        {"type": "login", "name": "login_failure"},
    ],
}  # fmt: skip


def mapped(record: Any, most: int | None = None) -> list[Mapped | NotMapped]:
    return list(source_named("google_workspace").map(json.dumps(record).encode(), most=most))


def test_each_event_of_an_activity_is_an_event_with_the_activity_around_it() -> None:
    found = mapped(ACTIVITY)
    assert all(isinstance(one, Mapped) for one in found)
    events = [json.loads(b"{" + one.draft.tail) for one in found if isinstance(one, Mapped)]
    name = "admin-358068855354-2026-01-01T00:00:00.000Z"
    assert [event["id"] for event in events] == [name, f"{name}-1", f"{name}-2"]
    assert [event["action"] for event in events] == [
        "CREATE_USER", "ADD_GROUP_MEMBER", "login_failure",
    ]  # fmt: skip
    assert [event["outcome"] for event in events] == ["success", "success", "failure"]
    assert {event["actor"]["name"] for event in events} == {"root@example.com"}
    reported = ACTIVITY["events"]
    assert isinstance(reported, list)
    for event, one in zip(events, reported, strict=True):
        assert event["data"] == ACTIVITY | {"events": [one]}


def test_the_events_of_a_list_and_of_a_page_are_the_same() -> None:
    assert mapped({"kind": "admin#reports#activities", "items": [ACTIVITY]}) == mapped(ACTIVITY)


def test_an_activity_with_one_event_stays_as_it_was() -> None:
    raw = json.dumps(ACTIVITY | {"events": [{"name": "a"}]}).encode()
    [found] = source_named("google_workspace").map(raw)
    assert isinstance(found, Mapped)
    assert found.draft.tail.endswith(b'"data":' + raw + b"}")


def test_an_item_that_is_no_event_costs_only_itself() -> None:
    found = mapped(ACTIVITY | {"events": [{"name": "a"}, None, 7, {"x": 1}, {"name": "b"}]})
    assert [type(one) for one in found] == [Mapped, NotMapped, NotMapped, NotMapped, Mapped]
    assert [one.path for one in found if isinstance(one, NotMapped)] == [
        "events[1]", "events[2]", "events[3]",
    ]  # fmt: skip


def test_parts_have_ids_of_their_own_where_the_record_has_a_long_one_or_none() -> None:
    for qualifier in ("9" * 500, None, "9" * 90):
        record = ACTIVITY | {"id": {"applicationName": "admin", "uniqueQualifier": qualifier}}
        found = [one for one in mapped(record) if isinstance(one, Mapped)]
        assert len({one.draft.id for one in found}) == 3
        assert all(len(one.draft.id) <= 128 for one in found)


def test_parts_are_bounded_in_number_and_in_what_they_repeat() -> None:
    with pytest.raises(PayloadTooLarge, match="more than 2 events"):
        mapped(ACTIVITY, most=2)
    [found] = mapped(ACTIVITY | {"events": [{"name": "a"}] * 200, "etag": "x" * 100_000})
    assert isinstance(found, NotMapped)
    assert found.path == "events"


def test_a_definition_may_name_the_list_and_a_wrong_one_is_refused() -> None:
    content = {"when": "a", "event": {"category": "a", "action": "b[0]"}, "parts": "b[]"}
    found = make_source(definition_in_settings("mine", content)).map(b'{"a":"x","b":["p","q"]}')
    assert [one.draft.action for one in found if isinstance(one, Mapped)] == ["p", "q"]
    for wrong in ("b", "b[].c", "b[0]", "a.b[]", "[]"):
        with pytest.raises(InvalidSetting, match="parts"):
            definition_in_settings("mine", content | {"parts": wrong})
