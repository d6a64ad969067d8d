"""What a filter tells of itself: its canonical text, the members it reads, what must hold."""

from __future__ import annotations

import pytest

from gateway.filters.expression import compile_filter


def test_filters_that_mean_the_same_text_are_equal() -> None:
    one = compile_filter("tenant=='a'&&((severity>=0x4)||has(actor . id)) // strict")
    other = compile_filter('tenant == "a" && (severity >= 4 || has(actor.id))')
    assert one == other
    assert hash(one) == hash(other)
    assert one.canonical == 'tenant == "a" && (severity >= 4 || has(actor.id))'
    assert one.source.endswith("// strict")
    assert one != compile_filter('tenant == "a" && severity >= 4 || has(actor.id)')


@pytest.mark.parametrize(
    ("source", "canonical"),
    [
        ('actor["id"] == data["a b"]', 'actor.id == data["a b"]'),
        ('data["in"] == 1 && data["9"] == 1', 'data["in"] == 1 && data["9"] == 1'),
        ("(true && data.a) && (data.b && data.c)", "true && data.a && data.b && data.c"),
        ("(1 + 2) + 3 == 1 + (2 + 3)", "1 + 2 + 3 == 1 + (2 + 3)"),
        ("-(1) == - 1 && !(!data.a)", "-1 == -1 && !!data.a"),
        ("data.x.size() == size(data.x)", "size(data.x) == size(data.x)"),
        ("matches(tenant, r'\\d')", 'tenant.matches("\\\\d")'),
        ("(data.a ? data.b : true) ? true : (data.d)", "(data.a ? data.b : true) ? true : data.d"),
        ("data.a ? true : (data.b ? true : false)", "data.a ? true : data.b ? true : false"),
        ("'\\x07\\'\"' == reason", '"\\u0007\'\\"" == reason'),
        ("1e3 < 0xFu && 1.50 > -.5", "1000.0 < 15u && 1.5 > -0.5"),
        ("(data.a == 1) == (data.b == 2)", "data.a == 1 == (data.b == 2)"),
        ("targets.exists(t,(t.id=='x'))", 'targets.exists(t, t.id == "x")'),
        ("(data.a + data.b).contains('x')", '(data.a + data.b).contains("x")'),
    ],
)
def test_canonical_text(source: str, canonical: str) -> None:
    assert compile_filter(source).canonical == canonical


@pytest.mark.parametrize(
    ("source", "members"),
    [
        ("true", set()),
        ('actor.name == "x" && data.bytes > 1', {"actor.name", "data.bytes"}),
        ('data["a b"].c[0].d == 1', {"data.a b.c.d"}),
        ("has(actor.name) || has(reason)", {"actor.name", "reason"}),
        ('"name" in actor', {"actor.name"}),
        ('"name" in data.x', {"data.x"}),
        ('actor.exists(k, k == "name")', {"actor"}),
        ("size(data) > 3", {"data"}),
        ("actor == data.actor", {"actor", "data.actor"}),
        ("actor[tenant] == data.x[data.k].y", {"actor", "tenant", "data.x", "data.k"}),
        ('targets.exists(t, t.urn == "x")', {"targets.urn"}),
        ('targets[0].urn == "x"', {"targets.urn"}),
        ("targets.exists(t, true)", {"targets"}),
        ("targets.exists(t, t == data.t)", {"targets", "data.t"}),
        ("targets.all(t, targets.exists(u, t.id == u.name))", {"targets.id", "targets.name"}),
        ("data.l.exists(x, x.y == 1)", {"data.l", "data.l.y"}),
        ("targets.exists(actor, actor.id == tenant)", {"targets.id", "tenant"}),
        ("targets[int(data.i)].name == ''", {"targets.name", "data.i"}),
    ],
)
def test_members_are_all_that_a_filter_reads(source: str, members: set[str]) -> None:
    assert compile_filter(source).members == members


@pytest.mark.parametrize(
    ("source", "equalities"),
    [
        ('tenant == "a"', {"tenant": {"a"}}),
        ('"a" == tenant && severity > 3', {"tenant": {"a"}}),
        ('tenant in ["a", "b"]', {"tenant": {"a", "b"}}),
        ('tenant == "a" || tenant == "b"', {"tenant": {"a", "b"}}),
        ('tenant == "a" || outcome == "b"', {}),
        ('tenant == "a" || severity > 3', {}),
        ('tenant == "a" && tenant == "b"', {"tenant": set()}),
        ('tenant in ["a", "b"] && tenant in ["b", "c"]', {"tenant": {"b"}}),
        ('actor.id == "u" && actor["id"] != "v"', {"actor.id": {"u"}}),
        ('actor.name == "u" && time == "x"', {"actor.name": {"u"}, "time": {"x"}}),
        ('data.a.b == "x" && data["c"] in ["y", "z"]', {"data.a.b": {"x"}, "data.c": {"y", "z"}}),
        ('data["a.b"] == "x"', {}),
        ('data.a in ["x", 3]', {}),
        ('data.l[0] == "x" && targets[0].urn == "y"', {}),
        (
            'category == "c" && (action == "a" || action == "b" && outcome == "x")',
            {"category": {"c"}, "action": {"a", "b"}},
        ),
        ('severity > 3 ? tenant == "a" : tenant == "b"', {"tenant": {"a", "b"}}),
        ('!(tenant == "a")', {}),
        ('tenant != "a"', {}),
        ('targets.exists(tenant, tenant.id == "a")', {}),
        ("tenant in [outcome]", {}),
    ],
)
def test_equalities_are_what_must_hold(source: str, equalities: dict[str, set[str]]) -> None:
    assert compile_filter(source).equalities == equalities
