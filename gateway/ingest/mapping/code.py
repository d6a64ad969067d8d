"""The text of a compiled function, line by line, and the values that it names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from gateway.event import Members, Target
from gateway.filters.scope import is_reserved
from gateway.ingest.mapping import values
from gateway.ingest.mapping.definition import OPTION
from gateway.ingest.mapping.path import Item, Member, Path, Step, Term, value_at, values_at
from gateway.ingest.strict_json import Refused

Options = Mapping[str, str]
_DECODER = msgspec.json.Decoder()


class Code:
    """Lines of a function over `record`, with the values that they name."""

    def __init__(self, loose: bool, ignore_case: bool, options: Options) -> None:
        self._loose = loose
        self._ignore_case = ignore_case
        self._options = options
        self._lines: list[str] = []
        self._places: dict[tuple[str, tuple[Step, ...]], str] = {}
        self.names: dict[str, Any] = dict(_HELPERS)

    def line(self, text: str) -> None:
        self._lines.append(text)

    def function(self, parameters: str) -> Any:
        """The function of all lines."""
        text = f"def mapped({parameters}):\n" + "".join(f"    {line}\n" for line in self._lines)
        # All text is made here; what a definition holds is among the names.
        exec(compile(text, "<source>", "exec"), self.names)
        return self.names["mapped"]

    def name(self, value: Any, kind: str = "v") -> str:
        """A name for a value."""
        name = f"{kind}{len(self.names)}"
        self.names[name] = value
        return name

    def assigned(self, expression: str) -> str:
        name = self.name(None, "x")
        self.line(f"{name} = {expression}")
        return name

    def place(self, path: Path, item: str = "item") -> str:
        """Variable that holds the value at a path, None if there is none."""
        root = item if path.in_item else "record"
        steps = path.steps
        if not path.in_item and isinstance(steps[0], Member):
            name = steps[0].name
            if name.startswith(OPTION):
                return self.name(self._options.get(name.removeprefix(OPTION)), "c")
            if self._ignore_case:
                steps = (Member(name.lower()), *steps[1:])
        if path.is_many:
            return self.assigned(f"values_at({root}, {self.name(steps, 's')})")
        return self._place(root, steps)

    def _place(self, root: str, steps: tuple[Step, ...]) -> str:
        if not steps:
            return root
        known = self._places.get((root, steps))
        if known is None:
            known = self.assigned(self._step(self._place(root, steps[:-1]), steps[-1]))
            self._places[root, steps] = known
        return known

    def _step(self, outer: str, step: Step) -> str:
        if isinstance(step, Member):
            name = self.name(step.name, "k")
            if outer == "record":
                return f"record.get({name})"
            if self._loose:
                return f"inside({outer}).get({name})"
            return f"{outer}.get({name}) if type({outer}) is dict else None"
        if isinstance(step, Item):
            least = step.place + 1 if step.place >= 0 else -step.place
            return (
                f"{outer}[{step.place}] if type({outer}) is list and len({outer}) >= {least}"
                " else None"
            )
        return f"value_at({outer}, {self.name((step,), 's')})"

    def term(self, term: Term) -> str:
        at = self.place(term.path)
        if term.pattern is None:
            return f"({at} is {'' if term.negated else 'not '}None)"
        match = self.name(term.pattern.match, "m")
        found = f"type({at}) is str and {match}({at}) is not None"
        return f"(not ({found}))" if term.negated else f"({found})"


def _inside(value: Any) -> dict[str, Any]:
    """The members of an object, or of one in JSON text."""
    if type(value) is dict:
        return value
    if type(value) is str and value[:1] in "{ \n":
        try:
            inner = _DECODER.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return {}
        return inner if type(inner) is dict else {}
    return {}


def _listed(value: Any, many: bool) -> list[Any]:
    if many:
        return value if type(value) is list else []
    return [value]


def _joined(between: str, parts: tuple[list[Any], ...]) -> str | None:
    found = [text for part in parts for value in part if (text := values.plain_text(value))]
    return between.join(found) or None


def _made_targets(made: Iterable[Any] | None) -> list[Target]:
    """Targets of a function's results; a function for other members makes none."""
    found = []
    for members in made or ():
        if type(members) is not dict:
            continue
        urn = values.cut_urn(members["urn"]) if members.get("urn") else UNSET
        rest = {name: values.short(members.get(name)) for name in ("type", "id", "name")}
        found.append(Target(urn=urn, **rest))
    return found


def _distinct(parts: tuple[list[Target | None], ...]) -> list[Target]:
    if len(parts) == 1 and len(parts[0]) == 1:
        return [target for target in parts[0] if target is not None]
    found: list[Target] = []
    for part in parts:
        for target in part:
            if target is not None and target not in found:
                found.append(target)
                if len(found) == values.MAX_TARGETS:
                    return found
    return found


# What the text of functions may name.
_HELPERS: dict[str, Any] = {
    **{
        name: getattr(values, name)
        for name in (
            "short", "long", "id_member", "ip_member", "port_member", "urn_member",
            "outcome_member", "severity_member", "time_member", "target_members", "text",
            "category", "action", "tenant", "segment", "segments", "cut_urn",
        )
    },
    "values_at": values_at, "value_at": value_at, "inside": _inside, "joined": _joined,
    "listed": _listed, "made_targets": _made_targets, "distinct": _distinct,
    "is_reserved": is_reserved, "Refused": Refused, "UNSET": UNSET, "Members": Members,
    "Target": Target,
}  # fmt: skip
