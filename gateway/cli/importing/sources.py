"""`audit-gateway sources`: kinds of records that can be brought in."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gateway.cli.base.terminal import say, say_document, say_json
from gateway.cli.importing.command import opened
from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.ingest.sources.checking import Report

# Records by which a source is recognised.
_MOST_LOOKED_AT = 100
_EXAMPLES = """\b
Examples:
  audit-gateway sources list
  audit-gateway sources show okta > mine.toml
  audit-gateway sources check --source mine.toml export.ndjson
"""


@click.group(epilog=_EXAMPLES)
def sources() -> None:
    """Kinds of records that become events: list them, read one, try one on your records."""


@sources.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON, one object a line.")
def list_command(as_json: bool) -> None:
    """List the sources that are shipped."""
    from gateway.ingest.sources.catalog import shipped, shipped_names

    for name in shipped_names():
        definition = shipped(name)
        if as_json:
            say_json(
                {
                    "name": name,
                    "title": definition.title,
                    "version": definition.version,
                    "documentation": definition.documentation,
                }
            )
        else:
            say(f"{name:<20} {definition.title}")


@sources.command()
@click.argument("name")
def show(name: str) -> None:
    """Print what a source makes of records, and its definition.

    The reference stands in comments, so that the whole is a definition: a
    beginning for one of your own.
    """
    from gateway.ingest.sources.catalog import (
        FUNCTIONS,
        definition_named,
        shipped_names,
        shipped_text,
    )
    from gateway.ingest.sources.reference import section

    definition_named(name)
    text = shipped_text(name) if name in shipped_names() else Path(name).read_text("utf-8")
    told = [f"# {line}".rstrip() + "\n" for line in section(text, FUNCTIONS).splitlines()]
    say_document("".join([*told, "\n", text]))


@sources.command()
def reference() -> None:
    """Print the page about all shipped sources, as Markdown."""
    from gateway.ingest.sources.catalog import FUNCTIONS, shipped_names, shipped_text
    from gateway.ingest.sources.reference import page

    say_document(page({name: shipped_text(name) for name in shipped_names()}, FUNCTIONS))


@sources.command()
@click.option(
    "--source",
    "name",
    metavar="NAME|FILE",
    help="The source to try; without it that which takes most of the first records.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
def check(name: str | None, as_json: bool, files: tuple[str, ...]) -> None:
    """Say what would become of records; write nothing.

    Shown are counts, the first ten events beside their records, members that
    no record set, values that no table knew, and refusals with their reasons.
    """
    from gateway.clock import SystemClock
    from gateway.ingest.reading import Unreadable, read_records
    from gateway.ingest.sources.catalog import definition_named, make_source
    from gateway.ingest.sources.checking import Checking

    definition = definition_named(name or _recognised(files[0]))
    checking = Checking(definition)
    source = make_source(definition, unknown=checking.unknown, now=SystemClock().now)
    for file in files:
        with opened(file) as stream:
            try:
                for unit in read_records(stream, source.goes_on):
                    if isinstance(unit, Unreadable):
                        checking.unreadable(unit.reason)
                        continue
                    for found in source.map(unit.raw):
                        checking.add(found)
            except OSError as error:
                raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None
    report = checking.report()
    if as_json:
        say_json(report)
    else:
        _say(report)
    if report.refused:
        click.get_current_context().exit(1)


def _recognised(file: str) -> str:
    """Name of the source whose records a file seems to hold."""
    from gateway.ingest.reading import Unreadable, read_records
    from gateway.ingest.sources.catalog import recognised, shipped_names

    if file == "-":
        raise InvalidRequest("say by --source what comes from standard input")
    with opened(file) as stream:
        units = islice(read_records(stream, None), _MOST_LOOKED_AT)
        name = recognised([unit.raw for unit in units if not isinstance(unit, Unreadable)])
    if name is None:
        raise InvalidRequest(
            f"{file}: no source makes events of what comes first; name one by --source: "
            f"{', '.join(shipped_names())}, or the file of one of your own"
        )
    return name


def _say(report: Report) -> None:
    say(f"source: {report.source}", "")
    for record, event in report.examples:
        say(f"record  {json.dumps(record, ensure_ascii=False)}")
        say(f"event   {json.dumps(event, ensure_ascii=False)}", "")
    say(
        f"{report.records:,} records: {report.events:,} events, {report.skipped:,} skipped by the "
        f"rule of the source, {sum(report.refused.values()):,} refused"
    )
    _say_counts("outcomes", report.outcomes)
    if report.outcomes.get("unknown"):
        say(f"outcome unknown: {report.unknown_outcomes:.1%} of the events")
    _say_counts("marked", report.marks)
    for member, values in report.unknown.items():
        _say_counts(f"values of {member} that no table knows", values)
    if report.empty:
        say(f"members that no record set: {', '.join(report.empty)}")
    _say_counts("refused", report.refused)


def _say_counts(title: str, counts: dict[str, int]) -> None:
    if counts:
        say(f"{title}:", *(f"  {number:>8,}  {what}" for what, number in counts.items()))
