"""Filter expressions, construct by construct; `test_expression_refusals` has what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.filters.expression import compile_filter

EVENT: dict[str, Any] = orjson.loads(
    b"""{
    "cursor": "k3v9q-00000000000000000042", "id": "e1", "tenant": "acme", "category": "auth.login",
    "time": "2026-01-31T12:00:00.000000Z", "recorded_at": "2026-01-31T12:00:01.500000Z",
    "action": "user.login", "outcome": "denied", "severity": 4,
    "actor": {"type": "user", "id": "u1", "name": "Ana"},
    "source": {"service": "web", "ip": "10.0.0.1", "port": 443},
    "targets": [{"urn": "k8s:prod/ns/pay/pods/web-1", "type": "pod", "name": "web-1"},
                {"urn": "k8s:prod/ns/pay/secrets/db", "type": "secret"}],
    "data": {"bytes": 2000000, "ratio": 0.75, "whole": 2.0, "ok": true, "none": null,
             "path": "/admin/\\u00e4.php", "tags": ["x", "y", 3], "big": 9007199254740993,
             "huge": 18446744073709551615, "lowest": -9.223372036854775808e18, "count": 3,
             "negative": -7, "in": 1, "a b": {"c": "d"},
             "headers": {"host": "a.example", "x-id": "7"}, "empty": [], "nested": [[1], [2, 3]]}
    }"""
)
BARE = {"tenant": "acme", "category": "a", "action": "b", "outcome": "unknown", "severity": 1}


def holds(source: str, event: dict[str, Any] = EVENT) -> bool:
    return compile_filter(source).matches(event)


def verdict(source: str, event: dict[str, Any] = EVENT) -> bool | None:
    """True, False, or None for an error."""
    return holds(source, event) or (False if holds(f"!({source})", event) else None)


@pytest.mark.parametrize(
    "source",
    [
        'outcome == "denied" && severity >= 4 && data.bytes > 1000000',
        "outcome == 'denied'",
        'actor["id"] == "u1"',
        'data["a b"].c == "d"',
        'data.headers["x-id"] == "7"',
        'targets[1].type == "secret"',
        "data.nested[1][0] == 2",
        'source.port == 443 && source["port"] != 80',
        'tenant in ["other", "acme"]',
        'data.count in [1, "x", 3.0, null]',
        "data.ok in [false, true]",
        "data.none in [1, null]",
        '"x" in data.tags && !("z" in data.tags) && 3.0 in data.tags',
        '"host" in data.headers && "id" in actor && !("key_id" in actor)',
        "data.nested[0] in data.nested",
        "data.ok",
        "data.ok == true && data.ok != false",
        "data.none == null && data.count != null",
        "data.tags == ['x', 'y', 3.0]",
        "data.nested == [[1], [2, 3]] && data.nested != [[1], [2, true]]",
        "data.headers == data.headers && data.headers != data.tags",
        "severity > 3 ? data.ok : false",
        'data.path < "/b" && "/a" < data.path',
        'time < recorded_at && recorded_at >= "2026-01-31"',
        "data.negative + 8 == 1 && 8 - data.count == 5 && data.count * 2 == 6",
        "-data.negative == 7 && -(data.ratio) == -0.75",
        "data.negative / 2 == -3 && data.negative % 2 == -1 && 7 % -2 == 1",
        'actor.name + "-" + actor.id == "Ana-u1"',
        "data.tags + [4] == ['x', 'y', 3, 4]",
        "0x1F == 31 && -0x1f == -31 && 1e3 == 1000.0 && .5 == 0.5 && 12u == 0xCu",
        "1 + 2 * 3 - 4 / 2 == 5 && (1 + 2) * 3 == 9 && 2 - 1 - 1 == 0",
        "true || false && false",
        "!!true && !false && --3 == 3",
        "true ? (false ? false : true) : false ? false : true",
        "1 < 2 == true",
        "outcome == 'denied' // and nothing more\n && severity == 4",
        "-9223372036854775808 < 9223372036854775807 && 18446744073709551615u > 0u",
        "data.bytes > 1000000 || data.nope > 1",
        "1000000 < data.bytes && 4 <= severity && 'denied' == outcome && 'acme' != actor.id",
    ],
)
def test_an_expression_holds(source: str) -> None:
    assert verdict(source) is True


@pytest.mark.parametrize(
    ("literal", "text"),
    [
        (r'"\a\b\f\n\r\t\v\\\"\'\`\?"', "\a\b\f\n\r\t\v\\\"'`?"),
        (r'"\x41\X42\u00e4\U0001F600\101"', "ABä😀A"),
        ("'it\"s' ", 'it"s'),
        (r"r'\d\'", "\\d\\"),
        (r'R"\""', None),
        ('"""two\n"lines" """', 'two\n"lines" '),
        ("'''a\\'''b'''", "a'''b"),
        ("r'''a\\'''", "a\\"),
        ('"tab\there"', "tab\there"),
    ],
)
def test_string_literals_are_those_of_cel(literal: str, text: str | None) -> None:
    if text is None:
        with pytest.raises(Exception, match="not closed"):
            compile_filter(f"reason == {literal}")
    else:
        assert holds(f"reason == {literal}", {"reason": text})
        assert not holds(f"reason == {literal}", {"reason": text + "."})


@pytest.mark.parametrize(
    "source",
    [
        "data.nope == 1",
        "data.nope != 1",
        "data.nope.deeper == 1",
        "data.count.deeper == 1",
        "data.tags[3] == 1",
        "data.tags[-1] == 1",
        "data.tags[0.5] == 1",
        'data.tags["x"] == 1',
        "data.headers[0] == 1",
        "data.count[0] == 1",
        "data.count > 'a'",
        "data.nope in ['a', 1]",
        "[data.nope] == [1]",
        "data.count in [data.nope]",
        "int(data.lowest) == 1",
        "int(data.huge) == 1",
        "uint(data.ratio - 1) == 0u",
        "uint(data.negative) == 0u",
        "uint(string(data.negative)) == 0u",
        "data.none < 1",
        "data.tags < data.tags",
        "data.ok > 0",
        "!data.count",
        "!data.nope",
        "data.count && true",
        "data.count ? true : true",
        "1 in data.count",
        "null in data.headers",
        "data.count + 'a' == 'a'",
        "data.headers + data.headers == data.headers",
        "-data.path == 1",
        "data.count / 0 == 1",
        "data.count % 0 == 1",
        "data.ratio % 2 == 1",
        "9223372036854775807 + data.count == 1",
        "-9223372036854775808 - data.count == 1",
        "9223372036854775807 * data.count == 1",
        "-9223372036854775808 / -1 == 1",
        "-9223372036854775808 % -1 == 0",
        "-(-9223372036854775808) == 1",
        "1u - 2u == 1u",
        "18446744073709551615u + 1u == 1u",
        "data.count + 1u == 4u",
        "data.count.size() == 1",
        "data.count.startsWith('a')",
        "data.count.matches('a')",
        "data.path.contains(data.count)",
        "int(data.path) == 1",
        "timestamp(data.path) == timestamp(time)",
        "reason == ''",
        "has(data.count.x)",
        "has(data.nope.x)",
        "has(targets[9].urn)",
    ],
)
def test_an_error_is_no_match_and_neither_is_its_negation(source: str) -> None:
    assert verdict(source) is None


def test_and_and_or_absorb_errors_on_either_side() -> None:
    error = "data.nope == 1"
    assert verdict(f"{error} || true") is True
    assert verdict(f"true || {error}") is True
    assert verdict(f"{error} && false") is False
    assert verdict(f"false && {error}") is False
    assert verdict(f"{error} && true") is None
    assert verdict(f"{error} || false") is None
    assert verdict(f"({error} && false) == false") is True
    assert verdict(f"({error} || true) == true") is True
    assert verdict(f"({error} || false) == true") is None
    assert verdict(f"true ? {error} : true") is None
    assert verdict(f"false ? {error} : true") is True


def test_only_true_matches_and_other_values_do_not() -> None:
    for value in (1, "true", None, [True], {}, 1.0):
        assert verdict("data.x", {"data": {"x": value}}) is None
    assert verdict("data.x", {"data": {"x": True}}) is True
    assert verdict("data.x", {"data": {"x": False}}) is False


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (0, False),
        ("1", 1),
        ("", None),
        ([], {}),
        ([1], [True]),
        ({"a": 0}, {"a": False}),
    ],
)
def test_values_of_different_types_differ(left: Any, right: Any) -> None:
    event = {"data": {"l": left, "r": right}}
    assert verdict("data.l == data.r", event) is False
    assert verdict("data.l != data.r", event) is True
    assert verdict("data.l in [data.r]", event) is False


def test_a_constant_differs_from_values_of_other_types() -> None:
    assert verdict("data.x == 1", {"data": {"x": True}}) is False
    assert verdict("data.x != 1", {"data": {"x": True}}) is True
    assert verdict("data.x == true", {"data": {"x": 1}}) is False
    assert verdict("data.x in [0, 1]", {"data": {"x": True}}) is False
    assert verdict("data.x in [true, false]", {"data": {"x": 1}}) is False
    assert verdict("data.x in ['a']", {"data": {"x": ["a"]}}) is False
    assert verdict("data.x > 0", {"data": {"x": True}}) is None


def test_numbers_compare_exactly_across_types() -> None:
    assert verdict("data.whole == 2 && data.whole == 2u && data.count == 3.0") is True
    assert verdict("data.big == 9007199254740992.0") is False
    assert verdict("data.big > 9007199254740992.0 && 9007199254740992.0 < data.big") is True
    assert verdict("data.huge == 18446744073709551615u && data.huge > 9223372036854775807") is True
    assert verdict("1u < 1.5 && -1 < 0u && 2 in [2.0]") is True
    assert verdict("data.ratio > 0 && data.ratio < 0.76 && data.nested[0][0] < 1.5") is True
    assert verdict("severity > 3 && severity < 4", {"severity": 3.5}) is True


def test_an_int_that_meets_a_double_in_arithmetic_becomes_one() -> None:
    for number in ("2", "2.0"):
        event = orjson.loads(b'{"data": {"n": %s}}' % number.encode())
        assert verdict("data.n + 1 == 3 && data.n * 1.5 == 3.0 && 5.0 - data.n == 3.0", event)
    assert verdict("data.ratio + 1 + 0.5 == 2.25 && 1 + data.ratio < 2") is True
    assert verdict("data.count / 2 == 1 && data.whole / 4 == 0.5") is True


def test_doubles_follow_ieee_754() -> None:
    nan = "(data.whole * 0.0 / 0.0)"
    assert verdict(f"{nan} == {nan}") is False
    assert verdict(f"{nan} != {nan} && !({nan} < 1.0) && !({nan} >= 1.0)") is True
    assert verdict(f"{nan} in [{nan}, 1.0]") is False
    assert verdict("data.whole / 0.0 > 1e308 && -data.whole / 0.0 < -1e308") is True
    assert verdict("data.whole / -0.0 < 0.0") is True


def test_strings_order_by_code_points() -> None:
    assert verdict('"Z" < "a" && "a" < "ä" && "\\uffff" < "😀"') is True
    assert verdict('size("a😀") == 2 && "a😀".size() == 2') is True


def test_has_tells_an_absent_member_from_null() -> None:
    assert verdict("has(data.none) && has(actor.id) && has(data.headers.host)") is True
    assert verdict("has(data.nope)") is False
    assert verdict("has(actor.key_id)") is False
    assert verdict("has(reason)") is False
    assert verdict("has(reason)", {"reason": ""}) is True
    assert verdict("has(targets[1].name)") is False


def test_an_absent_object_or_list_reads_as_empty() -> None:
    for source in ("has(actor.id)", "has(data.x)", "has(source.ip)", "has(request.id)"):
        assert verdict(source, BARE) is False
    assert verdict("size(targets) == 0 && size(data) == 0", BARE) is True
    assert verdict('targets.exists(t, t.type == "pod")', BARE) is False
    assert verdict('targets.all(t, t.type == "pod")', BARE) is True
    assert verdict('"id" in actor', BARE) is False
    assert verdict('actor.id == "u1"', BARE) is None
    assert verdict("has(actor)", BARE) is False


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('targets.exists(t, t.type == "pod")', True),
        ('targets.exists(t, t.type == "job")', False),
        ('targets.exists(t, t.name == "web-1")', True),
        ('targets.exists(t, t.name == "db")', None),
        ('targets.all(t, t.urn.startsWith("k8s:prod/"))', True),
        ('targets.all(t, t.type == "pod")', False),
        ('targets.all(t, t.name == "web-1")', None),
        ('targets.all(t, t.name == "db")', False),
        ("targets.exists_one(t, has(t.name))", True),
        ("targets.exists_one(t, has(t.urn))", False),
        ('targets.exists_one(t, t.name == "web-1")', None),
        ("data.tags.exists(x, x == 3)", True),
        ("data.tags.exists(x, x > 2)", True),
        ("data.tags.all(x, x > 2)", None),
        ("data.empty.all(x, x > 2)", True),
        ("data.empty.exists(x, x > 2)", False),
        ("data.nested.exists(l, l.exists(n, n == 3))", True),
        ("data.nested.all(l, l.all(n, n < 3))", False),
        ("data.nested.exists(l, l.exists(n, l.size() == 2 && n == 2))", True),
        ("data.nested.exists(l, l.exists(l, l == 3))", True),
        ("data.nested.exists(l, l.exists(l, l == 3) && size(l) == 2)", True),
        ("data.headers.exists(k, k == 'host')", True),
        ("data.headers.all(k, data.headers[k] != '')", True),
        ("data.exists(k, k.startsWith('by'))", True),
        ("actor.exists(k, k == 'name')", True),
        ("data.count.exists(x, true)", None),
        ("data.path.exists(x, true)", None),
        ("data.nope.exists(x, true)", None),
        ("data.tags.exists(x, x)", None),
        ("(data.tags.exists(x, x == 3)) == true", True),
        ("(data.tags.all(x, x == 3)) == false", True),
        ("targets.exists(outcome, outcome.type == 'pod') && outcome == 'denied'", True),
    ],
)
def test_quantifiers(source: str, expected: bool | None) -> None:
    assert verdict(source) is expected


@pytest.mark.parametrize(
    "source",
    [
        'data.path.startsWith("/admin/") && data.path.endsWith(".php")',
        'data.path.contains("ä") && !data.path.contains("x")',
        "actor.name.contains('') && ''.contains('')",
        r'data.path.matches("^/admin/.*\\.php$") && data.path.matches(r"\.php$")',
        'data.path.matches("min") && !data.path.matches("^min")',
        'matches(data.path, "adm")',
        'data.path.matches("/.\\\\.php")',
        'actor.name.lowerAscii() == "ana" && actor.name.upperAscii() == "ANA"',
        '"ÄB".lowerAscii() == "Äb"',
        "size(targets) == 2 && targets.size() == 2 && size(data.headers) == 2",
        "size(data.path) == 12",
        'string(severity) == "4" && string(data.ok) == "true" && string(data.whole) == "2"',
        'string(7u) == "7" && string(data.ratio) == "0.75" && string("a") == "a"',
        'int("-12") == -12 && int(data.ratio) == 0 && int(-1.9) == -1 && int(7u) == 7',
        'int(data.headers["x-id"]) == 7',
        'uint(data.count) == 3u && uint("12") == 12u && uint(2.9) == 2u',
        'double("1.5e1") == 15.0 && double(data.count) == 3.0 && double(1u) == 1.0',
        'bool("true") && !bool("f") && bool(data.ok)',
        'timestamp(time) == timestamp("2026-01-31T13:00:00+01:00")',
        'timestamp(recorded_at) - timestamp(time) == duration("1.5s")',
        'timestamp(time) + duration("1h") > timestamp(recorded_at)',
        'timestamp(time) - duration("1m") < timestamp(recorded_at) - duration("1m")',
        'duration("1h") + duration("30m") == duration("90m")',
        'duration("-1.5s") < duration("0") && duration("1h1m1s1ms1us1ns") > duration("1h")',
        'int(timestamp("1970-01-01T00:01:00.9Z")) == 60 && timestamp(60) > timestamp(59)',
        'string(timestamp("2026-01-31T13:00:00.120+01:00")) == "2026-01-31T12:00:00.120Z"',
        'string(timestamp("2026-01-31T12:00:00.000000001Z")) == "2026-01-31T12:00:00.000000001Z"',
        'string(duration("1m0.25s")) == "60.250s" && string(duration("-1s")) == "-1s"',
        'timestamp("2026-01-31T12:00:00.123456789Z") > timestamp("2026-01-31T12:00:00.123456788Z")',
    ],
)
def test_functions(source: str) -> None:
    assert verdict(source) is True
