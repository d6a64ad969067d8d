"""Definitions of sources: how records of one kind become events, as data. Pure.

A definition is written as TOML (`parsing.py`) or made of the columns of a table, and compiled to a
function (`compiler.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import msgspec

from gateway.ingest.mapping.path import Condition, Member, Path, Step

# A path that begins with this names an option of the source, such as `$cluster`.
OPTION = "$"
OPTIONS = ("cluster",)
# Readers of records that are text.
READERS = ("postgres_csv", "syslog")
GROUPS: dict[str, tuple[str, ...]] = {
    "actor": ("type", "id", "name", "key_id"),
    "source": ("service", "ip", "port", "user_agent"),
    "request": ("id", "trace_id"),
}
TARGET = ("urn", "type", "id", "name")
SINGLE = ("id", "time", "tenant", "category", "action", "outcome", "severity", "reason")


class TemplateField(msgspec.Struct, frozen=True):
    """A part of a template: the first of `alternatives` (paths, texts) that is there.

    `whole`: it may hold several segments of a resource path. `convert` names a conversion."""

    alternatives: tuple[Path | str, ...]
    whole: bool = False
    convert: str | None = None


class OptionalPart(msgspec.Struct, frozen=True):
    """A part of a template that is left out if one of its fields is missing."""

    parts: tuple[str | TemplateField, ...]


class Template(msgspec.Struct, frozen=True):
    """Text with fields; nothing if one of them is missing."""

    parts: tuple[str | TemplateField | OptionalPart, ...]

    def fields(self) -> Iterator[TemplateField]:
        for part in self.parts:
            yield from (
                inner
                for inner in (part.parts if isinstance(part, OptionalPart) else (part,))
                if isinstance(inner, TemplateField)
            )


class Join(msgspec.Struct, frozen=True):
    """The values at all paths that are there, with `between` between them."""

    paths: tuple[Path, ...]
    between: str


class FunctionCall(msgspec.Struct, frozen=True):
    """What a function of `gateway.ingest.sources.vendors` makes of the record."""

    name: str


class ConstantValue(msgspec.Struct, frozen=True):
    value: str | int


class Value(msgspec.Struct, frozen=True):
    """A member's value: the first of `origins` that is there, converted, then by `table`.

    Of what the table does not know becomes `present`, else `default`; of a missing one `absent`,
    else `default`. Keys of the table may have `*` for any characters; whole ones go first.
    """

    origins: tuple[Path | Template | Join | FunctionCall | ConstantValue | Value, ...]
    convert: str | None = None
    table: dict[str, str | int] | None = None
    present: str | int | None = None
    absent: str | int | None = None


Origin = Path | Template | Join | FunctionCall | ConstantValue | Value


class TargetValue(msgspec.Struct, frozen=True):
    """One target, or one for each value at `each`; or those that `function` makes."""

    members: dict[str, Value]
    each: Path | None = None
    function: str | None = None


# The record itself is an event in the gateway's own form.
ITSELF = "."


class SourceDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A source. `members` are named with dots, such as `actor.id`.

    `loose`: paths lead through JSON in text as well. `copies`: by member, more paths below `data`
    that repeat it; those that its value is taken from do anyway. All this holds in events whose
    category begins with the word `root`; without one, in all events whose `data` fulfils
    `known_by`, or `when` without that.
    """

    name: str
    title: str
    # What senders call records of this kind, such as a source type of Splunk.
    aliases: tuple[str, ...] = ()
    documentation: str = ""
    version: str = ""
    when: Condition = ()
    # The same as text, for refusals.
    needs: str = ""
    skip: Condition = ()
    envelopes: tuple[str, ...] = ()
    # The list of which each item is an event of its own; "" for none.
    parts: str = ""
    # What reads records that are text; "" where they are JSON.
    reader: str = ""
    # The member that may hold an event of a gateway, which then is the event; "" for none, and
    # `ITSELF` where each record is one.
    native: str = ""
    ignore_case: bool = False
    loose: bool = False
    members: dict[str, Value]
    targets: tuple[TargetValue, ...] = ()
    # A path to a list that holds targets in the native form.
    native_targets: Value | None = None
    root: str = ""
    known_by: Condition = ()
    copies: dict[str, tuple[str, ...]] = {}


def paths_of(value: Value) -> Iterator[Path]:
    """All paths of a value."""
    for origin in value.origins:
        if isinstance(origin, Path):
            yield origin
        elif isinstance(origin, Value):
            yield from paths_of(origin)
        elif isinstance(origin, Join):
            yield from origin.paths
        elif isinstance(origin, Template):
            for field in origin.fields():
                yield from (path for path in field.alternatives if isinstance(path, Path))


def copied_members(definition: SourceDefinition) -> Iterator[tuple[str, str]]:
    """Pairs of a path below `data` and the member of events that it repeats."""
    for member, paths in definition.copies.items():
        yield from ((path, member) for path in paths)
    for member, value in definition.members.items():
        if member == "reason" or "." in member:
            yield from ((_below_data(path.steps), member) for path in paths_of(value))
    for target in definition.targets:
        for name, value in target.members.items():
            for path in paths_of(value):
                at = target.each if path.in_item else path
                if at is not None:
                    yield _below_data(at.steps), f"targets.{name}"


def _below_data(steps: tuple[Step, ...]) -> str:
    """Path below `data` as masks have it: as far as there are names that a path can hold."""
    names = itertools.takewhile(
        lambda step: isinstance(step, Member) and "." not in step.name, steps
    )
    return ".".join(["data", *(step.name for step in names if isinstance(step, Member))])
