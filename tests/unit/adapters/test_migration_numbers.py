"""Which scripts a database still needs, and which databases are refused."""

from __future__ import annotations

import pytest

from gateway.adapters.migrations import load_scripts, missing_scripts, script_name, split_name
from gateway.errors import GatewayError

KNOWN = (4, 5, 6)


@pytest.mark.parametrize(("version", "missing"), [(0, [4, 5, 6]), (4, [5, 6]), (5, [6]), (6, [])])
def test_a_database_needs_what_lies_behind_its_version(version: int, missing: list[int]) -> None:
    assert missing_scripts("x.db", "log", version, KNOWN) == missing


@pytest.mark.parametrize("version", [1, 2, 3])
def test_one_from_before_the_baseline_is_told_what_to_run(version: int) -> None:
    with pytest.raises(GatewayError) as caught:
        missing_scripts("x.db", "log", version, KNOWN)
    assert caught.value.code == "schema_too_old"
    assert caught.value.detail == (
        f"x.db was written by a version of this program that is too old (log_00{version}; this one "
        "goes on from log_004) and was left as it is; run `audit-gateway migrate` of the last "
        "version before 0.1.0 once, then this one: deploy/upgrading.md"
    )


@pytest.mark.parametrize(("version", "known"), [(7, KNOWN), (1, ())])
def test_one_that_a_newer_version_has_written_is_told_so(
    version: int, known: tuple[int, ...]
) -> None:
    with pytest.raises(GatewayError, match="newer version") as caught:
        missing_scripts("x.db", "log", version, known)
    assert caught.value.code == "schema_too_new"
    assert script_name("log", version) in caught.value.detail


@pytest.mark.parametrize("adapter", ["sqlite", "postgres"])
def test_the_numbers_of_each_schema_go_on_without_a_gap_behind_its_baseline(adapter: str) -> None:
    for schema, scripts in load_scripts(f"gateway.adapters.{adapter}").items():
        assert schema.startswith(f"{adapter}_")
        assert list(scripts) == list(range(min(scripts), max(scripts) + 1)), schema


def test_a_name_is_made_of_a_schema_and_a_number() -> None:
    assert split_name(script_name("postgres_log", 12)) == ("postgres_log", 12)
