"""Explanations, simulations and documents of keys over HTTP."""

from __future__ import annotations

import re
from typing import Any

import pytest
from gateway_client import Answer, Event, event, key_id
from gateways import Gateway, Start
from use_record import about, told

READ = ["stream", "pull"]
EVERYTHING = {"actions": READ, "categories": ["**"]}
GRANT = {
    "id": "g1", "actions": READ, "categories": ["auth.*"], "tenants": ["acme"],
    "fields": {"mask": ["actor.name"], "drop": ["data.card"]},
}  # fmt: skip
LOGIN = {"tenant": "acme", "category": "auth.login", "action": "user.login"}


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    """One for all tests in here."""
    return gateway_of_module


async def ask(gateway: Gateway, path: str, body: Any, key: str = "") -> Answer:
    return await gateway.post(f"/v1/authz/{path}", key=key or gateway.admin, json=body)


async def explained(gateway: Gateway, key: str, **members: Any) -> dict[str, Any]:
    answer = await ask(gateway, "explain", {"key": key_id(key), "action": "pull", **members})
    assert answer.status == 200, answer.body
    return answer.json()  # type: ignore[no-any-return]


async def simulated(gateway: Gateway, key: str, by: str = "", **members: Any) -> dict[str, Any]:
    await gateway.context.access_log.flush()
    answer = await ask(gateway, "simulate", {"key": key_id(key), **members}, by)
    assert answer.status == 200, answer.body
    return answer.json()  # type: ignore[no-any-return]


async def document(gateway: Gateway, key: str, accept: str, by: str = "") -> Answer:
    headers = {"Accept": accept}
    path = f"/v1/keys/{key_id(key)}/document"
    return await gateway.get(path, key=by or gateway.admin, headers=headers)


async def facts(gateway: Gateway, key: str, by: str = "") -> dict[str, Any]:
    await gateway.context.access_log.flush()
    answer = await document(gateway, key, "application/json", by)
    assert answer.status == 200, answer.body
    return answer.json()  # type: ignore[no-any-return]


# Explain


async def test_whose_rights_were_asked_about_is_recorded(recording: Gateway) -> None:
    key = await recording.mint(GRANT)
    await explained(recording, key, event=LOGIN)
    await simulated(recording, key, grants=[GRANT])
    for what in ("explain", "simulate"):

        def asked(one: Event, what: str = what) -> bool:
            return one["data"].get("route") == f"POST /v1/authz/{what}"

        [use] = await told(recording, resource=about(key), action="requested", where=asked)
        assert use["actor"]["key_id"] == key_id(recording.admin)


async def test_what_is_allowed_is_explained_by_the_grants_and_masks(gateway: Gateway) -> None:
    key = await gateway.mint(GRANT, roles=["key-admin"])
    found = await explained(gateway, key, event=LOGIN)
    assert (found["decision"], found["reason_code"]) == ("allow", "granted")
    assert [one["id"] for one in found["grants"]] == ["g1"]
    assert (found["masks"], found["drops"]) == (["actor.name"], ["data.card"])
    assert found["nearest"] is None
    of_role = await explained(gateway, key, category="gateway.keys", tenant="gateway")
    assert [one["role"] for one in of_role["grants"]] == ["key-admin"]


async def test_a_miss_is_explained_by_the_nearest_grant(gateway: Gateway) -> None:
    key = await gateway.mint(GRANT, {"actions": ["ingest"], "categories": ["**"]})
    for members in ({"event": {**LOGIN, "tenant": "globex"}},
                    {"tenant": "globex", "category": "auth.login"}):  # fmt: skip
        found = await explained(gateway, key, **members)
        assert (found["decision"], found["reason_code"]) == ("deny", "event_not_granted")
        nearest = found["nearest"]
        assert (nearest["id"], nearest["predicate"]) == ("g1", "tenants")
        assert (nearest["expected"], nearest["actual"]) == (["acme"], "globex")
        assert (found["grants"], found["masks"]) == ([], [])


async def test_an_event_is_asked_about_as_it_was_read(start: Start) -> None:
    gateway = await start()
    await gateway.send(event(id="1", tenant="acme", category="auth.login", actor={"name": "A"}))
    key = await gateway.mint({**GRANT, "when": {"max_lookback": "1h"}})
    [seen] = (await gateway.pull(key))["events"]
    assert seen["masked"] == ["actor.name"]
    assert (await explained(gateway, key, event=seen))["decision"] == "allow"
    later = "2999-01-01T00:00:00Z"
    key = await gateway.mint({**GRANT, "when": {"max_lookback": "1h"}}, expires_in="90d")
    found = await explained(
        gateway, key, event={**seen, "recorded_at": "2020-01-01T00:00:00.000000Z"}
    )
    assert found["reason_code"] == "beyond_lookback"
    assert found["nearest"]["predicate"] == "when.max_lookback"
    assert (await explained(gateway, key, event=seen, at=later))["reason_code"] == "key_expired"


async def test_the_age_of_an_event_counts_only_for_who_reads_it(gateway: Gateway) -> None:
    actions = ["pull", "ingest", "keys.admin"]
    when = {"max_lookback": "1h"}
    key = await gateway.mint({"actions": actions, "categories": ["**"], "when": when})
    old = {"event": LOGIN, "recorded_at": "2020-01-01T00:00:00Z"}
    decisions = [await explained(gateway, key, action=action, **old) for action in actions]
    assert [one["decision"] for one in decisions] == ["deny", "allow", "allow"]


async def test_circumstances_are_those_that_are_asked_about(gateway: Gateway) -> None:
    key = await gateway.mint({**EVERYTHING, "when": {"cidr": ["192.0.2.0/24"], "hours": "06-20"}})
    at = {"noon": "2999-01-01T12:00:00Z", "night": "2999-01-01T02:00:00Z"}
    answers = {
        (hour, address): await explained(gateway, key, at=at[hour], address=address)
        for hour in at
        for address in ("192.0.2.7", "198.51.100.1")
    }
    # The key has expired by then: which grants would count is told all the same.
    assert {one["reason_code"] for one in answers.values()} == {"key_expired"}
    assert [bool(one["grants"]) for one in answers.values()] == [True, False, False, False]


@pytest.mark.parametrize(
    ("change", "reason"), [("revoke", "key_revoked"), ("suspend", "key_suspended")]
)
async def test_a_key_that_has_ended_is_explained_by_its_state(
    gateway: Gateway, change: str, reason: str
) -> None:
    key = await gateway.mint(EVERYTHING)
    await gateway.post(f"/v1/keys/{key_id(key)}/{change}", key=gateway.admin)
    found = await explained(gateway, key, event=LOGIN)
    assert (found["decision"], found["reason_code"]) == ("deny", reason)
    assert found["nearest"]["predicate"] == "state"


async def test_an_action_alone_can_be_asked_about(gateway: Gateway) -> None:
    key = await gateway.mint(EVERYTHING)
    assert (await explained(gateway, key))["decision"] == "allow"
    assert (await explained(gateway, key, action="ingest"))["reason_code"] == "action_not_granted"
    assert (await explained(gateway, key, action="keys.admin", event=LOGIN))["decision"] == "deny"


@pytest.mark.parametrize(
    "change",
    [
        {"key": None}, {"key": 7}, {"action": "read"}, {"action": None}, {"event": []},
        {"event": {}}, {"event": {**LOGIN, "severity": 9}}, {"event": {**LOGIN, "x": 1}},
        {"event": LOGIN, "tenant": "acme"}, {"tenant": "acme"}, {"category": "AUTH"},
        {"category": "auth", "resource": 7}, {"category": "auth", "resource": [7]},
        {"at": "noon"}, {"at": 7}, {"recorded_at": "x"}, {"address": 7}, {"actor": "x"},
        {"categroy": "auth"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_question_that_makes_no_sense_is_400(
    gateway: Gateway, change: dict[str, Any]
) -> None:
    key = await gateway.mint(GRANT)
    (await ask(gateway, "explain", {"key": key_id(key), "action": "pull", **change})).problem(
        400, "invalid_request"
    )


async def test_a_whole_key_in_place_of_an_id_is_not_taken_and_not_repeated(
    gateway: Gateway,
) -> None:
    key = await gateway.mint(GRANT)
    for path in ("explain", "simulate"):
        body = {"key": key, "action": "pull"} if path == "explain" else {"key": key, "grants": []}
        answer = await ask(gateway, path, body)
        answer.problem(404, "unknown_key")
        assert key[18:].encode() not in answer.body


async def test_who_administers_or_reads_usage_may_ask_and_nobody_else(gateway: Gateway) -> None:
    subject = await gateway.mint(GRANT)
    question = {"key": key_id(subject), "action": "pull"}
    proposal = {"key": key_id(subject), "grants": []}
    for action, explains, simulates in (
        ("keys.admin", 200, 200), ("usage.read", 200, 403), ("pull", 403, 403),
        ("ingest", 403, 403),
    ):  # fmt: skip
        by = await gateway.mint({"actions": [action], "categories": ["**"]})
        assert (await ask(gateway, "explain", question, by)).status == explains
        assert (await document(gateway, subject, "*/*", by)).status == explains
        assert (await ask(gateway, "simulate", proposal, by)).status == simulates


# Simulate


async def test_uses_that_would_be_denied_and_events_that_would_be_lost_are_counted(
    start: Start,
) -> None:
    gateway = await start()
    await gateway.send(
        event(tenant="acme", category="auth.login"), event(tenant="acme", category="billing")
    )
    key = await gateway.mint(EVERYTHING)
    await gateway.pull(key)
    await gateway.pull(key)
    found = await simulated(gateway, key, grants=[{**GRANT, "actions": ["stream"]}])
    assert found["uses"]["looked_at"] == 2
    [denied] = found["uses"]["would_be_denied"]
    assert (denied["action"], denied["reason_code"], denied["count"]) == (
        "pull", "action_not_granted", 2,
    )  # fmt: skip
    assert denied["address"] == "127.0.0.1"
    lost = found["events"]["stream"]["no_longer_seen"]
    assert {"tenant": "acme", "category": "billing", "count": 1} in lost["by"]
    assert found["events"]["pull"]["seen_after"] == 0
    assert found["events"]["stream"]["more_hidden"]["count"] == 1
    assert found["unused"] == ["g1"]
    assert found["window"]["complete"] is True
    assert (await explained(gateway, key, event=LOGIN))["decision"] == "allow", "nothing changed"


async def test_grants_that_are_used_are_told_from_those_that_never_are(gateway: Gateway) -> None:
    await gateway.send(event(tenant="acme", category="auth.login"))
    key = await gateway.mint(EVERYTHING)
    await gateway.pull(key)
    grants = [GRANT, {"id": "never", "actions": ["pull"], "categories": ["nothing.**"]}]
    assert (await simulated(gateway, key, grants=grants))["unused"] == ["never"]
    found = await simulated(gateway, key, grants=[], roles=["producer"])
    assert found["unused"] == ["producer/events"]


async def test_without_usage_read_nothing_is_told_of_uses(gateway: Gateway) -> None:
    key = await gateway.mint(EVERYTHING)
    await gateway.pull(key)
    by = await gateway.mint({"actions": ["keys.admin", "pull"], "categories": ["**"]})
    found = await simulated(gateway, key, by, grants=[])
    assert (found["uses"], found["unused"]) == (None, None)


async def test_a_proposal_is_no_way_to_look_further(gateway: Gateway) -> None:
    """Only what the asking key may pull itself is looked at."""
    secret = {"category": "auth.login", "targets": [{"urn": "k8s:prod/secret"}]}
    await gateway.send(event(tenant="acme", **secret), event(tenant="globex", **secret))
    subject = await gateway.mint(EVERYTHING)
    probe = [{**EVERYTHING, "resources": ["k8s:prod/secret"]}]
    admin = {"actions": ["keys.admin"], "categories": ["**"]}
    masked = {**EVERYTHING, "fields": {"mask": ["targets.urn"]}}
    for reading, found in (
        ([], 0), ([{**EVERYTHING, "tenants": ["acme"]}], 1), ([EVERYTHING], 2), ([masked], 0),
    ):  # fmt: skip
        by = await gateway.mint(admin, *reading)
        events = (await simulated(gateway, subject, by, grants=probe))["events"]
        assert events["pull"]["seen_after"] == found


@pytest.mark.parametrize(
    "change",
    [
        {"grants": {}}, {"grants": [{}]}, {"roles": "x"}, {"roles": ["nobody"]}, {"since": "x"},
        {"since": 7}, {"since": ""}, {"since": None}, {"since": "2999-01-01T00:00:00Z"},
        {"max_events": -1}, {"max_events": "5"}, {"max_events": True},
        {"max_events": 100_001}, {"action": "pull"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_proposal_that_makes_no_sense_is_400(
    gateway: Gateway, change: dict[str, Any]
) -> None:
    key = await gateway.mint(GRANT)
    body = {"key": key_id(key), "grants": [], **change}
    assert (await ask(gateway, "simulate", body)).status == 400
    assert (await ask(gateway, "simulate", {"key": key_id(key)})).status == 400


async def test_a_look_back_beyond_all_time_is_one_over_all_there_is(gateway: Gateway) -> None:
    key = await gateway.mint(GRANT)
    found = await simulated(gateway, key, grants=[], since="99999999d")
    assert found["window"] == {**found["window"], "since": "1970-01-01T00:00:00.000000Z"}


async def test_a_look_back_that_ends_early_says_so(gateway: Gateway) -> None:
    await gateway.send_many(30)
    key = await gateway.mint(EVERYTHING)
    found = await simulated(gateway, key, grants=[], max_events=5)
    assert found["window"]["complete"] is False
    assert found["events"]["looked_at"] == 5


# Documents


async def test_a_document_comes_as_markdown_html_or_json(gateway: Gateway) -> None:
    key = await gateway.mint(GRANT, name="siem", purpose="forwarding", owner="ops")
    for accept, kind in (
        ("text/markdown", "text/markdown"), ("text/html", "text/html"), ("*/*", "text/markdown"),
        ("application/json", "application/json"),
        ("text/*;q=0.5, application/*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ("image/png, text/markdown;q=0.1, text/html;q=0", "text/markdown"),
    ):  # fmt: skip
        answer = await document(gateway, key, accept)
        assert answer.status == 200, answer.body
        assert answer.headers["Content-Type"].partition(";")[0] == kind
        assert b"forwarding" in answer.body
        assert b"with actor.name masked and without data.card" in answer.body
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for accept in ("image/png", "text/html;q=0"):
        (await document(gateway, key, accept)).problem(406, "not_acceptable")


async def test_a_document_tells_the_whole_life_of_a_key(gateway: Gateway) -> None:
    await gateway.send(event(tenant="acme", category="auth.login"))
    key = await gateway.mint(GRANT, {"id": "idle", "actions": ["ingest"], "categories": ["x"]})
    await gateway.pull(key)
    rotated = await gateway.post(f"/v1/keys/{key_id(key)}/rotate", key=gateway.admin)
    successor = rotated.json()["key"]
    found = await facts(gateway, key)
    assert found["key"]["state"] == "draining"
    assert found["key"]["successor"] == key_id(successor)
    line = [key_id(key), key_id(successor)]
    assert [one["id"] for one in found["rotations"]] == line
    assert found["last_use"]["address"] == "127.0.0.1"
    assert found["unused"] == ["idle"]
    after = await facts(gateway, successor)
    assert after["key"]["predecessor"] == key_id(key)
    assert [one["id"] for one in after["rotations"]] == line
    assert (after["last_use"], after["unused"]) == (None, ["g1", "idle"])
    await gateway.post(
        f"/v1/keys/{key_id(successor)}/suspend", key=gateway.admin, json={"reason": "odd"}
    )
    markdown = (await document(gateway, successor, "text/markdown")).body.decode()
    assert "| State | suspended |" in markdown
    assert "| Reason of that | odd |" in markdown


async def test_samples_are_the_newest_ten_as_the_key_sees_them(start: Start) -> None:
    gateway = await start()
    for n in range(15):
        await gateway.send(
            event(id=f"a{n}", tenant="acme", category="auth.login", actor={"name": "Alice"},
                  data={"card": 4111, "n": n}),
            event(id=f"b{n}", tenant="globex", category="auth.login"),
        )  # fmt: skip
    key = await gateway.mint(GRANT)
    samples = (await facts(gateway, key))["samples"]
    assert [one["id"] for one in samples] == [f"a{n}" for n in range(14, 4, -1)]
    assert samples == (await gateway.pull(key))["events"][:4:-1]
    for accept in ("text/markdown", "text/html"):
        body = (await document(gateway, key, accept)).body
        assert b"a14" in body
        assert not any(hidden in body for hidden in (b"Alice", b"4111", b"globex"))


async def test_samples_show_no_reader_what_it_may_not_see_itself(start: Start) -> None:
    gateway = await start()
    await gateway.send(
        event(id="1", tenant="acme", category="auth.login", actor={"name": "A"}, reason="why"),
        event(id="2", tenant="acme", category="billing"),
    )
    subject = await gateway.mint({**EVERYTHING, "fields": {"mask": ["actor.name"]}})
    usage = {"actions": ["usage.read"], "categories": ["**"]}
    blind = await gateway.mint(usage)
    assert (await facts(gateway, subject, blind))["samples"] == []
    half = await gateway.mint(
        usage, {"actions": ["pull"], "categories": ["auth.**"], "fields": {"drop": ["reason"]}}
    )
    [sample] = (await facts(gateway, subject, half))["samples"]
    assert (sample["id"], sample["actor"], sample["masked"]) == (
        "1", {"name": "***"}, ["actor.name"],
    )  # fmt: skip
    assert "reason" not in sample


async def test_hostile_names_and_events_stay_text(gateway: Gateway) -> None:
    hostile = "<script>alert(1)</script>|`*[x](http://evil.example)"
    await gateway.send(event(tenant="acme", category="auth.login", reason=hostile + "\u202e"))
    key = await gateway.mint({**GRANT, "resources": ["**"]}, name=hostile, owner=hostile)
    await gateway.post(
        f"/v1/keys/{key_id(key)}/revoke", key=gateway.admin, json={"reason": f"\n\n# {hostile}"}
    )
    page = (await document(gateway, key, "text/html")).body.decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    text = (await document(gateway, key, "text/markdown")).body.decode()
    outside = "".join(text.split("```")[::2])
    assert not re.search(r"(?<!\\)(<script|\]\()", outside)
    assert "\n# <" not in text
    assert "\u202e" not in page + text
