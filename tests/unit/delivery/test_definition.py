"""Definitions of destinations: what is refused, with its path, and how they are changed."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.delivery.definition import (
    Start,
    parse_definition,
    parse_start,
    patched,
    seconds_of,
    size_of,
)
from gateway.errors import InvalidRequest
from tests.support.cases import check_each

MEMBERS = {"name": "siem", "type": "http", "key": "k" * 12, "settings": {"url": "https://x"}}


def refusal(**members: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_definition({**MEMBERS, **members})
    return caught.value


def test_what_is_wrong_is_refused_with_its_path() -> None:
    def check(case: tuple[dict[str, Any], str]) -> None:
        members, path = case
        error = refusal(**members)
        assert (error.members["path"], error.code) == (path, "invalid_destination")

    check_each(
        [
            ({"colour": 1}, "colour"),
            ({"key": "short"}, "key"),
            ({"name": ".."}, "name"),
            ({"batch": {"most": 1}}, "batch.most"),
            ({"batch": {"max_events": 0}}, "batch.max_events"),
            ({"timeout": {"request": "0s"}}, "timeout.request"),
            ({"timeout": {"connect": "never"}}, "timeout.connect"),
            ({"retry": {"max": 5}}, "retry.max"),
            ({"format": "xml"}, "format"),
            ({"compression": "zip"}, "compression"),
            ({"tls": {"verify": False}}, "tls.verify"),
            ({"select": {"outcome": ["maybe"]}}, "select.outcome"),
            ({"select": {"category": "a b"}}, "select.category"),
            ({"secrets": {"token": ""}}, "secrets.token"),
            ({"secrets": []}, "secrets"),
        ],
        check,
    )


def test_a_missing_member_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_definition({"name": "siem", "type": "http"})
    assert caught.value.members["path"] == "key"


def test_references_to_secrets_are_refused_wherever_they_come_from_outside() -> None:
    for value in ({"env": "HOME"}, {"file": "/etc/shadow"}):
        assert refusal(secrets={"token": value}).code == "secret_reference_refused"


def test_a_patch_merges_objects_and_null_takes_a_member_back() -> None:
    definition, secrets = parse_definition(
        {**MEMBERS, "batch": {"max_events": 5, "max_wait": "2s"}, "secrets": {"token": "t"}}
    )
    assert secrets == {"token": "t"}
    patch = {"batch": {"max_wait": None}, "settings": {"body": "ndjson"}, "secrets": {"a": "b"}}
    after, secrets = patched(definition, patch)
    assert after.batch.max_events == 5
    assert not isinstance(after.batch.max_wait, str)
    assert after.settings == {"url": "https://x", "body": "ndjson"}
    assert secrets == {"a": "b"}
    assert after.same_delivery(definition)
    after, _ = patched(definition, {"select": {"category": "auth"}})
    assert not after.same_delivery(definition)
    for fixed in ("name", "type", "from"):
        with pytest.raises(InvalidRequest) as caught:
            patched(definition, {fixed: "x"})
        assert caught.value.members["path"] == fixed


def test_begins_pauses_and_sizes_are_read() -> None:
    assert parse_start("now", 100.0) == Start(head=True)
    assert parse_start("start", 100.0) == Start()
    cursor = "abc-" + "0" * 20
    assert parse_start(cursor, 100.0) == Start(after=cursor)
    assert parse_start("1970-01-01T00:00:01Z", 100.0) == Start(since=1_000_000)
    assert parse_start("30s", 100.0) == Start(since=70_000_000)
    assert [seconds_of(one, "x") for one in ("250ms", "1s", "1m30s")] == [0.25, 1.0, 90.0]
    assert [size_of(one, "x") for one in (5, "5", "1KiB", "2MiB")] == [5, 5, 1024, 2 << 20]
