"""Options and modes of acknowledgement, and selections as they are stored."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidRequest
from gateway.filters.expression import compile_filter
from gateway.filters.scope import Scope
from gateway.streaming.consumers.options import (
    ConsumerOptions,
    ack_mode,
    options_text,
    read_options,
)
from gateway.streaming.consumers.selection import selection_members, selection_text


@pytest.mark.parametrize(
    ("transport", "asked", "stored", "mode"),
    [
        ("audit.v1", None, "", "explicit"),
        ("websocket", None, "", "pong"),
        ("websocket", "explicit", "", "explicit"),
        ("websocket", None, "explicit", "explicit"),
        ("sse", None, "", "explicit"),
        ("page", None, "", "explicit"),
        ("page", "next", "explicit", "next"),
    ],
)
def test_a_reader_acknowledges_as_it_asks_else_as_is_stored_else_as_is_usual(
    transport: str, asked: str | None, stored: str, mode: str
) -> None:
    assert ack_mode(transport, asked, stored) == mode


@pytest.mark.parametrize(
    ("transport", "asked", "stored", "direct", "modes"),
    [
        ("sse", "pong", "", True, ["explicit"]),
        ("audit.v1", None, "pong", True, ["explicit"]),
        ("page", "next", "", False, ["explicit"]),
        ("websocket", "next", "", True, ["pong", "explicit"]),
    ],
)
def test_a_mode_that_a_transport_lacks_is_refused_with_those_it_has(
    transport: str, asked: str | None, stored: str, direct: bool, modes: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ack_mode(transport, asked, stored, direct=direct)
    assert (caught.value.code, caught.value.members["modes"]) == ("ack_mode_unavailable", modes)


def test_options_are_stored_where_they_are_not_the_usual_ones() -> None:
    assert options_text(ConsumerOptions()) == "{}"
    chosen = ConsumerOptions(ack_delay=9, max_unacked=5)
    assert read_options(options_text(chosen)) == chosen
    assert read_options("") == ConsumerOptions()


def test_equal_selections_have_equal_texts() -> None:
    scope = Scope(category=("auth", "billing"), min_severity=2)
    text = selection_text(scope, compile_filter("severity>1"))
    assert text == selection_text(scope, compile_filter("severity  >  1"))
    assert text != selection_text(scope, None)
    assert selection_members(text)["category"] == ["auth", "billing"]
    assert selection_text(Scope(), None) == "{}"
