"""Matching whole pages: each group gets just what its question says, event by event."""

from __future__ import annotations

import random

import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.grants.mask_templates import MaskTemplates
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.event import Event
from gateway.filters.expression import compile_filter
from gateway.filters.index import Index
from gateway.filters.scope import Scope
from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.live.group import Group, GroupProjection
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.matching import Matching
from gateway.wire.http_body import NDJSON_PLAIN
from tests.conftest import FakeClock
from tests.support.pseudonyms import DOMAIN, ROTATED_AT, pseudonym
from tests.support.stored_events import RECORDED_AT, MakeDraft, stored


def view(**members: object) -> View:
    grant = parse_grant({"actions": ["stream"], "categories": ["**"], **members})
    decision = decide_grants((grant,), "stream")
    assert isinstance(decision, Allowed)
    return decision.view


PLAIN = [
    StreamQuery(Scope(), view()),
    StreamQuery(Scope(category=("auth",)), view(tenants=["acme"])),
    StreamQuery(Scope(category=("k8s.*",), min_severity=3), view()),
    StreamQuery(Scope(actor=("a/*",)), view(categories=["auth", "k8s.**"])),
    StreamQuery(Scope(resource=("r/**",), action=("login",)), view()),
]
MORE = [
    StreamQuery(Scope(), view(fields={"mask": ["data.n"]})),
    StreamQuery(Scope(category=("auth",)), view(fields={"drop": ["actor"]})),
    StreamQuery(Scope(), view(), compile_filter("data.n > 3")),
    StreamQuery(Scope(outcome=("denied",)), view(), compile_filter('data.who == "x"')),
]

MASKED = [
    StreamQuery(Scope(), view(fields={kind: [path]}))
    for kind in ("mask", "drop")
    for path in ("data.n", "data.who", "actor", "targets.urn", "data")
]


NAMED = [
    StreamQuery(scope, view(fields={"pseudonymize": paths}).within(DOMAIN), chosen)
    for paths in (["actor"], ["targets.urn", "data.who"])
    for scope, chosen in [
        (Scope(), None),
        (Scope(), compile_filter(f'actor.id == "{pseudonym("id", "b", "acme")}"')),
        *(
            (Scope(**{member: (pseudonym(space, value, "acme", at),)}), None)
            for member, space, value in (("actor", "id", "a/1"), ("resource", "urn", "r/1"))
            for at in ("", ROTATED_AT)
        ),
        (Scope(actor=("b",)), None),
        (Scope(actor=("ps2_*",)), None),
    ]
]


def page(draft: MakeDraft, rng: random.Random, count: int) -> list[Event]:
    """Events of which some in a row differ in their data alone."""
    events: list[Event] = []
    in_row = rng.choice([1, 5, 100])
    while len(events) < count:
        members = {
            "tenant": rng.choice(["acme", "globex"]),
            "category": rng.choice(["auth", "k8s.audit"]),
            "action": rng.choice(["login", "read"]),
            "outcome": rng.choice(["denied", "success"]),
            "severity": rng.choice([1, 4]),
            "actor": {"id": rng.choice(["a/1", "b"])},
            "targets": rng.choice([[], [{"urn": "r/1"}]]),
        }
        for _ in range(rng.randint(1, in_row)):
            data: dict[str, object] = {"n": rng.randint(0, 6), "who": rng.choice(["x", "y"])}
            if rng.random() < 0.02:
                data["more"] = "than others"
            at = RECORDED_AT if len(events) < count / 2 else ROTATED_AT
            events.append(stored(draft, recorded_at=at, id=f"e{len(events)}", **members, data=data))
    return events[:count]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("queries", [PLAIN, PLAIN + MORE, MASKED + MORE, NAMED + PLAIN + MASKED])
def test_each_group_gets_what_its_question_says(
    draft: MakeDraft, queries: list[StreamQuery], seed: int
) -> None:
    rng = random.Random(seed)
    index: Index[Group] = Index()
    groups = []
    for query in rng.sample(queries, rng.randint(1, len(queries))):
        group = Group(Interest(query, NDJSON_PLAIN), GroupProjection(query))
        index.add(group, query.bindings())
        groups.append(group)
    events = page(draft, rng, 300)
    matching = Matching(index, events, LoopWork(FakeClock(), timer=lambda: 0.0), MaskTemplates())
    for _ in matching.parts():
        pass
    found = matching.found
    for group in groups:
        project = group.interest.query.matcher()
        wanted = [seen for event in events if (seen := project(event)) is not None]
        assert [one.json for one in found.get(group, [])] == [one.json for one in wanted]
    assert set(found) <= set(groups)


def test_selectors_find_events_by_the_pseudonyms_of_their_time_and_never_by_the_value(
    draft: MakeDraft,
) -> None:
    events = [
        stored(draft, n, tenant="acme", actor={"id": "b"}, recorded_at=at)
        for n, at in enumerate((RECORDED_AT, RECORDED_AT, ROTATED_AT, ROTATED_AT), 1)
    ]
    hidden = view(fields={"pseudonymize": ["actor.id"]}).within(DOMAIN)
    asked = ["b", pseudonym("id", "b", "acme"), pseudonym("id", "b", "acme", ROTATED_AT)]
    found = {}
    for actor in asked:
        query = StreamQuery(Scope(actor=(actor,)), hidden)
        group = Group(Interest(query, NDJSON_PLAIN), GroupProjection(query))
        index: Index[Group] = Index()
        index.add(group, query.bindings())
        matching = Matching(index, events, LoopWork(FakeClock()), MaskTemplates())
        for _ in matching.parts():
            pass
        found[actor] = [event.offset for event in matching.found.get(group, [])]
        # A store is not asked for an actor, whom it knows by the value.
        assert query.scan_hint().wanted.actor == ()
    assert list(found.values()) == [[], [1, 2], [3, 4]]


def test_groups_share_an_event_that_they_see_in_the_same_way(draft: MakeDraft) -> None:
    fields: list[dict[str, list[str]]] = [
        {}, {"mask": ["data.absent"]}, {"mask": ["data.n"]}, {"mask": ["data.n"]},
        {"mask": ["data.absent", "data.n"]},
    ]  # fmt: skip
    index: Index[Group] = Index()
    groups = []
    for number, one in enumerate(fields):
        scope = Scope(category=("auth", f"more{number}"))
        query = StreamQuery(scope, view(**({"fields": one} if one else {})))
        group = Group(Interest(query, NDJSON_PLAIN), GroupProjection(query))
        index.add(group, query.bindings())
        groups.append(group)
    events = [stored(draft, n, category="auth", data={"n": n}) for n in (1, 2)]
    matching = Matching(index, events, LoopWork(FakeClock()), MaskTemplates())
    for _ in matching.parts():
        pass
    plain, absent, masked, same, other = (matching.found[group] for group in groups)
    for number, event in enumerate(events):
        assert plain[number] is absent[number] is event
        assert masked[number] is same[number]
        assert masked[number].json == other[number].json != event.json
