"""Tickets: what is signed is what was made, nothing else is a ticket, and each is used once."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.credentials.ticket import (
    COOKIE_NAME,
    COOKIE_SECONDS,
    MAX_LENGTH,
    MOST_COOKIES,
    PREFIX,
    TICKET_SECONDS,
    Ticket,
    TicketUse,
    UsedTickets,
    new_cookie,
    new_ticket,
    read_cookie,
    read_ticket,
    sign,
    sign_cookie,
    stale_cookies,
    stream_cookies,
)

NOW = 1_700_000_000.0
PEPPER = b"p" * 32
CURSOR = "k3f9xq7m2p-{:020d}"
TICKET = new_ticket("k" * 12, (("category", "auth.*"), ("limit", "5")), "https://siem.example", NOW)


@given(
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4),
    st.none() | st.text(max_size=20),
)
def test_a_ticket_says_what_it_was_made_with(
    parameters: list[tuple[str, str]], origin: str | None
) -> None:
    ticket = new_ticket("k" * 12, tuple(parameters), origin, NOW)
    assert read_ticket(sign(ticket, PEPPER), PEPPER, NOW) == ticket
    assert (ticket.key_id, ticket.parameters, ticket.origin) == (
        "k" * 12,
        tuple(parameters),
        origin,
    )


def test_a_ticket_fits_into_urls_headers_and_subprotocols_and_is_no_key() -> None:
    text = sign(TICKET, PEPPER)
    assert text.startswith(PREFIX)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
    assert "alpk_" not in text


def test_a_ticket_is_over_after_thirty_seconds() -> None:
    text = sign(TICKET, PEPPER)
    assert TICKET_SECONDS == 30
    assert read_ticket(text, PEPPER, NOW + 29.999) == TICKET
    assert read_ticket(text, PEPPER, NOW + 30) is None


COOKIE = new_cookie(TICKET, CURSOR.format(7), CURSOR.format(90), NOW + 10)


def test_a_cookie_is_short_whatever_the_ticket_says_and_lasts_for_hours() -> None:
    long = msgspec.structs.replace(TICKET, parameters=(("filter", "x" * 5000),))
    value = sign_cookie(new_cookie(long, CURSOR.format(7), CURSOR.format(90), NOW), PEPPER)
    assert len(COOKIE_NAME) + len(TICKET.id) + len(value) < 200
    value = sign_cookie(COOKIE, PEPPER)
    assert read_cookie(value, TICKET.id, PEPPER, NOW + COOKIE_SECONDS) == COOKIE
    assert read_cookie(value, TICKET.id, PEPPER, NOW + 10 + COOKIE_SECONDS) is None
    assert read_cookie(value, "another", PEPPER, NOW) is None
    assert read_cookie(value, TICKET.id, b"q" * 32, NOW) is None


@given(st.data())
def test_no_changed_character_of_a_cookie_goes_unnoticed(data: st.DataObject) -> None:
    value = sign_cookie(COOKIE, PEPPER)
    place = data.draw(st.integers(0, len(value) - 1))
    other = data.draw(st.sampled_from("Aa0-_.9").filter(lambda one: one != value[place]))
    assert read_cookie(value[:place] + other + value[place + 1 :], TICKET.id, PEPPER, NOW) is None


def test_a_browser_keeps_few_cookies_and_the_oldest_make_room() -> None:
    cookies: dict[str, str] = {"session": "of the page"}
    for opened in range(100):
        ticket = new_ticket("k" * 12, (), None, NOW)
        for name in stale_cookies(cookies):
            del cookies[name]
        made = new_cookie(ticket, CURSOR.format(opened), "", NOW + opened)
        prefix = "__Secure-" if opened % 2 else ""
        cookies[f"{prefix}{COOKIE_NAME}{ticket.id}"] = sign_cookie(made, PEPPER)
    assert len(cookies) == MOST_COOKIES + 1
    begins = {value.split(".")[1] for name, value in cookies.items() if name != "session"}
    assert begins == {CURSOR.format(n) for n in range(100 - MOST_COOKIES, 100)}


def test_cookies_of_another_form_are_forgotten_first() -> None:
    kept = {f"{COOKIE_NAME}{n}": sign_cookie(COOKIE, PEPPER) for n in range(3)}
    assert stale_cookies({**kept, f"{COOKIE_NAME}old": "alpt_x.y", "other": "alpt_x.y"}) == [
        f"{COOKIE_NAME}old"
    ]


def test_cookies_are_found_among_those_of_others_on_whichever_line_they_stand() -> None:
    lines = [
        f'theme="a;b"; {COOKIE_NAME}one=1.a.b.c;x', "", ";;; =; \u0436=1; " + "a=b;" * 3_000,
        f'{COOKIE_NAME}one=later; __Secure-{COOKIE_NAME}two="2.a"; my_{COOKIE_NAME}three=3',
        f"{COOKIE_NAME}; {COOKIE_NAME}=4;\t{COOKIE_NAME}five = 5 ;{COOKIE_NAME}six=",
    ]  # fmt: skip
    assert stream_cookies(lines) == {
        f"{COOKIE_NAME}one": "1.a.b.c",
        f"__Secure-{COOKIE_NAME}two": "2.a",
        f"{COOKIE_NAME}five": "5",
        f"{COOKIE_NAME}six": "",
    }


def test_cookies_that_others_name_alike_are_theirs_and_no_answer_forgets_hundreds() -> None:
    theirs = [f"my_{COOKIE_NAME}x", f"{COOKIE_NAME}", f"{COOKIE_NAME}a b", f"{COOKIE_NAME}\u0436"]
    assert stale_cookies(dict.fromkeys(theirs, "x")) == []
    cookies = {f"{COOKIE_NAME}{n}": "junk" for n in range(500)}
    cookies["of-ours"] = cookies[f"{COOKIE_NAME}new"] = sign_cookie(COOKIE, PEPPER)
    answers = 0
    while stale := stale_cookies(cookies):
        answers += 1
        assert len(stale) <= 32
        assert f"{COOKIE_NAME}new" not in stale
        for name in stale:
            del cookies[name]
    assert 10 < answers < 20


def test_another_pepper_makes_another_ticket() -> None:
    assert read_ticket(sign(TICKET, PEPPER), b"q" * 32, NOW) is None


@given(st.data())
def test_not_one_changed_character_goes_unnoticed(data: st.DataObject) -> None:
    text = sign(TICKET, PEPPER)
    place = data.draw(st.integers(len(PREFIX), len(text) - 1))
    other = data.draw(st.sampled_from("Aa0-_.=!z9").filter(lambda one: one != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    found = read_ticket(changed, PEPPER, NOW)
    # The last character of base64 has bits that mean nothing; the claims are the same then.
    assert found is None or (found == TICKET and place in (text.index(".") - 1, len(text) - 1))


def claims_of(text: str) -> bytes:
    claims = text.removeprefix(PREFIX).partition(".")[0]
    return base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))


def test_claims_cannot_be_exchanged_under_a_signature() -> None:
    text = sign(TICKET, PEPPER)
    forged = msgspec.structs.replace(TICKET, parameters=(), expires_at=NOW + 10**9)
    claims = base64.urlsafe_b64encode(msgspec.json.encode(forged)).rstrip(b"=").decode()
    assert read_ticket(f"{PREFIX}{claims}.{text.partition('.')[2]}", PEPPER, NOW) is None


def test_a_ticket_holds_no_secret() -> None:
    assert msgspec.json.decode(claims_of(sign(TICKET, PEPPER)), type=Ticket) == TICKET


@given(st.text(max_size=40) | st.text(alphabet="alpt_.=AZaz09-", max_size=60).map("alpt_".__add__))
def test_no_other_text_is_a_ticket(text: str) -> None:
    assert read_ticket(text, PEPPER, NOW) is None


@pytest.mark.parametrize(
    "text", ["", "alpt_", "alpt_.", "alpt_..", "alpt_" + "A" * MAX_LENGTH, "é"]
)
def test_junk_is_no_ticket(text: str) -> None:
    assert read_ticket(text, PEPPER, NOW) is None


def used(notes: dict[str, bytes], ticket: Ticket) -> bool:
    """Use a ticket, as a store of notes does it; whether it was the first time."""
    use = TicketUse(ticket)
    notes[use.name] = use(notes.get(use.name))
    return use.first


def test_each_ticket_is_used_once() -> None:
    notes: dict[str, bytes] = {}
    tickets = [new_ticket("k" * 12, (), None, NOW + second) for second in range(200)]
    assert all(used(notes, ticket) for ticket in tickets)
    # Over two minutes later those from the beginning are over, and the last ones are not.
    assert not any(used(notes, ticket) for ticket in tickets[-100:])


def test_a_ticket_that_opened_nothing_can_be_used_again() -> None:
    notes: dict[str, bytes] = {}
    ticket, other = (new_ticket("k" * 12, (), None, NOW) for _ in range(2))
    other = msgspec.structs.replace(other, id=ticket.id[:2] + other.id[2:])
    use = TicketUse(ticket)
    notes[use.name] = use(None)
    assert used(notes, other)
    undone = use.undo(notes[use.name])
    assert undone is not None
    notes[use.name] = undone
    assert used(notes, ticket)
    assert not used(notes, other)


def test_a_use_is_told_from_those_in_the_same_note() -> None:
    """A hundred thousand tickets within a minute share a few hundred notes."""
    notes: dict[str, bytes] = {}
    tickets = [new_ticket("k" * 12, (), None, NOW) for _ in range(3000)]
    assert sum(used(notes, ticket) for ticket in tickets) == 3000
    assert sum(used(notes, ticket) for ticket in tickets) == 0
    assert len(notes) <= 256


def test_notes_of_used_tickets_never_grow_in_number() -> None:
    notes: dict[str, bytes] = {}
    for minute in range(60):
        for _ in range(50):
            ticket = new_ticket("k" * 12, (), None, NOW + 60 * minute)
            assert used(notes, ticket)
            assert not used(notes, ticket)
    assert len(notes) <= 4 * 256
    assert max(map(len, notes.values())) < 200


def test_used_tickets_are_remembered_for_as_long_as_they_last() -> None:
    used = UsedTickets()
    for later in range(100):
        ticket = new_ticket("k" * 12, (), None, NOW + later)
        assert used.add(ticket, NOW + later)
        assert not used.add(ticket, NOW + later + 29)
        assert len(used) <= TICKET_SECONDS
    used.remove(ticket)
    assert used.add(ticket, NOW + 99)
