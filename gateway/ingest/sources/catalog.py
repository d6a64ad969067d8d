"""Catalogue of sources: those that are shipped, and the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from gateway.access.grants.copies import DeclaredCopies, RecordCopies
from gateway.errors import InvalidSetting
from gateway.ingest.mapping.code import Options
from gateway.ingest.mapping.compiler import Functions
from gateway.ingest.mapping.definition import ITSELF, SourceDefinition, copied_members
from gateway.ingest.mapping.parsing import definition_of, parse_definition
from gateway.ingest.mapping.record_test import ConditionTest
from gateway.ingest.mapping.value_table import Listener
from gateway.ingest.sources.envelopes import parse_envelope
from gateway.ingest.sources.native_source import NativeSource
from gateway.ingest.sources.readers import postgres_csv
from gateway.ingest.sources.readers import syslog as syslog_lines
from gateway.ingest.sources.readers.record_reader import RecordReader
from gateway.ingest.sources.source import Mapped, NotMapped, Owner, RecordSource
from gateway.ingest.sources.vendors import (
    auditd,
    cloudevents,
    cloudtrail,
    github,
    kubernetes,
    pgaudit,
    syslog,
    teleport,
)

FUNCTIONS: Functions = {
    "auditd.moment": auditd.moment,
    "auditd.action": auditd.action,
    "auditd.result": auditd.result,
    "auditd.user_id": auditd.user_id,
    "auditd.user_name": auditd.user_name,
    "auditd.address": auditd.address,
    "cloudevents.event_id": cloudevents.event_id,
    "cloudtrail.category": cloudtrail.category,
    "cloudtrail.action": cloudtrail.action,
    "cloudtrail.answer": cloudtrail.answer,
    "cloudtrail.federated_name": cloudtrail.federated_name,
    "cloudtrail.reason": cloudtrail.reason,
    "cloudtrail.targets": cloudtrail.targets,
    "github.kind_of_actor": github.kind_of_actor,
    "github.targets": github.targets,
    "kubernetes.stage_id": kubernetes.stage_id,
    "kubernetes.peer": kubernetes.peer,
    "kubernetes.kind_of_user": kubernetes.kind_of_user,
    "kubernetes.url_target": kubernetes.url_target,
    "pgaudit.moment": pgaudit.moment,
    "pgaudit.category": pgaudit.category,
    "pgaudit.action": pgaudit.action,
    "pgaudit.statement_class": pgaudit.statement_class,
    "pgaudit.reason": pgaudit.reason,
    "pgaudit.targets": pgaudit.targets,
    "syslog.moment": syslog.moment,
    "syslog.action": syslog.action,
    "syslog.outcome": syslog.outcome,
    "syslog.own_severity": syslog.own_severity,
    "syslog.actor_id": syslog.actor_id,
    "syslog.actor_name": syslog.actor_name,
    "syslog.address": syslog.address,
    "syslog.port": syslog.port,
    "syslog.reason": syslog.reason,
    "syslog.targets": syslog.targets,
    "teleport.remote_address": teleport.remote_address,
}
READERS = {
    "postgres_csv": RecordReader(postgres_csv.record, postgres_csv.goes_on),
    "syslog": RecordReader(syslog_lines.record),
}
_SUFFIX = ".toml"
# Sources whose records may hold one of another.
_AROUND_OTHERS = frozenset({"cloudevents", "journald", "otlp", "splunk_hec", "syslog"})
# Compiled sources that a gateway keeps: as many as it has clusters and sources, usually.
_MOST_MADE = 64
_FOLDER = files("gateway.ingest.sources") / "shipped"


@cache
def shipped_names() -> tuple[str, ...]:
    """Names of the shipped sources."""
    found = (entry.name for entry in _FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def shipped_text(name: str) -> str:
    """The definition of a shipped source, as TOML."""
    return (_FOLDER / (name + _SUFFIX)).read_text(encoding="utf-8")


@cache
def shipped(name: str) -> SourceDefinition:
    """A shipped definition."""
    return parse_definition(shipped_text(name), name + _SUFFIX, FUNCTIONS, parse_envelope)


def read_definition(file: Path) -> SourceDefinition:
    """Definition of a user's file. Raises `InvalidSetting`."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{file} cannot be read: {error}") from None
    return parse_definition(text, str(file), FUNCTIONS, parse_envelope)


def recognised(records: Sequence[bytes]) -> str | None:
    """Name of the shipped source that makes events of most of these records; None if none does.

    What is around records of others, such as CloudEvents, counts for less than they do.
    """
    best, most = None, (0, False)
    for name in shipped_names():
        if not shipped(name).when:
            continue
        source = make_source(shipped(name), now=lambda: 0.0)
        made = (one for record in records for one in source.map(record))
        count = sum(isinstance(one, Mapped) for one in made)
        if count and (count, name not in _AROUND_OTHERS) > most:
            best, most = name, (count, name not in _AROUND_OTHERS)
    return best


class Sources:
    """The sources of one gateway: those that are shipped, and those of its settings, which win.

    `declared` are the tables `[sources.NAME]`. Raises `InvalidSetting` for a wrong one.
    """

    def __init__(
        self, declared: Mapping[str, Mapping[str, Any]], now: Callable[[], float] | None = None
    ) -> None:
        self._declared = {
            name: definition_in_settings(name, content) for name, content in declared.items()
        }
        self._now = now
        self._aliases = {
            alias.lower(): definition.name
            for definition in (*map(shipped, shipped_names()), *self._declared.values())
            for alias in definition.aliases
        }
        self._made: dict[tuple[str, str | None], RecordSource] = {}

    def named(self, name: str, cluster: str | None = None) -> RecordSource | None:
        """The source of this name, compiled when it is first asked for; None if there is none."""
        made = self._made.get((name, cluster))
        if made is not None:
            return made
        if name in self._declared:
            definition = self._declared[name]
        elif name in shipped_names():
            definition = shipped(name)
        else:
            return None
        if len(self._made) == _MOST_MADE:
            self._made.clear()
        options = {} if cluster is None else {"cluster": cluster}
        made = make_source(definition, options, now=self._now)
        self._made[name, cluster] = made
        return made

    def known_as(self, name: str) -> RecordSource | None:
        """The source of this name, or that whose records senders call so; None if there is none."""
        return self.named(self._aliases.get(name.lower(), name))

    def copies(self) -> DeclaredCopies:
        """Paths below `data`, and the members that they repeat: by the first word of categories,
        and of sources without one by the record."""
        by_root: dict[str, dict[str, tuple[str, ...]]] = {}
        usual: dict[str, tuple[ConditionTest, ...]] = {}
        by_record: list[RecordCopies] = []
        for definition in (*map(shipped, shipped_names()), *self._declared.values()):
            root = definition.root
            of_root = by_root.setdefault(root, {}) if root else {}
            for path, member in copied_members(definition):
                for spelled in {path, _lower(path) if definition.ignore_case else path}:
                    of_root[spelled] = (*of_root.get(spelled, ()), member)
            condition = definition.known_by or definition.when
            test = ConditionTest(condition, definition.ignore_case)
            if root:
                usual[root] = (*usual.get(root, ()), test) if condition else usual.get(root, ())
            elif of_root and definition.native != ITSELF:
                # Without a condition any of the paths tells.
                names = test.names() or tuple(
                    (path.split(".")[1],) for path in of_root if "." in path
                )
                if "data" in of_root:
                    names = ((),)
                by_record.append(
                    RecordCopies(definition.name, of_root, test, names, definition.ignore_case)
                )
        return DeclaredCopies(by_root, usual, tuple(by_record))

    @property
    def names(self) -> Sequence[str]:
        return sorted({*self._declared, *shipped_names()})

    def lacks(self, name: str) -> str:
        """What a sender is told of a name that no source has."""
        return f"there is no source {name[:64]!r}; there are {', '.join(self.names)}"


def definition_named(name: str) -> SourceDefinition:
    """Definition of a shipped source, or of the file at `name`. Raises `InvalidSetting`."""
    if name in shipped_names():
        return shipped(name)
    if name.endswith(_SUFFIX) or "/" in name:
        return read_definition(Path(name))
    near = difflib.get_close_matches(name, shipped_names(), 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(shipped_names())}."
    raise InvalidSetting(
        f"no source is called {name!r}; {hint} A definition of your own is given as its file"
    )


def definition_in_settings(name: str, content: Mapping[str, Any]) -> SourceDefinition:
    """Definition of the table `[sources.NAME]` of the settings. Raises `InvalidSetting`."""
    named = {"name": name, **content}
    return definition_of(named, f"sources.{name}", FUNCTIONS, parse_envelope)


def make_source(
    definition: SourceDefinition,
    options: Options | None = None,
    unknown: Listener = lambda member, value: None,
    now: Callable[[], float] | None = None,
) -> RecordSource:
    """A compiled source. By `now` times without a year get one; without it they are unknown."""
    reader = READERS.get(definition.reader)
    kind = NativeSource if definition.native == ITSELF else RecordSource
    return kind(definition, FUNCTIONS, options or {}, unknown, reader, now)


# What another process has compiled.
_apart: dict[tuple[object, ...], RecordSource] = {}


def map_apart(
    definition: SourceDefinition, options: Options, raw: bytes, owner: Owner, most: int | None
) -> list[Mapped | NotMapped]:
    """All that `RecordSource.map` makes of `raw`, for a process that compiles the source itself."""
    return list(source_apart(definition, options).map(raw, owner, most))


def source_apart(definition: SourceDefinition, options: Options) -> RecordSource:
    """The source that this process has compiled of a definition."""
    name = (definition.name, *sorted(options.items()))
    source = _apart.get(name)
    if source is None or source.definition != definition:
        if len(_apart) >= _MOST_MADE:
            _apart.clear()
        source = _apart[name] = make_source(definition, options)
    return source


def _lower(path: str) -> str:
    """A path below `data` with its outermost name in lower case."""
    data, _, rest = path.partition(".")
    outer, dot, inner = rest.partition(".")
    return f"{data}.{outer.lower()}{dot}{inner}" if rest else path
