"""Masks on the gateway's own records hold where keys, documents and findings tell of them, too."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import key_id
from gateways import Gateway
from test_findings import ELSEWHERE, deny, found, from_elsewhere

OVER_KEYS = {"actions": ["keys.admin", "usage.read"], "categories": ["**"]}
OWN = {"actions": ["pull"], "categories": ["gateway.**"]}


async def shown(gateway: Gateway, by: str, path: str, accept: str = "application/json") -> Any:
    answer = await gateway.get(path, key=by, headers={"Accept": accept})
    assert answer.status == 200, answer.body
    return answer.json() if accept == "application/json" else answer.body.decode()


async def stolen(gateway: Gateway) -> str:
    """A key that was used from elsewhere, which was found."""
    key = await gateway.reader_key()
    await gateway.pull(key)
    await found(gateway)
    await from_elsewhere(gateway, key)
    await found(gateway, "new_network")
    return key


@pytest.mark.parametrize(
    ("grants", "address", "networks"),
    [
        ([], ELSEWHERE, ["127.7.0.0/16"]),
        ([OWN], ELSEWHERE, ["127.7.0.0/16"]),
        ([{**OWN, "fields": {"mask": ["source"]}}], "***", "***"),
        ([{**OWN, "fields": {"drop": ["source.ip"]}}], None, None),
        ([OWN, {**OWN, "actions": ["stream"], "fields": {"mask": ["source.ip"]}}], "***", "***"),
        ([{**OWN, "fields": {"mask": ["source"]}, "when": {"cidr": ["192.0.2.0/24"]}}],
         "***", "***"),
        ([{**OWN, "categories": ["**"], "effect": "deny"}], None, None),
    ],
)  # fmt: skip
async def test_where_a_key_was_used_from_is_hidden_as_in_the_records(
    gateway: Gateway, grants: list[dict[str, Any]], address: str | None, networks: Any
) -> None:
    key = await stolen(gateway)
    by = await gateway.mint(OVER_KEYS, *grants)
    path = f"/v1/keys/{key_id(key)}"
    used = [(await shown(gateway, by, path))["last_used"]]
    used.append((await shown(gateway, by, f"{path}/document"))["last_use"])
    assert [(one["at"] > "2", one.get("address")) for one in used] == [(True, address)] * 2
    text = await shown(gateway, by, f"{path}/document", "text/markdown")
    assert (ELSEWHERE in text) == (address == ELSEWHERE)
    findings = (await shown(gateway, by, "/v1/findings"))["findings"]
    data = next(one["data"] for one in findings if one["signal"] == "new_network")
    assert (data.get("address"), data.get("networks")) == (address, networks)
    await gateway.context.access_log.flush()
    body = {"key": key_id(key), "grants": []}
    answer = await gateway.post("/v1/authz/simulate", key=by, json=body)
    denied = {one["address"] for one in answer.json()["uses"]["would_be_denied"]}
    assert denied == ({"127.0.0.1", ELSEWHERE} if address == ELSEWHERE else {"***"})


async def test_a_client_is_hidden_alone(gateway: Gateway) -> None:
    key = await stolen(gateway)
    by = await gateway.mint(OVER_KEYS, {**OWN, "fields": {"mask": ["source.user_agent"]}})
    used = (await shown(gateway, by, f"/v1/keys/{key_id(key)}"))["last_used"]
    assert (used["address"], used["client"]) == (ELSEWHERE, "***")


async def test_whom_a_finding_is_about_is_hidden_and_not_to_be_asked_for(gateway: Gateway) -> None:
    key = await gateway.reader_key()
    await deny(gateway, key, 5)
    wrong = key[:18] + "x" * 49
    for _ in range(5):
        await gateway.get("/v1/events", key=wrong)
    await found(gateway, "denials")
    by = await gateway.mint(OVER_KEYS, {**OWN, "fields": {"mask": ["source", "targets"]}})
    for found_now in await found(gateway, "denials"):
        assert found_now["id"] != "***"
    findings = (await shown(gateway, by, "/v1/findings"))["findings"]
    assert findings
    assert {(one["id"], one["signal"]) for one in findings} == {("***", "denials")}
    assert key_id(key) not in str(findings)
    assert "127.0.0.1" not in str(findings)
    of_key = await shown(gateway, by, f"/v1/findings?key={key_id(key)}")
    assert of_key["findings"] == []
