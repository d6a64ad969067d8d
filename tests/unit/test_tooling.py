"""What checks the code: by hand, at a commit and in a report is one and the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from gateway import __version__

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
COVERAGE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["coverage"]
ENVIRONMENT = ".venv/bin/"


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, by the names of the programs."""
    found = re.search(rf"(?m)^{target}:.*\n((?:\t.*\n)+)", MAKEFILE)
    assert found, f"there is no target {target}"
    return [line.removeprefix("\t@$(BIN)/") for line in found[1].splitlines()]


def test_a_commit_is_checked_by_what_make_lint_runs_in_the_environment_of_the_project() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    [repository] = config["repos"]
    assert repository["repo"] == "local"
    hooks = repository["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    entries = [hook["entry"] for hook in hooks]
    assert all(entry.startswith(ENVIRONMENT) for entry in entries)
    linted = [line.removesuffix(" .") for line in recipe("lint")]
    assert [entry.removeprefix(ENVIRONMENT) for entry in entries] == linted


def test_coverage_counts_branches_of_the_whole_package_and_has_a_floor() -> None:
    assert COVERAGE["run"]["branch"]
    assert COVERAGE["run"]["source"] == ["gateway"]
    assert COVERAGE["report"]["fail_under"] > 0
    assert recipe("coverage")[-1] == "python -m coverage report"


def test_the_newest_release_of_the_changelog_is_the_version_of_the_program() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased, newest, *_ = re.findall(r"(?m)^## (.*)$", changelog)
    assert unreleased == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", newest)
