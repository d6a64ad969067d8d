"""Nobody passes on more than they have: what is said to be covered shows nothing new."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.grants.grant import Grant, When, parse_grant, parse_grants
from gateway.access.grants.mask import Masks
from gateway.access.policy import subsumption
from gateway.access.policy.decision import RAW_ITEM, Allowed, decide_grants
from gateway.access.policy.subsumption import run_steps, scope_covers
from gateway.event import Event
from gateway.filters.scope import REJECTED, Scope
from tests.support.examples import examples

MakeEvent = Callable[..., Event]
NOON, NIGHT = 1_700_049_600.0, 1_700_092_800.0  # 2023-11-15, 12:00 and 24:00 UTC
INSIDE, OUTSIDE = "10.1.2.3", "192.0.2.1"


def grant(*categories: str, **members: Any) -> Grant:
    return parse_grant({"actions": ["stream"], "categories": list(categories), **members})


def uncovered(holder: tuple[Grant, ...], wanted: tuple[Grant, ...]) -> Grant | None:
    return run_steps(subsumption.uncovered_grant(holder, wanted))


def covers(holder: list[Grant], wanted: list[Grant]) -> bool:
    return uncovered(tuple(holder), tuple(wanted)) is None


EVERYTHING = grant("**")
HIDING = grant("**", fields={"mask": ["actor.name"], "drop": ["data.card"]})
NAMING = grant("**", fields={"pseudonymize": ["actor.id", "data.card.holder"]})


@pytest.mark.parametrize(
    ("holder", "wanted"),
    [
        ([], []),
        ([EVERYTHING], []),
        ([EVERYTHING], [grant("auth.*", tenants=["acme"], resources=["a/b"], min_severity=3)]),
        ([EVERYTHING], [HIDING]),
        ([EVERYTHING], [grant("auth", when={"cidr": ["10.0.0.0/8"], "hours": "06-20"})]),
        ([grant("auth.**")], [grant("auth"), grant("auth.*"), grant("auth.a.b")]),
        ([grant("auth.*")], [grant("auth.*"), grant("auth.login")]),
        ([grant("auth"), grant("billing")], [grant("auth", "billing")]),
        ([grant("**", tenants=["a", "b"])], [grant("**", tenants=["b"])]),
        ([grant("**", "gateway.**")], [grant("gateway.keys")]),
        ([grant("gateway.**")], [grant("gateway.*")]),
        ([NAMING], [NAMING]),
        ([NAMING], [grant("**", fields={"pseudonymize": ["actor", "data.card"]})]),
        ([NAMING], [grant("**", fields={"mask": ["actor.id"], "drop": ["data.card.holder"]})]),
        ([HIDING], [HIDING]),
        ([HIDING], [grant("**", fields={"drop": ["actor", "data"]})]),
        ([HIDING, grant("gateway.**")], [grant("gateway.keys")]),
        ([HIDING, grant("**", actions=["pull"])], [grant("**", actions=["pull"])]),
        ([grant("**", when={"hours": "06-20"})], [grant("auth", when={"hours": "06-20"})]),
        ([EVERYTHING, grant("auth.**", effect="deny")],
         [EVERYTHING, grant("auth.**", effect="deny")]),
        ([EVERYTHING, grant("auth", effect="deny")], [EVERYTHING, grant("**", effect="deny")]),
    ],
)  # fmt: skip
def test_less_or_the_same_is_covered(holder: list[Grant], wanted: list[Grant]) -> None:
    assert covers(holder, wanted)


@pytest.mark.parametrize(
    ("holder", "wanted"),
    [
        ([], grant("auth")),
        ([EVERYTHING], grant("auth", actions=["pull"])),
        ([EVERYTHING], grant("auth", actions=["stream", "pull"])),
        ([EVERYTHING], grant("gateway.keys")),
        ([EVERYTHING], grant("gateway.**")),
        ([grant("*")], grant("gateway")),
        ([grant("auth.*")], grant("auth")),
        ([grant("auth.*")], grant("auth.**")),
        ([grant("auth.*")], grant("auth.a.b")),
        ([grant("auth.login")], grant("auth.*")),
        ([grant("**", tenants=["acme"])], EVERYTHING),
        ([grant("**", tenants=["acme"])], grant("**", tenants=["acme", "globex"])),
        ([grant("**", resources=["k8s:prod/**"])], EVERYTHING),
        ([grant("**", resources=["k8s:prod/**"])], grant("**", resources=["**"])),
        ([grant("**", min_severity=3)], EVERYTHING),
        ([HIDING], EVERYTHING),
        ([HIDING], grant("**", fields={"pseudonymize": ["actor.name"], "drop": ["data.card"]})),
        ([NAMING], EVERYTHING),
        ([NAMING], grant("**", fields={"pseudonymize": ["actor.id"]})),
        ([HIDING], grant("**", fields={"mask": ["actor.name", "data.card"]})),
        ([HIDING], grant("**", fields={"drop": ["data.card"]})),
        ([grant("**", when={"hours": "06-20"})], EVERYTHING),
        ([grant("**", when={"max_lookback": "1h"})], EVERYTHING),
        ([grant("**", when={"cidr": ["10.0.0.0/8"]})], EVERYTHING),
        ([EVERYTHING, grant("auth.**", effect="deny")], EVERYTHING),
        ([EVERYTHING, grant("auth.**", effect="deny")], grant("auth.login")),
    ],
)
def test_more_is_not_covered_and_named(holder: list[Grant], wanted: Grant) -> None:
    assert uncovered(tuple(holder), (wanted,)) is wanted


def test_masks_of_another_grant_that_the_holder_wears_are_not_shed() -> None:
    """The holder sees `auth` through both of his grants, and so without names."""
    assert not covers([grant("auth"), HIDING], [grant("auth")])
    assert covers([grant("auth"), HIDING], [grant("auth", fields=HIDING_FIELDS)])
    elsewhere = grant("billing.**", fields=HIDING_FIELDS)
    assert covers([grant("auth"), elsewhere], [grant("auth")])
    other_tenant = grant("**", tenants=["b"], fields=HIDING_FIELDS)
    assert covers([grant("**", tenants=["a"]), other_tenant], [grant("auth", tenants=["a"])])
    # An event has several targets: it can be in reach of both.
    both = [grant("**", resources=["a"]), grant("**", resources=["b"], fields=HIDING_FIELDS)]
    assert not covers(both, [grant("**", resources=["a"])])


HIDING_FIELDS = {"mask": ["actor.name"], "drop": ["data.card"]}


@pytest.mark.parametrize("categories", [("gateway.**",), ("gateway.rejected",)])
def test_who_does_not_see_rejected_items_as_they_came_lets_nobody_see_them(
    categories: tuple[str, ...],
) -> None:
    rejected = grant(*categories)
    assert uncovered((HIDING, rejected), (rejected,)) == rejected
    assert covers([HIDING, rejected], [HIDING, rejected])
    assert covers([HIDING, rejected], [grant(*categories, fields={"drop": ["targets"]})])
    assert covers([HIDING, rejected], [rejected, grant("x", effect="deny")])
    only_at_times = grant("x", effect="deny", when={"hours": "06-20"})
    assert not covers([HIDING, rejected], [rejected, only_at_times])


def test_a_denial_has_to_be_passed_on_without_conditions() -> None:
    holder = [EVERYTHING, grant("auth", effect="deny")]
    bound = grant("auth", effect="deny", when={"hours": "06-20"})
    assert not covers(holder, [EVERYTHING, bound])
    assert not covers(holder, [EVERYTHING, grant("auth", effect="deny", actions=["pull"])])


@pytest.mark.parametrize("way", ["mask", "drop", "pseudonymize"])
def test_who_does_not_see_resources_tells_no_events_apart_by_them(way: str) -> None:
    """Grants match the event itself, so that a key made for a guess would confirm it."""
    for path in ("targets", "targets.urn"):
        hiding: dict[str, Any] = {"fields": {way: [path]}}
        holder = [grant("auth.**", **hiding)]
        allowing = grant("auth.**", resources=["app:x"], **hiding)
        denying = grant("auth.**", resources=["app:x"], effect="deny")
        assert uncovered(tuple(holder), (allowing,)) is allowing
        assert uncovered(tuple(holder), (*holder, denying)) is denying
        assert covers(holder, [*holder, grant("billing", resources=["app:x"], effect="deny")])
        assert covers(holder, [grant("auth.login", resources=["**"], **hiding)])
        assert covers([allowing], [allowing])
        assert not covers([*holder, grant("billing", resources=["app:x"])], [allowing])
        assert not covers([grant("**", resources=["app:x", "app:y"], **hiding)], [allowing])
    assert covers([grant("auth", fields={way: ["targets.id"]})],
                  [grant("auth", resources=["app:x"], fields={way: ["targets.id"]})])  # fmt: skip


def test_denials_alone_ask_for_nothing() -> None:
    assert covers([], [grant("**", effect="deny")])


def test_a_scope_covers_what_it_contains() -> None:
    assert scope_covers(Scope(), Scope(category=("a",), tenant=("b",)))
    assert not scope_covers(Scope(category=("a",)), Scope())
    assert not scope_covers(Scope(reserved=False), Scope(category=("gateway.keys",)))


CATEGORIES = [
    "**",
    "*",
    "*.*",
    "auth",
    "auth.*",
    "auth.**",
    "auth.login",
    "gateway.**",
    "gateway.*",
]
HIDDEN = st.lists(
    st.sampled_from(["actor", "actor.name", "data", "data.card", "data.card.cvv"]),
    max_size=2, unique=True,
).map(lambda paths: tuple(sorted(paths)))  # fmt: skip
whens = st.none() | st.builds(
    When,
    cidr=st.sampled_from([(), ("10.0.0.0/8",)]),
    hours=st.sampled_from([None, "06-20"]),
    max_lookback=st.sampled_from([None, "1h"]),
)


def patterns(*of: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(of), max_size=2, unique=True).map(tuple)


def grants_with(effect: str) -> st.SearchStrategy[Grant]:
    return st.builds(
        Grant,
        effect=st.just(effect),
        actions=st.sampled_from([("stream",), ("pull",), ("stream", "pull")]),
        categories=st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=2, unique=True).map(
            tuple
        ),
        tenants=patterns("a", "*", "a.*"),
        resources=patterns("**", "x/**", "x/y", "*"),
        min_severity=st.sampled_from([1, 1, 3]),
        fields=st.none() | st.builds(Masks, HIDDEN, HIDDEN) if effect == "allow" else st.none(),
        when=whens,
    )


any_grant = st.one_of(grants_with("allow"), grants_with("allow"), grants_with("deny"))


@st.composite
def holders_and_wanted(draw: st.DrawFn) -> tuple[tuple[Grant, ...], tuple[Grant, ...]]:
    """Often alike, so that often one covers the other."""
    holder = draw(st.lists(any_grant, max_size=4))
    kept = draw(st.lists(st.sampled_from(holder), max_size=3, unique=True)) if holder else []
    wanted = [*kept, *draw(st.lists(any_grant, max_size=2))]
    return tuple(holder), tuple(wanted)


@settings(max_examples=examples(500))
@given(holders_and_wanted())
def test_what_is_covered_shows_nothing_that_the_holder_does_not_see(
    event: MakeEvent, both: tuple[tuple[Grant, ...], tuple[Grant, ...]]
) -> None:
    holder, wanted = both
    if uncovered(holder, wanted) is not None:
        note("not covered")
        return
    note("covered")
    for action, now, address in product(("stream", "pull"), (NOON, NIGHT), (INSIDE, OUTSIDE)):
        by_wanted = decide_grants(wanted, action, now=now, address=address)
        if not isinstance(by_wanted, Allowed):
            continue
        by_holder = decide_grants(holder, action, now=now, address=address)
        assert isinstance(by_holder, Allowed)
        # Events at offset 1 are older than an hour.
        views = (by_wanted.view, by_holder.view)
        new, own = (
            view.bound({rule.lookback: 1 for rule in view.rules if rule.lookback}).masks_for()
            for view in views
        )
        for item in events(event):
            worn = new(item)
            if worn is None:
                continue
            own_worn = own(item)
            assert own_worn is not None, (action, item)
            hidden = set(own_worn.mask)
            if item.category != REJECTED:
                # It is the name of nothing there.
                hidden -= set(RAW_ITEM.mask)
            assert all(worn.hides(path) for path in hidden), (worn, own_worn)
            assert all(Masks(drop=worn.drop).hides(path) for path in own_worn.drop)


def events(event: MakeEvent) -> list[Event]:
    return [
        event(offset, tenant=tenant, category=category, resources=resources, severity=severity)
        for offset in (1, 2)
        for tenant in ("a", "a.b")
        for category in ("auth", "auth.login", "auth.a.b", "gateway", "gateway.keys", REJECTED)
        for resources in ("", "x/y", "z\nx/y/z")
        for severity in (1, 4)
    ]


def test_large_policies_are_compared_in_proportion_to_their_patterns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walks = 0
    reaches = subsumption._reaches

    def counted(tree: Any, inner: list[str]) -> bool:
        nonlocal walks
        walks += 1
        return reaches(tree, inner)

    monkeypatch.setattr(subsumption, "_reaches", counted)
    grants = parse_grants(
        [
            {
                "actions": ["pull"],
                "tenants": [f"t{number}" for number in range(100)],
                "categories": [f"a.*.c{number}.x{one}" for number in range(100)],
                "resources": [f"a/*/{number}/**" for number in range(100)],
            }
            for one in range(4)
        ]
    )
    assert uncovered(grants, grants) is None
    # Each pattern with each grant once at most: not with each of its patterns.
    assert 300 * 4 <= walks <= 300 * 4 * 4
