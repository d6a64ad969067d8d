"""`audit-gateway keys` and `roles` on a data folder."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.access.credentials.token import key_id_of
from gateway.access.keys.change import Change
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.cli.base.operator import this_operator
from gateway.cli.main import cli
from gateway.clock import parse_rfc3339
from gateway.errors import Conflict, GatewayError, InvalidRequest, NotFound

GRANT = '{"actions":["stream"],"categories":["auth.*"]}'
Run = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(data: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a folder of its own; standard output. Raises what the command raises."""
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments, "--data", str(data)], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


def create(run: Run, *options: str, name: str = "siem") -> dict[str, Any]:
    made = run("keys", "create", "--name", name, "--purpose", "p", *options, "--json")
    return json.loads(made)  # type: ignore[no-any-return]


def show(run: Run, key_id: str) -> dict[str, Any]:
    return json.loads(run("keys", "show", key_id, "--json"))  # type: ignore[no-any-return]


def test_a_key_is_made_with_roles_and_grants(run: Run) -> None:
    made = create(run, "--role", "producer", "--role", "auditor", "--grant", GRANT)
    assert (made["roles"], len(made["grants"])) == (["producer", "auditor"], 1)
    assert key_id_of(made["key"]) == made["id"]
    assert show(run, made["id"])["roles"] == ["producer", "auditor"]


def test_a_key_is_made_with_limits_of_its_own(run: Run) -> None:
    made = create(run, "--limit", "events_per_second=100", "--limit", "concurrent_streams=0")
    limits = {"events_per_second": 100, "concurrent_streams": 0}
    assert made["limits"] == show(run, made["id"])["limits"] == limits
    with pytest.raises(InvalidRequest, match="did you mean events_per_second"):
        create(run, "--limit", "events_per_secnd=100")


def test_a_role_that_is_not_there_is_refused_by_name(run: Run) -> None:
    with pytest.raises(InvalidRequest) as refused:
        create(run, "--role", "auditr")
    assert refused.value.code == "unknown_role"
    assert "'auditr'" in refused.value.detail
    assert "auditor" in refused.value.detail
    assert run("keys", "list") == ""


@pytest.mark.parametrize(
    "options", [("--role", "Auditor"), ("--grant", "{}"), ("--expires", "91d"), ("--owner", "")]
)
def test_a_request_that_is_refused_makes_no_folder(
    run: Run, data: Path, options: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidRequest):
        create(run, *options)
    assert not data.exists()


def test_a_role_of_ones_own_works_like_a_predefined_one(run: Run) -> None:
    assert run("roles", "put", "team", "--description", "d", "--grant", GRANT)
    assert create(run, "--role", "team")["roles"] == ["team"]
    role = json.loads(run("roles", "show", "team", "--json"))
    assert (role["description"], role["builtin"]) == ("d", False)
    assert role["grants"] == [{"actions": ["stream"], "categories": ["auth.*"]}]
    names = [one["name"] for one in json.loads(run("roles", "list", "--json"))["roles"]]
    assert "team" in names
    assert "auditor" in names
    assert "team" in run("roles", "list")
    run("roles", "delete", "team")
    for command in ("show", "delete"):
        with pytest.raises(NotFound):
            run("roles", command, "team")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("put", "auditor", "--grant", GRANT), InvalidRequest),
        (("put", "Team", "--grant", GRANT), InvalidRequest),
        (("put", "team", "--grant", "{}"), InvalidRequest),
        (("delete", "auditor"), Conflict),
    ],
)
def test_what_is_no_role_is_refused(
    run: Run, arguments: tuple[str, ...], error: type[GatewayError]
) -> None:
    create(run)
    with pytest.raises(error):
        run("roles", *arguments)


def test_a_rotated_key_drains_beside_its_successor(run: Run) -> None:
    old = create(run, "--grant", GRANT)
    new = json.loads(run("keys", "rotate", old["id"], "--overlap", "2h", "--json"))
    assert key_id_of(new["key"]) == new["id"] != old["id"]
    assert new["predecessor"] == old["id"]
    shown = show(run, old["id"])
    assert (shown["state"], shown["successor"]) == ("draining", new["id"])
    with pytest.raises(Conflict):
        run("keys", "rotate", old["id"])
    with pytest.raises(InvalidRequest, match="at most 168 hours"):
        run("keys", "rotate", new["id"], "--overlap", "8d")
    assert show(run, new["id"])["state"] == "active"


def test_the_token_is_the_first_line_where_people_and_scripts_expect_it(run: Run) -> None:
    old = create(run)
    for output in (
        run("keys", "create", "--name", "n", "--purpose", "p"), run("keys", "rotate", old["id"])
    ):  # fmt: skip
        assert key_id_of(output.splitlines()[0]) is not None
        assert "not shown again" in output.splitlines()[1]


def test_a_key_is_suspended_resumed_and_revoked(run: Run) -> None:
    key_id = create(run)["id"]
    assert run("keys", "suspend", key_id, "--reason", "odd") == f"{key_id} is suspended\n"
    assert show(run, key_id)["suspended_reason"] == "odd"
    assert run("keys", "resume", key_id) == f"{key_id} is active\n"
    assert json.loads(run("keys", "revoke", key_id, "--json"))["state"] == "revoked"
    with pytest.raises(Conflict):
        run("keys", "resume", key_id)


@pytest.mark.parametrize(
    "command", ["show", "rotate", "suspend", "resume", "revoke", "document", "simulate"]
)
def test_a_key_that_is_not_there_is_said_to_be_so(run: Run, command: str) -> None:
    create(run)
    with pytest.raises(NotFound, match="keys list"):
        run("keys", command, "0" * 12)


@pytest.mark.parametrize("command", [("keys", "list"), ("keys", "revoke", "0" * 12)])
def test_a_folder_that_is_mistyped_is_said_to_have_no_keys_and_is_not_made(
    run: Run, data: Path, command: tuple[str, ...]
) -> None:
    with pytest.raises(NotFound, match=r"there are no keys in .*data; name the folder"):
        run(*command)
    assert not data.exists()


def test_changes_say_that_they_were_made_here(run: Run, data: Path) -> None:
    key_id = create(run)["id"]
    run("keys", "suspend", key_id)
    run("roles", "put", "team")

    async def unrecorded() -> list[Change]:
        store = SqliteKeys(data / "keys.db")
        try:
            return list((await store.unrecorded(10)).values())
        finally:
            await store.close()

    changes = asyncio.run(unrecorded())
    assert [change.action for change in changes] == ["key.created", "key.suspended", "role.put"]
    assert {change.by for change in changes} == {this_operator().actor}


def sent(data: Path, tmp_path: Path, *events: dict[str, Any]) -> None:
    """The events, in the log of the folder."""
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(map(json.dumps, events)))
    arguments = ["import", "--format", "native", "--data", str(data), str(file)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0


def test_a_document_shows_what_the_key_would_see(run: Run, data: Path, tmp_path: Path) -> None:
    masking = '{"actions":["pull"],"categories":["auth.*"],"fields":{"mask":["actor.name"]}}'
    key_id = create(run, "--grant", masking)["id"]
    sent(
        data, tmp_path,
        *(
            {"category": "auth.x", "action": "a", "actor": {"name": "Alice"}, "data": {"n": n}}
            for n in range(12)
        ),
        {"category": "billing", "action": "a", "actor": {"name": "Bob"}},
    )  # fmt: skip
    shown = json.loads(run("keys", "document", key_id, "--format", "json"))
    assert [one["actor"]["name"] for one in shown["samples"]] == ["***"] * 10
    assert shown["unused"] == ["1"]
    markdown = run("keys", "document", key_id)
    assert markdown.startswith("# Key siem\n")
    assert "with actor.name masked" in markdown
    html = run("keys", "document", key_id, "--format", "html")
    assert html.startswith("<!doctype html>")
    for text in (markdown, html):
        assert "Alice" not in text
        assert "Bob" not in text


def test_a_document_can_be_made_before_there_is_a_log(run: Run) -> None:
    assert "There is none among the newest events" in run("keys", "document", create(run)["id"])


def test_a_simulation_tells_people_and_programs_what_would_change(
    run: Run, data: Path, tmp_path: Path
) -> None:
    key_id = create(run, "--grant", GRANT)["id"]
    events = [{"tenant": "acme", "category": name, "action": "a"} for name in ("auth.x", "pay")]
    sent(data, tmp_path, *events)
    proposed = '{"actions":["stream"],"categories":["pay"]}'
    text = run("keys", "simulate", key_id, "--grant", proposed)
    assert "stream: 1 events no longer seen\n  1 of auth.x of acme" in text
    assert "stream: 1 events newly seen\n  1 of pay of acme" in text
    assert "never used: grant 1" in text
    found = json.loads(run("keys", "simulate", key_id, "--role", "log-shipper", "--json"))
    assert found["events"]["stream"]["seen_after"] == 2
    assert show(run, key_id)["grants"] == [{"actions": ["stream"], "categories": ["auth.*"]}]


def test_the_policy_of_a_settings_file_holds_for_commands_too(
    run: Run, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[keys]\nmax_life = "10d"\ndefault_life = "0s"\nmax_overlap = "1h"\n')
    where = ("--config", str(file))
    with pytest.raises(InvalidRequest, match="10 days at most"):
        create(run, "--expires", "11d", *where)
    with pytest.raises(InvalidRequest, match="expires_in or expires_at is required"):
        create(run, *where)
    made = create(run, "--expires", "10d", *where)
    with pytest.raises(InvalidRequest, match="at most 1 hours"):
        run("keys", "rotate", made["id"], "--overlap", "2h", *where)
    # A life that was longer before the policy came is not handed on.
    longer = create(run, "--expires", "80d")
    rotated = json.loads(run("keys", "rotate", longer["id"], "--json", *where))
    lived = parse_rfc3339(rotated["expires_at"]) - parse_rfc3339(rotated["created_at"])
    assert lived == 10 * 86400 * 1_000_000


def test_the_owner_of_a_key_is_who_made_it_unless_somebody_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "erin")
    assert create(run)["owner"] == "erin"
    assert create(run, "--owner", "platform team")["owner"] == "platform team"
    with pytest.raises(InvalidRequest, match="owner"):
        create(run, "--owner", "")
    shown = run("keys", "create", "--name", "n", "--purpose", "p")
    assert ", owner erin, expires " in shown


def test_a_decision_is_explained_to_people_and_programs(run: Run) -> None:
    hiding = '{"id":"g","actions":["pull"],"categories":["auth"],"tenants":["acme"],'
    hiding += '"resources":["db:main"],"fields":{"mask":["actor.name"],"drop":["data"]}}'
    key_id = create(run, "--grant", hiding)["id"]
    about = ("keys", "explain", key_id, "--action", "pull", "--tenant", "acme")
    seen = run(*about, "--category", "auth", "--resource", "x", "--resource", "db:main")
    assert seen.splitlines() == [
        "allowed: granted", "grant g (allow) matches", "masked: actor.name", "left out: data",
    ]  # fmt: skip
    missed = run(*about, "--category", "billing", "--resource", "db:main")
    assert missed.splitlines() == [
        "denied: event_not_granted", "nearest: grant g",
        '  categories wanted ["auth"], got "billing"',
    ]  # fmt: skip
    event = '{"category":"auth","action":"a","tenant":"acme","masked":["x"],"cursor":"c"}'
    found = json.loads(
        run("keys", "explain", key_id, "--action", "pull", "--event", event, "--json")
    )
    assert (found["decision"], found["nearest"]["predicate"]) == ("deny", "resources")
    run("keys", "suspend", key_id)
    assert "denied: key_suspended" in run("keys", "explain", key_id, "--action", "pull")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--action", "read"], "action"), (["--action", "pull", "--event", "{"], "event"),
        (["--action", "pull", "--event", "[]"], "event"),
        (["--action", "pull", "--event", "{}", "--tenant", "x"], "tenant"),
        (["--action", "pull", "--category", "A"], "category"),
        (["--action", "pull", "--at", "noon"], "at:"),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused_by_name(
    run: Run, options: list[str], named: str
) -> None:
    key_id = create(run)["id"]
    with pytest.raises(InvalidRequest, match=named):
        run("keys", "explain", key_id, *options)
