"""`GET /v1/keys` with conditions: which keys are listed, in what order, page by page."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
import pytest_asyncio
from gateway_client import key_id
from gateways import Gateway

from gateway.http.keys.parameters import KEYS
from gateway.oversight.detection.signals import Signal

DAY = 86400
READ = {"actions": ["keys.read"], "categories": ["**"]}
USAGE = {"actions": ["usage.read"], "categories": ["**"]}
ACME = {"actions": ["pull"], "categories": ["auth.**"], "tenants": ["acme"]}
SENDS = {"actions": ["ingest"], "categories": ["**"], "tenants": ["globex"]}
ALL_TENANTS = {"actions": ["stream"], "categories": ["**"]}
HIDES_ACME = {"effect": "deny", **ALL_TENANTS, "tenants": ["acme"]}
AT_NIGHT = {**READ, "when": {"hours": "22-06"}}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made(shared: Gateway) -> dict[str, str]:
    """Ids of keys by name, and `asking`, a key that may see all there is of them."""
    gateway, store = shared, shared.context.key_store
    keys = {
        "siem": await gateway.mint(ACME, name="siem", owner="soc", purpose="Alerts on sign-ins"),
        "sender": await gateway.mint(SENDS, name="sender", owner="apps", expires_in="3d"),
        "wall": await gateway.mint(ALL_TENANTS, HIDES_ACME, name="wall", owner="soc"),
        "night": await gateway.mint(AT_NIGHT, name="night", owner="Audit", roles=["producer"]),
        "gone": await gateway.mint(ACME, name="gone", owner="soc"),
        "forgotten": await gateway.mint(SENDS, name="forgotten", owner="apps"),
    }
    await gateway.pull(keys["siem"])
    await gateway.revoke(keys["gone"])
    for name, days in (("forgotten", 40), ("siem", 35)):
        ago = shared.context.clock.now() - days * DAY
        await store.change(
            key_id(keys[name]),
            lambda key, at=ago: msgspec.structs.replace(key, created_at=at),  # type: ignore[misc]
        )
    await store.change(
        key_id(keys["wall"]), lambda key: msgspec.structs.replace(key, managed_by="prod/wall")
    )
    await gateway.context.enforcement.poll_keys()
    await gateway.context.access_log.flush()
    signal = Signal("probing", gateway.context.clock.now())
    await gateway.context.detector.findings.add(signal, key_id(keys["wall"]))
    ids = {name: key_id(key) for name, key in keys.items()}
    return {**ids, "asking": await gateway.mint(READ, USAGE, name="asking", owner="auditors")}


async def names(gateway: Gateway, made: dict[str, str], **conditions: Any) -> list[str]:
    """Names of the made keys that meet conditions, in the order of the answer."""
    query = urlencode(conditions, doseq=True)
    answer = await gateway.get(f"/v1/keys?{query}", key=made["asking"])
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.json()["keys"] if one["id"] in made.values()]


CASES: list[tuple[dict[str, Any], set[str]]] = [
    ({"owner": "soc"}, {"siem", "wall", "gone"}),
    ({"owner": ["soc", "apps"], "state": "active"}, {"siem", "wall", "sender", "forgotten"}),
    ({"role": "producer"}, {"night"}),
    ({"state": "revoked"}, {"gone"}),
    ({"q": "SIGN-ins alerts"}, {"siem"}),
    ({"q": "of the tenant globex"}, {"sender", "forgotten"}),
    ({"tenant": "acme"}, {"siem", "gone", "night"}),
    ({"tenant": "globex"}, {"sender", "forgotten", "wall", "night"}),
    ({"tenant": "acme", "action": "ingest"}, {"night"}),
    ({"action": "keys.read"}, {"night"}),
    ({"action": ["stream", "pull"]}, {"siem", "gone", "wall"}),
    ({"managed_by": "prod"}, {"wall"}),
    ({"managed_by": ["prod/wall", "test"]}, {"wall"}),
    ({"managed_by": "pro"}, set()),
    ({"expiring": "14d"}, {"sender"}),
    ({"expiring": "1d"}, set()),
    ({"unused": "30d"}, {"forgotten"}),
    ({"never_used": "true", "owner": "apps"}, {"sender", "forgotten"}),
    ({"never_used": "false", "owner": "soc"}, {"siem", "gone"}),
    ({"findings": "true"}, {"wall"}),
    ({"findings": "false", "owner": "soc"}, {"siem", "gone"}),
]


async def test_each_condition_leaves_just_the_keys_that_meet_it(
    shared: Gateway, made: dict[str, str]
) -> None:
    for conditions, wanted in CASES:
        assert set(await names(shared, made, **conditions)) == wanted, conditions


async def test_every_condition_has_a_case(made: dict[str, str]) -> None:
    tried = {name for conditions, _ in CASES for name in conditions}
    assert {one["name"] for one in KEYS} - tried == {"order", "limit", "after"}


async def test_keys_come_in_the_order_that_is_asked_for(
    shared: Gateway, made: dict[str, str]
) -> None:
    alive = {"state": "active", "owner": ["soc", "apps", "Audit"]}
    assert await names(shared, made, **alive) == ["forgotten", "siem", "sender", "wall", "night"]
    by_name = await names(shared, made, order="name", **alive)
    assert by_name == ["forgotten", "night", "sender", "siem", "wall"]
    newest = await names(shared, made, order="newest", **alive)
    assert newest == ["night", "wall", "sender", "siem", "forgotten"]
    by_owner = await names(shared, made, order="owner", **alive)
    assert [by_owner[-2:], by_owner[2]] in (
        [["siem", "wall"], "night"],
        [["wall", "siem"], "night"],
    )
    assert (await names(shared, made, order="expires", **alive))[0] == "sender"
    assert (await names(shared, made, order="last_used", **alive))[-1] == "siem"


async def test_pages_of_every_order_hold_each_key_once(
    shared: Gateway, made: dict[str, str]
) -> None:
    whole = (await shared.get("/v1/keys", key=made["asking"])).json()["keys"]
    for order in ("oldest", "newest", "name", "owner", "expires", "last_used", "reviewed"):
        listed: list[str] = []
        asked = {"limit": "2", "order": order}
        while True:
            answer = await shared.get("/v1/keys", params=asked, key=made["asking"])
            page = answer.json()
            assert len(page["keys"]) <= 2
            assert page["found"] == len(whole)
            listed += [one["id"] for one in page["keys"]]
            if page["next"] is None:
                break
            asked["after"] = page["next"]
        assert sorted(listed) == sorted(one["id"] for one in whole), order
        straight = await shared.get("/v1/keys", params={"order": order}, key=made["asking"])
        assert [one["id"] for one in straight.json()["keys"]] == listed
    ages = [one["age_days"] for one in whole]
    assert all(one >= other for one, other in pairwise(ages))
    assert ages[:2] == [40, 35]


async def test_a_page_tells_of_all_keys_what_wants_looking_at(
    shared: Gateway, made: dict[str, str]
) -> None:
    page = (await shared.get("/v1/keys?limit=1&q=nothing+such", key=made["asking"])).json()
    assert (page["keys"], page["found"], page["next"]) == ([], 0, None)
    all_keys = (await shared.get("/v1/keys", key=made["asking"])).json()
    assert set(all_keys) == {"keys"}
    summary = page["summary"]
    assert summary["keys"] == len(all_keys["keys"])
    marks = summary["marks"]
    assert (marks["expiring"], marks["unused"], marks["findings"]) == (1, 1, 1)
    assert {"soc", "apps", "Audit"} <= set(summary["owners"])
    assert "producer" in summary["roles"]


async def test_findings_are_no_condition_for_who_may_not_read_them(shared: Gateway) -> None:
    reader = await shared.mint(READ)
    refused = await shared.get("/v1/keys?findings=true", key=reader)
    refused.problem(403, "action_not_granted")
    page = (await shared.get("/v1/keys?limit=1", key=reader)).json()
    assert page["summary"]["marks"]["findings"] is None


async def test_grants_of_a_key_that_was_never_used_are_unused(
    shared: Gateway, made: dict[str, str]
) -> None:
    keys = (await shared.get("/v1/keys", key=made["asking"])).json()["keys"]
    unused = {one["name"]: one["unused_grants"] for one in keys}
    assert unused["night"] == ["1", "producer/events"]
    assert unused["siem"] is None


async def test_a_condition_that_means_nothing_is_refused(shared: Gateway) -> None:
    for query, parameter in (
        ("order=size", "order"), ("state=alive", "state"), ("action=fly", "action"),
        ("expiring=soon", "expiring"), ("unused=-1d", "unused"), ("never_used=maybe", "never_used"),
        ("owner=", "owner"), ("limit=0", "limit"), ("limit=1001", "limit"), ("q=" + "a" * 257, "q"),
        ("after=x", "after"), ("order=name&after=WyJvbGRlc3QiLDEuMCwiYSJd", "after"),
        ("unusd=30d", "unusd"), ("&".join(f"role=r{n}" for n in range(21)), "role"),
    ):  # fmt: skip
        answer = await shared.get(f"/v1/keys?{query}", key=shared.admin)
        assert answer.status == 400, query
        document = answer.json()
        assert parameter in (document.get("parameter"), document["detail"].split(":")[0]), document
