"""What does not compile, the column that is pointed at, and what the message says to do."""

from __future__ import annotations

import pytest

from gateway.errors import InvalidFilter
from gateway.filters.expression import compile_filter


def refusal(source: str) -> InvalidFilter:
    with pytest.raises(InvalidFilter) as caught:
        compile_filter(source)
    return caught.value


@pytest.mark.parametrize(
    ("source", "column", "said"),
    [
        ("", 1, "empty"),
        ("  // only this", 1, "empty"),
        ("severity >", 11, "ends where a value"),
        ("severity > 3 4", 14, "unexpected 4; an operator or the end"),
        ("(severity > 3", 14, "ends where )"),
        ("severity > 3)", 13, "unexpected )"),
        ("severity in [1, 2", 18, "a comma or ]"),
        ("size(targets, )", 15, "a value"),
        ("data. == 1", 7, "the name of a member"),
        ('outcome = "a"', 9, "write =="),
        ("data.a & data.b", 8, "write &&"),
        ("data.a | data.b", 8, "write ||"),
        ("data.a and data.b", 8, "write &&"),
        ("data.a or data.b", 8, "write ||"),
        ("not data.a", 1, "write !"),
        ("data.a =~ 'x'", 8, "=="),
        ("data.in == 1", 6, '["in"]'),
        ("data.`a b` == 1", 6, 'data["some-name"]'),
        ("data.a == “x”", 11, 'between " and "'),
        ("data.a == 5s", 12, "unexpected s"),
        ("package == 1", 1, "reserved"),
        ("data.a == # 1", 11, "'#'"),
        ('"abc', 1, "not closed"),
        ('data.a == "a\nb"', 11, "not closed"),
        ('data.a == """a"" ', 11, "not closed"),
        (r'data.a == "12\q"', 14, "escape"),
        (r'data.a == "12\x4"', 14, "escape"),
        (r'data.a == "\ud800"', 12, "escape"),
        (r'data.a == "\U00110000"', 12, "escape"),
        (r'data.a == "\400"', 12, "escape"),
        ("data.a == '\ud800'", 12, "surrogate"),
        ("9223372036854775808 > data.a", 1, "64 bits"),
        ("-9223372036854775809 > data.a", 2, "64 bits"),
        ("18446744073709551616u > data.a", 1, "64 bits"),
        ("1e999 > data.a", 1, "double"),
        ("has(data['a'])", 1, "has(data.bytes)"),
        ("has(size(data))", 1, "has(data.bytes)"),
        ("has(data.a, data.b)", 1, "has(data.bytes)"),
        ("targets.exists(t)", 9, "a variable and a condition"),
        ("targets.exists(t.x, true)", 9, "a variable and a condition"),
    ],
)
def test_bad_syntax_is_pointed_at(source: str, column: int, said: str) -> None:
    error = refusal(source)
    assert (error.column, error.code) == (column, "invalid_filter")
    assert said in error.detail


@pytest.mark.parametrize(
    ("source", "column", "said"),
    [
        ('actr.id == "x"', 1, "did you mean actor?"),
        ('actor.nam == "x"', 7, "did you mean name?"),
        ('actor["nam"] == "x"', 6, "did you mean name?"),
        ("severty > 3", 1, "did you mean severity?"),
        ("has(source.prt)", 12, "did you mean port?"),
        ("has(reasn)", 5, "did you mean reason?"),
        ('"idd" in actor', 1, "did you mean id?"),
        ('targets.exists(t, t.urm == "x")', 21, "did you mean urn?"),
        ('targets[0].zone == "x"', 12, "it has id, name, type, urn"),
        ("bytes > 3", 1, "what producers add is under data"),
        ('request.id.x == "a"', 12, "request.id is a string and has no members"),
        ('targets.urn == "x"', 9, "targets[0].urn or targets.exists(x, x.urn"),
        ("severity[0] == 1", 9, "has no items"),
        ("targets.exists(t, t.id == 'x') && t.id == 'x'", 35, "no member t"),
    ],
)
def test_an_unknown_member_is_refused_with_advice(source: str, column: int, said: str) -> None:
    error = refusal(source)
    assert error.column == column
    assert said in error.detail


@pytest.mark.parametrize(
    ("source", "column", "said"),
    [
        ('severity == "high"', 10, 'severity (an int) can never equal "high" (a string)'),
        ('severity > "3"', 10, "> does not take severity (an int)"),
        ("outcome > 3", 9, "> does not take outcome (a string)"),
        ("tenant == null", 8, "has()"),
        ("tenant in [1, 2]", 8, "can never be in a list of ints"),
        ("tenant in tenant", 8, "a list or a map"),
        ("1 in actor", 3, "keys of a map are strings"),
        ('time > timestamp("2026-01-31T12:00:00Z")', 6, "with timestamp()"),
        ('duration("1s") > "1s"', 16, "with duration()"),
        ("targets < targets", 9, "< does not take"),
        ("severity + 1.5 > 2.0", 10, "+ does not mix"),
        ('severity + "a" == "4a"', 10, "+ does not take"),
        ('[1] + ["a"] == [1]', 5, "+ does not take"),
        ("data.a % 1.5 == 0.5", 8, "% does not take"),
        ("-tenant == 'a'", 1, "- does not take a string"),
        ("-(1u) == 1u", 1, "- does not take a uint"),
        ("!severity", 2, "! takes what is true or false, not an int"),
        ("severity && true", 1, "&& joins what is true or false, not an int"),
        ("true || tenant", 9, "|| joins"),
        ("tenant ? true : false", 1, "on its left, not a string"),
        ("true ? 1 : 'a'", 6, "one type, not an int and a string"),
        ("targets[tenant] == 1", 9, "a list is indexed by an int"),
        ("actor[1] == 'a'", 7, "a map is indexed by a string"),
        ("targets.exists(t, t.id)", 19, "exists() takes a condition"),
        ("tenant.exists(t, true)", 8, "not a string"),
        ("size(severity) == 1", 1, "size() does not take an int"),
        ("tenant.contains(1)", 8, "contains() does not take a string and an int"),
        ("tenant.contains()", 8, "one value"),
        ("size() == 1", 1, "one value"),
        ("tenant.size(1) == 1", 8, "no value"),
        ("contains(tenant, 'a')", 1, "is written x.contains(...)"),
        ("tenant.int() == 1", 8, "is written int(x)"),
        ("severity", 1, "a filter is true or false, this is an int"),
        ("(actor)", 2, "this is an object"),
        ("data", 1, "this is a map"),
        ("1 + severity", 1, "this is an int"),
        ('timestamp(time) > timestamp("noon")', 29, "timestamp() cannot convert"),
        ('data.d == duration("1 day")', 20, "duration() cannot convert"),
        ('int("x") == 1', 5, "int() cannot convert"),
    ],
)
def test_a_type_mismatch_is_refused_where_it_is_known(source: str, column: int, said: str) -> None:
    error = refusal(source)
    assert said in error.detail
    assert error.column == column


@pytest.mark.parametrize(
    ("source", "column", "said"),
    [
        ("data.a == b'x'", 11, "no bytes"),
        ("data.a == rb'x'", 11, "no bytes"),
        ("bytes('a') == data.a", 1, "bytes() is not part of filters"),
        ("type(data.a) == data.b", 1, "type() is not part of filters"),
        ("dyn(1) == 1.0", 1, "dyn() is not part of filters"),
        ("{'a': 1}.a == 1", 1, "no map literals"),
        ("Timestamp{seconds: 1} == data.a", 10, "no message construction"),
        ("a.b.Timestamp{} == data.a", 14, "no message construction"),
        (".tenant == 'a'", 1, "no leading dot"),
        ("data.?a == 1", 6, "no optional access"),
        ("data[?0] == 1", 6, "no optional access"),
        ("data.l.filter(x, x > 1) == []", 8, "filter() is not part of filters"),
        ("data.l.map(x, x + 1) == []", 8, "map() is not part of filters"),
        ("timestamp(time).getHours() > 20", 17, "no time zone accessors"),
        ("timestamp(time).getDayOfWeek('UTC') > 5", 17, "no time zone accessors"),
        ("[1, 2].exists(x, x == 1)", 8, "the event's own lists"),
        ("(data.a + data.b).all(x, x == 1)", 19, "the event's own lists"),
        ("(true ? data.a : data.b).all(x, x == 1)", 26, "the event's own lists"),
        ("data.a.substring(1) == 'a'", 8, "no function substring()"),
        ("data.a.startWith('a')", 8, "did you mean startsWith()?"),
        ("lenght(data.a) == 1", 1, "there are size,"),
        ("data.a.matches(data.b)", 16, "a literal"),
        ("tenant.matches('(a' + 'b')", 16, "missing )"),
        ("data.a.matches('a(')", 16, "missing ): a("),
        ("data.a.matches(r'(?=a)')", 16, "not an RE2 pattern"),
        (r"data.a.matches('(a)\\1')", 16, "not an RE2 pattern"),
        ("data.a.matches('(?:[^x]{100}){9}')", 16, "too big"),
        (r"data.a.matches('\\pL{900}')", 16, "too large"),
        ("data.a.matches('x{900}') && data.a.matches('[^y]{200}')", 44, "too big"),
    ],
)
def test_what_is_left_out_is_refused_by_name(source: str, column: int, said: str) -> None:
    error = refusal(source)
    assert said in error.detail
    assert error.column == column
