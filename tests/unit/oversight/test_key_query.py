"""Queries over keys: what they cost for keys with very many grants."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.grants.grant import parse_grants
from gateway.access.keys.issuance import new_key
from gateway.oversight.inventory import key_query
from gateway.oversight.inventory.key_query import KeyFacts, KeyQuery

NOW = 1_800_000_000.0


def test_what_a_key_may_is_decided_once_for_all_tenants_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grants = parse_grants([{"actions": ["stream"], "categories": ["**"], "tenants": ["t19"]}])
    key, _ = new_key(
        name="k", purpose="p", owner="o", grants=grants, now=NOW, life=60.0, pepper=b"p" * 32
    )
    decided: list[str] = []
    decide = key_query.decide_grants

    def counted(having: Any, action: str) -> Any:
        decided.append(action)
        return decide(having, action)

    monkeypatch.setattr(key_query, "decide_grants", counted)
    query = KeyQuery(tenant=tuple(f"t{number}" for number in range(20)))
    assert query.matches(KeyFacts(key, grants, NOW + 1, 0.0, None))
    assert len(decided) == len(set(decided)) <= 3
    other = KeyQuery(tenant=("t2", "t3"), action=("stream",))
    assert not other.matches(KeyFacts(key, grants, NOW + 1, 0.0, None))
