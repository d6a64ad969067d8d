"""`audit-gateway keys break-glass` on a data folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.base.operator import this_operator
from gateway.cli.main import cli
from gateway.clock import parse_rfc3339
from gateway.errors import Conflict, InvalidRequest, NotFound

Run = Callable[..., str]
REASON = "the identity provider is away"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def run(data: Path) -> Run:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments, "--data", str(data)], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


@pytest.fixture
def other(run: Run) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        run("keys", "create", "--name", "n", "--purpose", "p", "--json")
    )
    return made


def break_glass(run: Run, *options: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        run("keys", "break-glass", "--reason", REASON, *options, "--json")
    )
    return made


def hours(key: dict[str, Any]) -> float:
    return (parse_rfc3339(key["expires_at"]) - parse_rfc3339(key["created_at"])) / 3_600_000_000


@pytest.mark.usefixtures("other")
def test_a_key_for_an_emergency_administers_for_four_hours_and_says_why(run: Run) -> None:
    made = break_glass(run)
    assert made["break_glass"] is True
    assert made["purpose"] == REASON
    assert made["roles"] == ["key-admin", "on-call"]
    assert made["created_by"] == this_operator().actor
    assert hours(made) == 4


@pytest.mark.usefixtures("other")
def test_it_may_have_other_roles_and_a_shorter_life(run: Run) -> None:
    made = break_glass(run, "--role", "auditor", "--expires", "30m")
    assert (made["roles"], hours(made)) == (["auditor"], 0.5)


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    "options", [("--expires", "241m"), ("--expires", "0s"), ("--role", "nobody"), ("--reason", " ")]
)
def test_what_it_may_not_have_is_refused_and_makes_nothing(
    run: Run, options: tuple[str, str]
) -> None:
    with pytest.raises(InvalidRequest):
        run("keys", "break-glass", "--reason", REASON, *options)
    assert len(json.loads(run("keys", "list", "--json"))["keys"]) == 1


@pytest.mark.usefixtures("other")
def test_it_has_no_successor_that_would_live_on(run: Run) -> None:
    made = break_glass(run)
    with pytest.raises(Conflict) as refused:
        run("keys", "rotate", made["id"])
    assert refused.value.code == "break_glass"


def test_others_are_not_for_emergencies(other: dict[str, Any]) -> None:
    assert "break_glass" not in other


def test_a_folder_without_a_gateway_is_not_made_into_one(run: Run, data: Path) -> None:
    with pytest.raises(NotFound):
        break_glass(run)
    assert not data.exists()
