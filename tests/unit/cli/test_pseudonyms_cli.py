"""`audit-gateway pseudonyms` on a data folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import pepper
from gateway.cli.main import cli
from gateway.errors import Conflict, InvalidRequest, NotFound

GRANT = '{"actions":["pull"],"categories":["**"],"fields":{"pseudonymize":["actor.id"]}}'
SENDING = '{"actions":["ingest"],"categories":["**"]}'
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a folder of its own; standard output. Raises what the command raises."""
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    monkeypatch.setattr(pepper, "_LEARN_SECONDS", 0.0)

    def run(*arguments: str) -> str:
        data = ["--data", str(tmp_path / "data")]
        result = CliRunner().invoke(cli, [*arguments, *data], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


def create(run: Run, *options: str) -> dict[str, str]:
    made = run("keys", "create", "--name", "n", "--purpose", "p", *options, "--json")
    return json.loads(made)  # type: ignore[no-any-return]


def versions(run: Run) -> list[tuple[int, bool, str | None]]:
    found = json.loads(run("pseudonyms", "status", "--json"))["versions"]
    return [(one["version"], one["forgotten"], one["pepper"]) for one in found]


def test_versions_are_begun_by_keys_rotated_and_kept_while_in_use(run: Run) -> None:
    create(run)
    assert "there is no secret yet" in run("pseudonyms", "status")
    create(run, "--grant", GRANT)
    assert [number for number, *_ in versions(run)] == [1]
    assert "version 2 of pseudonyms holds from 20" in run("pseudonyms", "rotate")
    assert [number for number, *_ in versions(run)] == [1, 2]
    assert "from the beginning" in run("pseudonyms", "status")
    with pytest.raises(Conflict, match="version 1 of pseudonyms is in use"):
        run("pseudonyms", "forget", "1")
    with pytest.raises(NotFound):
        run("pseudonyms", "forget", "7")


def test_a_rotation_of_the_pepper_seals_them_anew(run: Run) -> None:
    create(run, "--grant", GRANT)
    [(_, _, before)] = versions(run)
    run("pepper", "rotate")
    [(_, _, after)] = versions(run)
    assert before != after
    run("pepper", "forget", "--force")
    assert versions(run) == [(1, False, after)]


def test_keys_are_made_in_a_domain_and_never_as_oracles(run: Run) -> None:
    made = create(run, "--grant", GRANT, "--pseudonym-domain", "siem")
    assert made["pseudonym_domain"] == "siem"
    shown = json.loads(run("keys", "show", made["id"], "--json"))
    assert shown["pseudonym_domain"] == "siem"
    for options, reason in (
        (("--grant", GRANT, "--pseudonym-domain", "S I"), "pseudonym_domain"),
        (("--grant", GRANT, "--grant", SENDING), "read them pseudonymized"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            create(run, *options)
    said = run("keys", "document", made["id"])
    assert "with pseudonyms in place of actor.id" in said
    said = run("keys", "explain", made["id"], "--action", "pull", "--category", "auth")
    assert "pseudonymized: actor.id" in said
