"""The text of a compiled function, line by line, and the values that it names. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from gateway.event import OUTCOMES, Members, Target
from gateway.filters.scope import is_reserved
from gateway.ingest.mapping import values
from gateway.ingest.mapping.definition import OPTION
from gateway.ingest.mapping.path import Each, Item, Member, Path, Step, Term, value_at, values_at
from gateway.ingest.mapping.value_table import ValueTable
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
        # By the variable of an object or a list: what is looked up in it.
        self._inner: dict[str, list[tuple[Step, str]]] = {}
        self.names: dict[str, Any] = dict(_HELPERS)
        self._constants: dict[str, Any] = {"None": None}

    def line(self, text: str) -> None:
        self._lines.append(text)

    def function(self, parameters: str) -> Any:
        """The function of all lines."""
        roots = [name for name in ("record", "item") if name in self._inner]
        lines = [line for root in roots for line in self._looked_into(root)] + self._lines
        text = f"def mapped({parameters}):\n" + "".join(f"    {line}\n" for line in lines)
        # All text is made here; what a definition holds is among the names.
        exec(compile(text, "<source>", "exec"), self.names)
        return self.names["mapped"]

    def name(self, value: Any, kind: str = "v") -> str:
        """A name for a value."""
        name = f"{kind}{len(self.names)}"
        self.names[name] = value
        return name

    def constant(self, value: Any) -> str:
        """A name for a value that is the same for all records."""
        name = self.name(value, "c")
        self._constants[name] = value
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
                return self.constant(self._options.get(name.removeprefix(OPTION)))
            if self._ignore_case:
                steps = (Member(name.lower()), *steps[1:])
        if path.is_many:
            return self._places_of(root, steps)
        return self._place(root, steps)

    def _places_of(self, root: str, steps: tuple[Step, ...]) -> str:
        if not any(isinstance(step, Each) for step in steps[:-1]):
            at = self._place(root, steps[:-1])
            return self.assigned(
                f"[one for one in {at} if one is not None] if type({at}) is list else ()"
            )
        return self.assigned(f"values_at({root}, {self.name(steps, 's')})")

    def _place(self, root: str, steps: tuple[Step, ...]) -> str:
        if not steps:
            return root
        known = self._places.get((root, steps))
        if known is None:
            outer = self._place(root, steps[:-1])
            known = self._places[root, steps] = self.name(None, "x")
            self._inner.setdefault(outer, []).append((steps[-1], known))
        return known

    def _looked_into(self, outer: str) -> Iterator[str]:
        """Lines that look up all places within a value, before any other: an object is looked at
        once, and what is missing costs nothing further."""
        found = self._inner.get(outer, [])
        for step, name in found:
            if not isinstance(step, Member):
                yield f"{name} = {self._item(outer, step)}"
                yield from self._looked_into(name)
        members = [(step, name) for step, name in found if isinstance(step, Member)]
        if not members:
            return
        lines = []
        for step, name in members:
            lines.append(f"{name} = get({self.name(step.name, 'k')})")
        inner = [line for _, name in members for line in self._looked_into(name)]
        if outer == "record":
            yield from ("get = record.get", *lines, *inner)
            return
        if self._loose:
            yield f"get = ({outer} if type({outer}) is dict else inside({outer})).get"
            yield from (*lines, *inner)
            return
        yield f"if type({outer}) is dict:"
        yield from (f"    {line}" for line in (f"get = {outer}.get", *lines, *inner))
        yield f"else: {' = '.join(self._names_within(members))} = None"

    def _names_within(self, members: Iterable[tuple[Step, str]]) -> Iterator[str]:
        for _, name in members:
            yield name
            yield from self._names_within(self._inner.get(name, []))

    def _item(self, outer: str, step: Step) -> str:
        if isinstance(step, Item):
            least = step.place + 1 if step.place >= 0 else -step.place
            return (
                f"{outer}[{step.place}] if type({outer}) is list and len({outer}) >= {least}"
                " else None"
            )
        return f"value_at({outer}, {self.name((step,), 's')})"

    # What most values are goes without a call.

    def short(self, at: str) -> str:
        """Expression of a member of at most 256 characters."""
        return self._member(at, values.short, values.SHORT)

    def long(self, at: str) -> str:
        """Expression of a member of at most 1,024 characters."""
        return self._member(at, values.long, values.LONG)

    def id(self, at: str) -> str:
        """Expression of an id that fits."""
        if at in self._constants:
            return self.constant(values.id_member(self._constants[at]) or UNSET)
        usual = f"{at}.isascii() and {at}.isprintable() and 0 < len({at}) <= {values.LONGEST_ID}"
        return f"{at} if type({at}) is str and {usual} else id_member({at}) or UNSET"

    def severity(self, at: str, outcome: str) -> str:
        """Expression of a severity."""
        if self._constants.get(at, at) is None:
            return f"SEVERITIES[{outcome}]"
        return f"severity_member({at}, {outcome})"

    def ip(self, at: str) -> str:
        """Expression of an IP address."""
        usual = f"type({at}) is str and len({at}) <= {values.LONGEST_IP}"
        return f"UNSET if {at} is None else stripped_address({at}) if {usual} else ip_member({at})"

    def urn(self, at: str) -> str:
        """Expression of a resource path as the record has it."""
        usual = f"type({at}) is str and 0 < len({at}) <= {values.LONG} and {at}.isprintable()"
        return f"{at} if {usual} else urn_member({at})"

    def text(self, at: str) -> str:
        """Expression of a text of at most 1,024 characters, or of None."""
        if at in self._constants:
            return self.constant(values.text(self._constants[at], values.LONG))
        usual = f"{at} is None or type({at}) is str and 0 < len({at}) <= {values.LONG}"
        return f"({at} if {usual} else text({at}, {values.LONG}))"

    def outcome(self, at: str) -> str:
        """Expression of an outcome."""
        return f"{at} if type({at}) is str and {at} in OUTCOMES else outcome_member({at})"

    def looked_up(self, at: str, table: ValueTable) -> str:
        """Expression of what a table makes of a value."""
        name, known = self.name(table, "t"), self.name(table.known, "t")
        absent = self.constant(table.absent)
        if table.is_whole:
            usual = f"{known}.get({at}) if type({at}) is str and {at} else {name}({at})"
            return f"{absent} if {at} is None else {usual}"
        usual = f"{known}.get({at}) if type({at}) is str and {at}"
        number = f"{known}.get(str({at})) if type({at}) is int else None"
        return f"{absent} if {at} is None else ({usual} else {number}) or {name}({at})"

    def cleaned(self, at: str, member: str) -> tuple[str, bool]:
        """Expression of a category or an action, None of what makes none; and whether it is the
        same for all records."""
        clean: Callable[..., str] = getattr(values, member)
        if at not in self._constants:
            found = self.assigned(self.text(at))
            return self.assigned(f"{found} and {member}({found})"), False
        name = values.text(self._constants[at], values.LONG)
        made = clean(name) if name is not None else None
        return self.constant(made), bool(made) and not is_reserved(made or "")

    def _member(self, at: str, make: Callable[[Any], str | msgspec.UnsetType], most: int) -> str:
        if at in self._constants:
            return self.constant(make(self._constants[at]))
        usual = f"type({at}) is str and 0 < len({at}) <= {most}"
        return f"UNSET if {at} is None else {at} if {usual} else {make.__name__}({at})"

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
        rest = map(values.short, map(members.get, ("type", "id", "name")))
        found.append(Target(urn, *rest))
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
            "stripped_address", "outcome_member", "severity_member", "time_member",
            "target_members", "text", "category", "action", "tenant", "segment", "segments",
            "cut_urn",
        )
    },
    "values_at": values_at, "value_at": value_at, "inside": _inside, "joined": _joined,
    "listed": _listed, "made_targets": _made_targets, "distinct": _distinct,
    "is_reserved": is_reserved, "Refused": Refused, "UNSET": UNSET, "Members": Members,
    "Target": Target, "OUTCOMES": frozenset(OUTCOMES), "SEVERITIES": values.SEVERITY_OF_OUTCOME,
}  # fmt: skip
