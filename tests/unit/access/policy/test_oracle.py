"""No key both sends events of a tenant and reads them pseudonymized."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.access.grants.grant import parse_grant
from gateway.access.policy.oracle import oracle_tenant, refuse_oracle
from gateway.errors import InvalidRequest

NAMED = {"fields": {"pseudonymize": ["actor.id"]}}


def tenant_of(*grants: dict[str, Any]) -> str | None:
    return oracle_tenant(parse_grant({"categories": ["**"], **one}) for one in grants)


@pytest.mark.parametrize(
    ("grants", "tenant"),
    [
        ([{"actions": ["pull", "ingest"], **NAMED}], "**"),
        ([{"actions": ["stream"], "tenants": ["acme.*"], **NAMED},
          {"actions": ["ingest"], "tenants": ["globex", "acme.eu"]}], "acme.eu"),
        ([{"actions": ["stream"], "tenants": ["acme"], "categories": ["auth"], **NAMED},
          {"actions": ["ingest"], "categories": ["billing"]}], "acme"),
        ([{"actions": ["stream"], "tenants": ["acme"], **NAMED},
          {"actions": ["ingest"], "tenants": ["globex"]}], None),
        ([{"actions": ["stream", "pull"], **NAMED}], None),
        ([{"actions": ["ingest"], **NAMED}], None),
        ([{"actions": ["stream", "ingest"], "fields": {"mask": ["actor.id"]}}], None),
        ([{"actions": ["stream"], **NAMED}, {"actions": ["ingest"], "effect": "deny"}], None),
    ],
)  # fmt: skip
def test_a_tenant_in_common_makes_a_key_an_oracle(
    grants: list[dict[str, Any]], tenant: str | None
) -> None:
    assert tenant_of(*grants) == tenant
    parsed = [parse_grant({"categories": ["**"], **one}) for one in grants]
    if tenant is None:
        refuse_oracle(parsed, "this key")
    else:
        with pytest.raises(InvalidRequest) as refused:
            refuse_oracle(parsed, "this key")
        assert refused.value.code == "pseudonym_oracle"
