"""Questions: what is looked up where, when a part of each event is hidden."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.decision import Allowed, View, decide_grants
from gateway.filters.expression import compile_filter
from gateway.filters.index import Index
from gateway.filters.scope import Scope
from gateway.streaming.live.interest import StreamQuery
from tests.support.stored_events import MakeDraft, stored


def view(*fields: dict[str, Any] | None, **members: Any) -> View:
    """A view of everything, through one grant for each of `fields`."""
    grants = tuple(
        parse_grant(
            {
                "actions": ["stream"], "categories": ["**"], **members,
                **({} if hidden is None else {"fields": hidden}),
            }
        )
        for hidden in fields
    )  # fmt: skip
    decision = decide_grants(grants, "stream")
    assert isinstance(decision, Allowed)
    return decision.view


@pytest.mark.parametrize(
    "hidden", [{"mask": ["actor.id"]}, {"drop": ["actor"]}, {"mask": ["actor"]}]
)
def test_a_store_is_not_asked_for_a_hidden_actor(hidden: dict[str, Any]) -> None:
    """It would read less where the actor is known, and time would tell."""
    wanted = Scope(actor=("alice",), tenant=("acme",))
    assert StreamQuery(wanted, view(hidden)).scan_hint().wanted == Scope(tenant=("acme",))
    for other in ({"mask": ["actor.name"]}, None):
        assert StreamQuery(wanted, view(other)).scan_hint().wanted == wanted


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ('actor.id == "alice"', False), ('actor.id == "***"', True), ('data.x == "***"', True),
        ('data.x == "secret"', False), ('data.y == "open"', True), ('data.x.z == "a"', False),
        ('reason == "***"', False),
    ],
)  # fmt: skip
def test_the_index_finds_live_what_the_matcher_finds(
    draft: MakeDraft, filter: str, found: bool
) -> None:
    event = stored(
        draft, actor={"id": "alice"}, reason="why", data={"x": "secret", "y": "open"}
    )  # fmt: skip
    hiding = view({"mask": ["actor.id", "data.x"], "drop": ["reason"]}, None)
    query = StreamQuery(Scope(), hiding, compile_filter(filter))
    index: Index[str] = Index()
    index.add("group", query.bindings())
    assert (query.matcher()(event) is not None) is found
    if found:
        assert list(index.candidates(event)) == ["group"]


def test_what_is_not_hidden_stays_indexed() -> None:
    query = StreamQuery(Scope(), view({"mask": ["reason"]}), compile_filter('data.x == "a"'))
    assert query.bindings() == [{"data.x": frozenset({"a"})}]
    hidden = StreamQuery(Scope(), view({"mask": ["data"]}), compile_filter('data.x == "a"'))
    assert hidden.bindings() == [{}]


def test_floors_are_for_the_past_only(draft: MakeDraft) -> None:
    limited = view(None, when={"max_lookback": "1h"})
    query = StreamQuery(Scope(), limited.bound({3600: 5}))
    assert query.matcher()(stored(draft, 5)) is None
    assert query.matcher()(stored(draft, 6)) is not None
    assert query.live().matcher()(stored(draft, 5)) is not None
