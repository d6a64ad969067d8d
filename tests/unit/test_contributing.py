"""What CONTRIBUTING.md, SECURITY.md and deploy/decisions/ name is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click

from gateway.cli.main import cli
from gateway.http.metrics.declarations import HISTOGRAMS, LABELLED, METRICS, WORKER_METRICS
from gateway.settings.declarations import DECLARED, SECTIONS
from tests.support.cases import every

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "deploy" / "decisions"
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DECISIONS.glob("*.md"))]
# They come when something is run, and are kept out of the repository.
MADE = ("tests/benchmarks/results", "audit-data")
SUFFIXES = (".py", ".md", ".toml", ".txt", ".sql", ".lua", ".conf", ".cfg", ".service")
# Names of metrics beside those that are declared.
OTHER_METRICS = {"internal_errors_total", "build_info"}
SQL = ("NOTIFY", "UNION")
HEADINGS = ["## Context", "## Decision", "## Figures", "## Consequences"]

Case = tuple[str, str]


def code_of(page: Path) -> Iterator[str]:
    """What stands in backticks, and the lines of blocks but for drawings."""
    text = page.read_text(encoding="utf-8")
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind != "text":
            yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```$", "", text))


def named(pattern: str) -> list[Case]:
    """What is named in the pages in the form of a pattern, with the page's name."""
    found = [
        (page.name, name)
        for page in PAGES
        for code in code_of(page)
        for name in re.findall(pattern, code)
    ]
    assert found, f"nothing is named like {pattern}"
    return list(dict.fromkeys(found))


@cache
def present() -> tuple[str, ...]:
    """Every file and folder of the project, from its root on."""
    below = [path for top in ("gateway", "tests", "deploy", ".ci") for path in walk(ROOT / top)]
    return tuple(f"/{path.relative_to(ROOT)}" for path in [*ROOT.iterdir(), *below])


def walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name not in ("node_modules", "__pycache__"):
            yield path
            if path.is_dir():
                yield from walk(path)


def is_path(name: str) -> bool:
    folders = re.fullmatch(r"(\.?[\w-]+/)+", name)
    tops = ("gateway/", "tests/", "deploy/", ".ci/")
    return bool(folders) or name.startswith(tops) or name.endswith(SUFFIXES)


@every(
    (page, name) for page, name in named(r"(?<![\w./:<-])[\w.-]+(?:/[\w.-]+)*/?") if is_path(name)
)
def test_paths_are_there(case: Case) -> None:
    _, name = case
    if name in MADE:
        assert f"/{name.rstrip('/')}/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    else:
        assert any(path.endswith(f"/{name.rstrip('/')}") for path in present())


@every(
    (page, link)
    for page in PAGES
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    if "://" not in link
)
def test_links_lead_to_files_and_headings(case: tuple[Path, str]) -> None:
    page, link = case
    path, _, heading = link.partition("#")
    target = page.parent / path if path else page
    assert target.exists()
    if heading:
        lines = re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8"))
        assert heading in [re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines]


@every(named(r"\bmake ([a-z][a-z-]*)"))
def test_targets_of_make_are_there(case: Case) -> None:
    assert re.search(rf"(?m)^{case[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"))


@every((page, name) for page, name in named(r"python -m ([\w.]+)") if name != "pytest")
def test_programs_of_python_are_there(case: Case) -> None:
    path = ROOT / case[1].replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@every(named(r"audit-gateway((?: [a-z][a-z-]*)+)"))
def test_commands_are_there(case: Case) -> None:
    command: click.Command = cli
    for word in case[1].split():
        if not isinstance(command, click.Group):
            break
        found = command.get_command(click.Context(command), word)
        assert found is not None, word
        command = found


@every((page, name) for page, name in named(r"\b([A-Z]{4,}[A-Z_]*)\b") if name not in SQL)
def test_constants_and_variables_are_there(case: Case) -> None:
    _, name = case
    files = [path for path in present() if path.endswith((".py", ".md")) or "/Makefile" in path]
    assert any(
        re.search(rf"\b{name}\b", (ROOT / path[1:]).read_text(encoding="utf-8"))
        for path in files
        if not path.startswith(("/CONTRIBUTING", "/SECURITY", "/deploy/decisions"))
    )


@every(
    (page, name)
    for page, name in named(r"^[a-z]+\.[a-z_]+(?=$| =)")
    if name.split(".")[0] in SECTIONS and not name.endswith((".py", ".admin", ".db"))
)
def test_settings_are_there(case: Case) -> None:
    assert case[1] in DECLARED


@every(named(r"\baudit_gateway_(\w+)"))
def test_metrics_are_there(case: Case) -> None:
    declared = (*METRICS, *WORKER_METRICS, *LABELLED, *HISTOGRAMS)
    assert case[1] in {metric.name for metric in declared} | OTHER_METRICS


def test_the_index_has_every_decision_once_and_in_order() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (\d{4}) \| \[(.+)\]\((.+)\) \|$", index)
    files = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    assert [file for _, _, file in rows] == files
    assert [int(number) for number, _, _ in rows] == list(range(1, len(files) + 1))
    for number, title, file in rows:
        assert file.startswith(f"{number}-")
        first = (DECISIONS / file).read_text(encoding="utf-8").partition("\n")[0]
        assert first == f"# {int(number)}. {title}"


@every(sorted(DECISIONS.glob("[0-9]*.md")))
def test_a_decision_is_one_page_with_its_reasons_and_figures(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("## ")] == HEADINGS
    assert len(lines) <= 60
