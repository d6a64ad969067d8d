"""What is written down and what is enforced are the same: lists, patterns, networks, actions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.grants.grant import parse_grant, parse_grants
from gateway.access.grants.grant_check import NOT_YET
from gateway.access.policy.decision import Allowed, decide_grants
from gateway.errors import InvalidRequest, InvalidSetting
from gateway.event import OUTCOMES
from gateway.filters.alphabet import ALPHABETS, can_be, check_member_pattern
from gateway.filters.pattern import ANY, compile_patterns
from gateway.filters.scope import Scope
from gateway.http.query.query import pairs_of_body, parse_page, parse_stream
from gateway.ingest.decode import decode_event
from gateway.ingest.sources.row_mapping import RowMapping
from gateway.ingest.strict_json import Refused
from gateway.network import is_within, parse_address, parse_network

LEAST: dict[str, Any] = {"actions": ["stream"], "categories": ["auth.*"]}
_IDS: Iterator[str] = iter(map(str, range(1_000_000)))


def refusal(raw: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_grants([raw])
    return caught.value


@pytest.mark.parametrize(
    ("member", "value", "path"),
    [
        ("tenants", [], "tenants"),
        ("resources", [], "resources"),
        ("categories", [], "categories"),
        ("actions", [], "actions"),
        ("when", {"cidr": []}, "when.cidr"),
        ("when", {}, "when"),
        ("when", None, "when"),
        ("when", {"hours": None}, "when.hours"),
        ("when", {"max_lookback": None}, "when.max_lookback"),
        ("fields", {}, "fields"),
        ("fields", None, "fields"),
        ("fields", {"mask": [], "drop": ["data"]}, "fields.mask"),
        ("fields", {"drop": []}, "fields.drop"),
        ("tenants", None, "tenants"),
        ("tenants", "", "tenants"),
        ("tenants", "acme", "tenants"),
        ("tenants", [""], "tenants[0]"),
        ("tenants", ["acme", " "], "tenants[1]"),
        ("resources", ["", ""], "resources[0]"),
        ("when", {"cidr": [""]}, "when.cidr[0]"),
        ("when", {"cidr": "10.0.0.0/8"}, "when.cidr"),
    ],
)
def test_a_list_that_came_out_empty_is_refused_with_its_path(
    member: str, value: Any, path: str
) -> None:
    error = refusal({**LEAST, member: value})
    assert (error.status, error.members["path"]) == (400, f"grants[0].{path}"), error.detail
    assert f"grants[0].{path}" in error.detail


def test_a_list_that_is_given_twice_the_same_is_no_mistake() -> None:
    assert parse_grant({**LEAST, "tenants": ["acme", "acme"]}).tenants == ("acme", "acme")


@pytest.mark.parametrize("name", ["tenant", "category", "action", "outcome", "actor", "resource"])
@pytest.mark.parametrize("value", [[], None, [None], "", [""], ["", "a"]])
def test_an_empty_selector_is_refused_and_not_everything(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_stream(pairs_of_body({name: value}), None, 0.0)
    assert caught.value.members["parameter"] == name
    with pytest.raises(InvalidRequest):
        parse_page([(name, "")], 0.0)


IMPOSSIBLE = [
    ("tenant", "ACME", 1), ("tenant", "acme corp", 5), ("tenant", "a,b", 2), ("tenant", "ü", 1),
    ("tenant", "a\0", 2), ("tenant", "a" * 65, 65), ("tenant", "acme ", 5), ("tenant", "a/b", 2),
    ("tenant", ".".join("a" * 33), 65), ("tenant", ".".join("*" * 33), 65),
    ("category", "Auth.*", 1), ("category", "auth..x", 6), ("category", "auth ", 5),
    ("category", "auth,billing", 5), ("category", ".auth", 1), ("category", "auth.", 6),
    ("category", "a" * 65, 65), ("category", "auth.**.x", 6), ("category", "au*", 1),
    ("category", "auth.\n", 6), ("category", "a" * 63 + ".*", 65), ("category", "auth/login", 5),
    ("action", "user..login", 6), ("action", "user login", 5), ("action", "a" * 129, 129),
    ("outcome", "Denied", 1), ("outcome", "*", 1), ("outcome", "success,failure", 1),
    ("actor", "a" * 257, 257), ("actor", "\udcff", 1), ("actor", "a*", 1),
    ("resource", "k8s:prod//pods", 10), ("resource", "/ns/pay", 1), ("resource", "k8s:prod/", 10),
    ("resource", "k8s:prod//**", 10), ("resource", "s3://", 6), ("resource", "s3:///key", 6),
    ("resource", "a\tb", 2), ("resource", "a/**/b", 3), ("resource", "x" * 1025, 1),
]  # fmt: skip


@pytest.mark.parametrize(("member", "pattern", "column"), IMPOSSIBLE)
def test_a_pattern_that_no_event_can_match_is_refused_at_the_column(
    member: str, pattern: str, column: int
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_stream(pairs_of_body({member: ["a" if member != "outcome" else "denied", pattern]}),
                     None, 0.0)  # fmt: skip
    assert caught.value.members == {"parameter": member, "column": column}
    in_grants = {"tenant": "tenants", "category": "categories", "resource": "resources"}
    if member in in_grants:
        for effect in ("allow", "deny"):
            name = in_grants[member]
            error = refusal({**LEAST, "effect": effect, name: ["a", pattern]})
            assert error.members == {"path": f"grants[0].{name}[1]", "column": column}


@pytest.mark.parametrize(
    ("member", "pattern"),
    [
        ("tenant", "acme-eu.prod_1"), ("tenant", "a..b"), ("tenant", "a" * 64),
        ("category", "k8s.audit"), ("category", "a" * 64 + ".**"), ("category", "gateway.**"),
        ("action", "s3:GetObject"), ("action", "iam/role.Create"), ("actor", "Jürgen, Dr."),
        ("actor", "spiffe://a//b/"), ("resource", "s3://bucket/key"), ("resource", "Größe/x y"),
        ("resource", "file:///etc/passwd"), ("resource", "arn:aws:s3:::bucket/*"),
        ("resource", "https://h/**"),
    ],
)  # fmt: skip
def test_patterns_that_events_match_are_taken(member: str, pattern: str) -> None:
    check_member_pattern(member, pattern)


def test_the_advice_is_what_was_meant() -> None:
    for given_text, meant in (("ACME", "'acme'"), ("auth ", "'auth'")):
        with pytest.raises(InvalidRequest, match=f"did you mean {meant}"):
            check_member_pattern("tenant", given_text)
    with pytest.raises(InvalidRequest, match="write several as a list"):
        check_member_pattern("category", "auth,billing")


def test_a_constant_that_no_event_can_hold_stops_the_start() -> None:
    columns = {"action": "verb", "category": "=app"}
    RowMapping("t", {**columns, "tenant": "=acme", "outcome": "=denied"})
    for member, constant in (("tenant", "=ACME"), ("tenant", "="), ("outcome", "=bad")):
        with pytest.raises(InvalidSetting, match=member):
            RowMapping("t", {**columns, member: constant})


# The other way round: what is taken has an event, and what is refused has none.

_PIECES = st.sampled_from(
    ["a", "A", "0", "_", "-", ":", "ü", " ", ",", "\0", "\n", "\x7f", "*", "**", "", "a*", "aa"]
)
_PATTERNS = st.lists(_PIECES, min_size=1, max_size=5)


def _values_of(pattern: str, separator: str) -> list[str]:
    """Names that the pattern matches if any does: wildcards as short as they can be."""
    if pattern == ANY:
        return ["a"]
    body = pattern.removesuffix(separator + ANY)
    return [separator.join("a" if part == "*" else part for part in body.split(separator))]


def _holds(member: str, value: str) -> bool:
    event: dict[str, Any] = {"category": "a", "action": "a"}
    if member == "actor":
        event["actor"] = {"id": value}
    elif member == "resource":
        event["targets"] = [{"urn": value}]
    else:
        event[member] = value
    try:
        decode_event(json.dumps(event).encode("utf-8", "surrogatepass"), _IDS)
    except Refused:
        return False
    return True


@given(st.sampled_from(sorted(ALPHABETS)), _PATTERNS, st.sampled_from([1, 22, 70, 140, 300]))
def test_a_pattern_is_taken_exactly_where_an_event_can_match_it(
    member: str, pieces: list[str], times: int
) -> None:
    separator = ALPHABETS[member].separator
    pattern = separator.join([*pieces[:-1] * times, pieces[-1]])
    try:
        check_member_pattern(member, pattern)
        taken = True
    except InvalidRequest:
        taken = False
    if ANY in pattern.split(separator)[:-1] or any(
        "*" in part and part not in ("*", ANY) for part in pattern.split(separator)
    ):
        assert not taken
        return
    [value] = _values_of(pattern, separator)
    assert not pattern or compile_patterns([pattern], separator)(value)
    possible = _holds(member, value) and pattern != ""
    if member == "resource" and "" in pattern.split(separator):
        # An event can have such a urn; patterns with a hole in them are refused all the same.
        possible = False
    assert taken == possible, (pattern[:80], value[:80])


@given(st.sampled_from([*sorted(ALPHABETS), "outcome"]), st.text(max_size=8))
def test_what_a_member_can_be_is_what_the_decoder_takes(member: str, value: str) -> None:
    if member != "resource":
        assert can_be(member, value) == _holds(member, value)
    assert all(can_be("outcome", one) for one in OUTCOMES)


# Networks and addresses


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::FFFF:192.0.2.7", "192.0.2.7/32"), ("::ffff:c000:207/128", "192.0.2.7/32"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"), ("2001:DB8::/32", "2001:db8::/32"),
        ("64:ff9b::/96", "64:ff9b::/96"), ("::/0", "::/0"),
    ],
)  # fmt: skip
def test_a_network_in_another_spelling_is_the_same_network(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_mapped_network_holds_what_the_network_holds(number: int, bits: int) -> None:
    plain = IPv4Network((number >> (32 - bits) << (32 - bits), bits))
    mapped = IPv6Network((int(IPv6Address("::ffff:0:0")) + int(plain[0]), 96 + bits))
    assert parse_network(str(mapped)) == plain
    for one in (plain[0], plain[-1]):
        for spelled in (str(one), f"::ffff:{one}", f"[::ffff:{one}]:443", f"{one}:80"):
            assert is_within(spelled, (str(mapped),)) is True
            assert is_within(spelled, (str(plain),)) is True


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1/8", "::ffff:10.0.0.1/104", "203.0.113.009", "10.0.0.0/33", "fe80::%eth0/64",
        "fe80::1%eth0", "", " 10.0.0.0/8", "10.0.0.0/8,10.1.0.0/16", "proxy", "10.0.0.0/-1",
        "::10.0.0.0/104", "::0a00:0001", "::/96",
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network"):
        parse_network(text)
    assert refusal({**LEAST, "when": {"cidr": [text]}}).members["path"] == "grants[0].when.cidr[0]"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("1.2.3.4:5678", "1.2.3.4"), ("[2001:db8::1]:443", "2001:db8::1"),
        ("1.2.3.4:_x", "1.2.3.4"),
        ("[2001:db8::1]", "2001:db8::1"), ("fe80::1%eth0", "fe80::1"), (" 1.2.3.4 ", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"), ("[::ffff:1.2.3.4]:1", "1.2.3.4"),
        ("64:ff9b::102:304", "64:ff9b::102:304"), ("::1", "::1"), ("[::]:80", "::"),
    ],
)  # fmt: skip
def test_an_address_in_another_spelling_is_the_same_address(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


UNKNOWN = [
    "unknown", "_hidden", "203.0.113.009", "", "1.2.3.4:", "1.2.3.4:http", "[2001:db8::1", "1.2.3",
    "[1.2.3.4]", "[::1]443", "1.2.3.4, 5.6.7.8", '"1.2.3.4"', "0x7f000001", "localhost", "::1::",
    "::203.0.113.9", "[::cb00:7109]:443",
]  # fmt: skip


@pytest.mark.parametrize("text", [*UNKNOWN, None])
def test_an_unknown_address_does_not_escape_a_denial_and_is_not_let_in(text: str | None) -> None:
    assert text is None or parse_address(text) is None
    allow = parse_grant({**LEAST, "categories": ["**"]})
    deny = parse_grant({**LEAST, "effect": "deny", "when": {"cidr": ["203.0.113.0/24"]}})
    from_there = parse_grant({**LEAST, "when": {"cidr": ["203.0.113.0/24", "0.0.0.0/0", "::/0"]}})
    decided = decide_grants((allow, deny), "stream", address=text)
    assert isinstance(decided, Allowed)
    assert decided.view.denied == (deny.scope(),)
    assert not isinstance(decide_grants((from_there,), "stream", address=text), Allowed)
    known = decide_grants((allow, deny), "stream", address="198.51.100.1")
    assert isinstance(known, Allowed)
    assert known.view.denied == ()


@pytest.mark.parametrize("action", NOT_YET)
def test_an_action_without_a_call_cannot_be_granted(action: str) -> None:
    error = refusal({**LEAST, "actions": ["stream", action]})
    assert (error.status, error.code) == (400, "unsupported_action")
    assert error.members["path"] == "grants[0].actions[1]"


def test_a_scope_says_the_column_of_a_pattern() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Scope(category=("auth..x",)).check()
    assert caught.value.members == {"parameter": "category", "column": 6}
