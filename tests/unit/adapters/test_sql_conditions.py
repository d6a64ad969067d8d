"""Scopes as SQL, run by a real SQLite beside the scopes themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.grants.grant import Grant
from gateway.access.policy.decision import Allowed, decide_grants
from gateway.adapters.sql_conditions import exact_sql, narrow_sql
from gateway.event import Event
from gateway.filters.scope import EVERYTHING, Scope, all_of, any_of
from gateway.log.ports import ScanHint
from tests.support.examples import examples

MakeEvent = Callable[..., Event]

# What lies right before, at and behind the ranges of prefixes, and what sorts oddly.
CATEGORIES = (
    "a",
    "a.b",
    "a.b.c",
    "a-",
    "a/",
    "a0",
    "b",
    "gateway",
    "gateway.x",
    "gateway-",
    "gateway0",
)
TENANTS = ("t", "t.1", "t.1.2", "t/", "s")
ACTORS = (
    "",
    "u",
    "u/1",
    "u/1/2",
    "u.",
    "u0",
    "u/",
    "u/\U0010ffff",
    "u/\U0010ffffx",
    "u/1\x00",
    "U",
    "ü",
)
OUTCOMES = ("success", "denied")
URNS = ("", "r/1", "r/2\nr/1")
COLUMNS = ("offset", "tenant", "category", "action", "outcome", "severity", "actor", "resources")


def some(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=3).map(tuple)


scopes = st.builds(
    Scope,
    tenant=some(*TENANTS, "t.*", "t.**", "*", "**", "*.1", "t.*.2"),
    category=some(
        *CATEGORIES[:5], "a.*", "a.**", "*", "*.b", "**", "*.**", "gateway.**", "gateway.*"
    ),
    action=some("x", "y.**"),
    outcome=some(*OUTCOMES),
    actor=some(*ACTORS[1:], "u/*", "u/**", "*", "**", "*/1", "u/*/2", "u/1/**"),
    resource=some("r/1", "r/*", "**"),
    min_severity=st.integers(1, 6),
    reserved=st.booleans(),
)
hints = st.builds(ScanHint, scopes, st.lists(scopes, max_size=3).map(tuple), st.booleans())


@pytest.fixture(scope="module")
def world(event: MakeEvent) -> list[Event]:
    """Events of every kind."""
    kinds = product(TENANTS, CATEGORIES, ACTORS, OUTCOMES)
    return [
        event(
            offset, tenant=tenant, category=category, actor=actor, outcome=outcome,
            severity=offset % 6 + 1, resources=URNS[offset % 3],
            action=("x", "y", "y.z")[offset % 3],
        )
        for offset, (tenant, category, actor, outcome) in enumerate(kinds, 1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def database(world: list[Event]) -> Iterator[apsw.Connection]:
    """The same events in SQLite, with the columns of the store."""
    connection = apsw.Connection(":memory:")
    connection.execute(
        "CREATE TABLE event (offset INTEGER PRIMARY KEY, tenant TEXT, category TEXT, action TEXT, "
        "outcome TEXT, severity INTEGER, actor TEXT, resources TEXT) STRICT"
    )
    rows = [[getattr(one, column) for column in COLUMNS] for one in world]
    connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    yield connection
    connection.close()


def selected(database: apsw.Connection, condition: str, bound: list[str | int]) -> set[int]:
    sql = f"SELECT offset FROM event WHERE offset > 0{condition}"
    return {row[0] for row in database.execute(sql, bound)}


def wanted(world: list[Event], hint: ScanHint) -> set[int]:
    allowed = any_of([scope.compile() for scope in hint.allowed])
    test = all_of([hint.wanted.compile(), allowed])
    return {event.offset for event in world if test(event)}


@settings(max_examples=examples(120))
@given(hints)
def test_the_condition_never_excludes_an_event_that_is_wanted(
    world: list[Event], database: apsw.Connection, hint: ScanHint
) -> None:
    assert wanted(world, hint) <= selected(database, *narrow_sql(hint))


@settings(max_examples=examples(120))
@given(hints)
def test_an_exact_condition_selects_what_is_wanted_and_nothing_else(
    world: list[Event], database: apsw.Connection, hint: ScanHint
) -> None:
    exact = exact_sql(hint)
    if exact is not None:
        assert hint.complete
        assert selected(database, *exact) == wanted(world, hint)


@pytest.mark.parametrize("reserved", [True, False])
@pytest.mark.parametrize(
    "patterns",
    [(), ("a",), ("a", "b"), ("a.**",), ("**",), ("**", "gateway.**"), ("**", "gateway.x"),
     ("a.b.**", "gateway"), ("gateway.**",), ("a.**", "a.b")],
)  # fmt: skip
def test_what_grants_usually_say_is_said_exactly(
    world: list[Event], database: apsw.Connection, patterns: tuple[str, ...], reserved: bool
) -> None:
    for scope in (
        Scope(category=patterns, reserved=reserved),
        Scope(category=patterns, reserved=reserved, tenant=("t",), min_severity=3),
        Scope(category=patterns, reserved=reserved, actor=("u/**", "U"), outcome=("denied",)),
        Scope(category=patterns, reserved=reserved, resource=("**",)),
    ):
        hint = ScanHint(EVERYTHING, (scope,), True)
        exact = exact_sql(hint)
        assert exact is not None, scope
        assert selected(database, *exact) == wanted(world, hint), scope


@pytest.mark.parametrize(
    "scope",
    [
        Scope(category=("a.*",)),
        Scope(category=("*.b",)),
        Scope(category=("*",), reserved=False),
        Scope(category=("*", "a"), reserved=False),
        Scope(category=("*.**",)),
        Scope(tenant=("t.*.2",)),
        Scope(actor=("u/*/**",)),
        Scope(resource=("r/1",)),
        Scope(resource=("r/**",)),
        Scope(actor=tuple(f"u{number}" for number in range(65))),
    ],
)
def test_what_sql_cannot_say_exactly_is_not_called_exact(scope: Scope) -> None:
    assert exact_sql(ScanHint(EVERYTHING, (scope,), True)) is None
    assert exact_sql(ScanHint(scope, (EVERYTHING,), True)) is None
    assert exact_sql(ScanHint(EVERYTHING, (EVERYTHING, scope), True)) is None


def test_an_incomplete_or_impossible_narrowing_is_never_exact() -> None:
    assert exact_sql(ScanHint(EVERYTHING, (EVERYTHING,), False)) is None
    assert exact_sql(ScanHint(EVERYTHING, (), True)) is None


def test_nothing_is_left_out_without_a_narrowing() -> None:
    assert narrow_sql(None) == ("", [])
    assert narrow_sql(ScanHint(EVERYTHING, (EVERYTHING,))) == ("", [])


def test_a_grant_that_cannot_be_narrowed_keeps_the_others_from_it(
    world: list[Event], database: apsw.Connection
) -> None:
    narrow, wide = Scope(tenant=("t",)), Scope(category=("*.b",))
    condition, bound = narrow_sql(ScanHint(EVERYTHING, (narrow, wide)))
    assert selected(database, condition, bound) == {event.offset for event in world}
    condition, bound = narrow_sql(ScanHint(Scope(outcome=("denied",)), (narrow, wide)))
    assert len(selected(database, condition, bound)) == len(world) // 2


def test_a_very_wide_question_is_not_put_to_sql(
    world: list[Event], database: apsw.Connection
) -> None:
    names = tuple(f"x{number}.**" for number in range(60))
    for count, narrowed in ((2, True), (64, False)):
        allowed = tuple(
            Scope(tenant=names, category=("a.**",), min_severity=severity % 6 + 1)
            for severity in range(count)
        )
        hint = ScanHint(EVERYTHING, allowed, True)
        condition, bound = narrow_sql(hint)
        assert bool(condition) is narrowed
        assert len(bound) <= 512
        assert (exact_sql(hint) is not None) is narrowed
        assert wanted(world, hint) <= selected(database, condition, bound)


def test_the_grants_of_a_key_narrow_as_they_allow(
    world: list[Event], database: apsw.Connection
) -> None:
    grants = (
        Grant(actions=("pull",), categories=("**",), tenants=("t",)),
        Grant(actions=("pull",), categories=("gateway.**",)),
        Grant(actions=("stream",), categories=("a",)),
    )
    decision = decide_grants(grants, "pull")
    assert isinstance(decision, Allowed)
    hint = ScanHint(EVERYTHING, decision.view.scopes, True)
    exact = exact_sql(hint)
    assert exact is not None
    sees = decision.view.compile()
    assert selected(database, *exact) == {event.offset for event in world if sees(event)}
