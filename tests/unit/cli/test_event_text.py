"""Events on a terminal: readable, on one line, and unable to give the terminal orders."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.base.event_text import event_parts, printable, printable_json

EVENT = {
    "time": "2026-01-15T08:00:00.250000Z",
    "tenant": "acme",
    "category": "auth",
    "action": "user.login",
    "outcome": "denied",
    "severity": 4,
    "actor": {"id": "u-1", "name": "admin@example.com"},
    "source": {"ip": "192.0.2.1"},
    "targets": [{"urn": "idp:users/admin"}, {"urn": "idp:users/other"}],
    "reason": "wrong password",
}


def rotation_chain_of(event: dict[str, Any]) -> str:
    return " ".join(text for text, _ in event_parts(event))


def test_an_event_is_one_line_of_who_did_what() -> None:
    assert rotation_chain_of(EVENT) == (
        "2026-01-15 08:00:00.250Z high     denied  acme auth user.login admin@example.com "
        "from 192.0.2.1 on idp:users/admin and 1 more (wrong password)"
    )


def test_what_is_missing_or_odd_is_left_out() -> None:
    event = {"severity": "x", "actor": "x", "source": [], "targets": {}, "time": 7}
    assert rotation_chain_of(event).split() == ["7", "?", "unknown"]
    assert "on key-1" in rotation_chain_of({"targets": [{"id": "key-1"}]})
    assert "u-1" in rotation_chain_of({"actor": {"id": "u-1"}})


ATTACKS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "a\rb", "a\nb", "\x08\x08", "\u202egnp.exe"]
ATTACKS += ["\u2066x\u2069", "\u2028", "\x7f", "\u200b", "\ud800", "\U000e0041"]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("member", ["tenant", "category", "action", "outcome", "reason", "time"])
def test_no_member_gives_the_terminal_an_order(member: str, attack: str) -> None:
    line = rotation_chain_of(EVENT | {member: f"x{attack}y"})
    assert line.isprintable()
    assert attack not in line


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_inner_member_gives_the_terminal_an_order(attack: str) -> None:
    event = EVENT | {
        "actor": {"name": attack},
        "source": {"ip": attack},
        "targets": [{"urn": attack}],
    }
    assert rotation_chain_of(event).isprintable()


@given(st.text())
def test_printable_text_is_printable_and_leaves_the_harmless_alone(text: str) -> None:
    assert all(
        one.isprintable() or one in "\u3000\u00a0" or one.isspace() for one in printable(text)
    )
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 for one in printable(text))
    if text.isprintable():
        assert printable(text) == text


def test_letters_of_all_scripts_stay_as_they_are() -> None:
    assert printable("Ünïcödé 漢字 🙂") == "Ünïcödé 漢字 🙂"
    assert printable("\x1b[31m") == "\\u001b[31m"
    assert printable("\U000e0041") == "\\U000e0041"


@given(st.text(st.characters(codec="utf-8")))
def test_json_that_is_safe_to_print_is_the_same_json(text: str) -> None:
    line = json.dumps({"reason": text}, ensure_ascii=False)
    safe = printable_json(line)
    assert json.loads(safe) == {"reason": text}
    assert not any(0x7F <= ord(one) < 0xA0 or one in "\u202e\u2066\u2028" for one in safe)
