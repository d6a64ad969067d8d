"""The program's own log: what a line says, in both forms, and what is counted."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.clock import parse_rfc3339
from gateway.errors import Unavailable
from gateway.logging_context import REQUEST
from gateway.runtime.process import logs
from tests.support.cases import every

LOGGER = logging.getLogger("gateway.test")


class Written:
    """A log in one form, into memory."""

    def __init__(self, form: str) -> None:
        self.stream = io.StringIO()
        self.handler = logs._Handler(self.stream)
        self.handler.setFormatter(logs._Json() if form == "json" else logs._Text())
        self.now = 1_700_000_000.25

    def log(self, message: str, *values: object, level: int = logging.WARNING, **more: Any) -> None:
        record = LOGGER.makeRecord(
            LOGGER.name, level, "x.py", 1, message, values, more.pop("exc_info", None), extra=more
        )
        record.created = self.now
        self.handler.handle(record)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture(autouse=True)
def of_no_request() -> Iterator[None]:
    token = REQUEST.set("")
    yield
    REQUEST.reset(token)


def test_every_line_has_time_level_worker_code_and_request() -> None:
    written, text = Written("json"), Written("text")
    REQUEST.set("4bf92f3577b34da6")
    for one in (written, text):
        try:
            raise Unavailable("the store is away", code="store_unavailable")
        except Unavailable as error:
            one.log("trying again: %s", error.detail)
    [line] = written.objects()
    assert line == {
        "time": "2023-11-14T22:13:20.250000Z",
        "level": "warning",
        "logger": "gateway.test",
        "worker": 0,
        "code": "store_unavailable",
        "request_id": "4bf92f3577b34da6",
        "message": "trying again: the store is away",
    }
    assert text.lines == [
        "2023-11-14T22:13:20.250000Z WARNING gateway.test: trying again: the store is away "
        "[worker=0 code=store_unavailable request_id=4bf92f3577b34da6]"
    ]


def test_members_that_there_are_not_are_left_out() -> None:
    written = Written("json")
    written.log("quiet")
    assert set(written.objects()[0]) == {"time", "level", "logger", "worker", "message"}


@every(["a\nb", "a\r\nb", "\x1b[31mred", "\x00", "\x7f\x85", "\u2028", "\ud800", 'a"b\\'])
def test_no_message_passes_for_several_lines(text: str) -> None:
    for form in ("json", "text"):
        written = Written(form)
        written.log("name %s", text)
        [line] = written.stream.getvalue().rstrip("\n").splitlines()
        assert re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", line) is None
        line.encode()
        if form == "json":
            assert parse_rfc3339(json.loads(line)["time"])


def test_a_traceback_is_one_member_in_json_and_indented_in_text() -> None:
    written, text = Written("json"), Written("text")
    for one in (written, text):
        try:
            raise ValueError("first\n2023-11-14T22:13:20Z ERROR forged: line")
        except ValueError as error:
            one.log("failed", exc_info=(ValueError, error, error.__traceback__))
    [line] = written.objects()
    assert line["exception"].startswith("Traceback")
    assert "\nValueError: first\n" in line["exception"]
    assert all(one.startswith("  ") for one in text.lines[1:])


def test_what_comes_again_is_counted() -> None:
    written = Written("json")
    for _ in range(500):
        written.log("it is full")
    written.log("something else")
    assert [line["message"] for line in written.objects()] == ["it is full", "something else"]
    written.now += logs.WINDOW_SECONDS
    written.log("it is full")
    first, *_, told, last = written.objects()
    assert (told["message"], told["repeated"], told["level"]) == ("it is full", 499, "warning")
    assert told["time"] == first["time"]
    assert "repeated" not in last


def test_counts_are_written_at_the_end_and_bounded() -> None:
    written = Written("json")
    for number in range(2000):
        for _ in range(2):
            written.log("number %d", number)
        assert len(written.handler._seen) <= logs._MOST_COUNTED
    written.handler.close()
    assert sum(line.get("repeated", 0) for line in written.objects()) == 2000


def test_critical_lines_are_all_written() -> None:
    written = Written("json")
    for _ in range(3):
        written.log("the end", level=logging.CRITICAL)
    assert len(written.lines) == 3
