"""Compiler of definitions: one Python function per source that fills the members of an event.

A definition is fixed and records are many, so what can be decided once is: the function has no loop
over members and no walk over paths, each prefix of a path is looked up once, and tables are
dictionaries. Only names that this module makes stand in its text; everything of the definition is
passed to it as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gateway.event import Actor, Members, Request, Source
from gateway.filters.scope import RESERVED
from gateway.ingest.mapping import values
from gateway.ingest.mapping.code import Code, Options
from gateway.ingest.mapping.definition import (
    GROUPS,
    TARGET,
    ConstantValue,
    FunctionCall,
    OptionalPart,
    Origin,
    SourceDefinition,
    TargetValue,
    Template,
    TemplateField,
    Value,
)
from gateway.ingest.mapping.path import Condition, Item, Member, Path
from gateway.ingest.mapping.value_table import Listener, ValueTable

# Fills the members of a record's event, `data` and a missing id aside; `tenant` is for records that
# name none. Raises `Refused`.
Fill = Callable[[dict[str, Any], str], Members]
Test = Callable[[dict[str, Any]], bool]
# Functions of ours, by name: of the record and the options.
Functions = Mapping[str, Callable[[dict[str, Any], Options], Any]]
_TYPES = {"actor": Actor, "source": Source, "request": Request}
# Items of a list of which targets are made; events have few.
_MOST_ITEMS = 1000


def compile_fill(
    definition: SourceDefinition,
    functions: Functions,
    options: Options,
    unknown: Listener = lambda member, value: None,
) -> Fill:
    """The function that fills the members of events of this source.

    `options` are the values of paths such as `$cluster`. The members of records have names in
    lower case if the definition ignores case.
    """
    fill: Fill = _Compiler(definition, functions, options, unknown).fill()
    return fill


def compile_test(condition: Condition, ignore_case: bool = False) -> Test:
    """The function that says whether a record fulfils the condition."""
    code = Code(False, ignore_case, {})
    choices = " or ".join(
        "(" + " and ".join(code.term(term) for term in terms) + ")" for terms in condition
    )
    code.line(f"return {choices or 'True'}")
    test: Test = code.function("record")
    return test


class _Compiler:
    def __init__(
        self,
        definition: SourceDefinition,
        functions: Functions,
        options: Options,
        unknown: Listener,
    ) -> None:
        self._definition = definition
        self._functions = functions
        self._options = options
        self._unknown = unknown
        self._code = self._new_code()
        # The target that was made last, unless it is one of each item of a list.
        self._alone = ""

    def _new_code(self) -> Code:
        definition = self._definition
        code = Code(definition.loose, definition.ignore_case, self._options)
        code.names["options"] = self._options
        return code

    def fill(self) -> Fill:
        code, members = self._code, self._definition.members
        found = self._value("outcome")
        self._tell_unknown("outcome", found)
        outcome = code.assigned(code.outcome(found))
        self._tell_no_outcome(found, outcome)
        fields = {
            "id": code.id(self._value("id")),
            "time": self._time(),
            "tenant": self._tenant(),
            "category": self._dotted("category"),
            "action": self._dotted("action"),
            "outcome": outcome,
            "severity": code.severity(self._value("severity"), outcome),
            **{group: self._group(group, names) for group, names in GROUPS.items()},
            "targets": self._targets(),
        }
        if "reason" in members:
            fields["reason"] = code.long(self._value("reason"))
        arguments = ", ".join(f"{name}={expression}" for name, expression in fields.items())
        code.line(f"return Members({arguments})")
        fill: Fill = code.function("record, default_tenant")
        return fill

    # Values

    def _value(self, member: str) -> str:
        value = self._definition.members.get(member)
        return "None" if value is None else self._of(value, member)

    def _tell_unknown(self, member: str, found: str) -> None:
        """Tell the listener of what was there, where none of several tables knew it."""
        value = self._definition.members.get(member)
        places = [
            self._code.place(origin)
            for nested in (value.origins if value is not None else ())
            if isinstance(nested, Value)
            for origin in nested.origins
            if isinstance(origin, Path)
        ]
        if places:
            told = self._code.name(partial(_tell, self._unknown, member), "f")
            self._code.line(f"if {found} is None: {told}(({', '.join(places)},))")

    def _tell_no_outcome(self, found: str, outcome: str) -> None:
        """Tell the listener of a value that is taken as it is, and is no outcome."""
        value = self._definition.members.get("outcome")
        if value is not None and value.table is None:
            told = self._code.name(partial(_tell, self._unknown, "outcome"), "f")
            wrong = f"{outcome} == 'unknown' and {found} not in (None, '', 'unknown', 'UNKNOWN')"
            self._code.line(f"if {wrong}: {told}(({found},))")

    def _of(self, value: Value, member: str, urn: bool = False, nested: bool = False) -> str:
        """Variable or constant that holds a value, None if it is missing."""
        code = self._code
        if value.table is None and len(value.origins) == 1 and value.convert is None:
            return self._origin(value.origins[0], member, urn)
        found = code.assigned(self._origin(value.origins[0], member, urn))
        for origin in value.origins[1:]:
            other = self._origin(origin, member, urn)
            code.line(f"if {found} is None or {found} == '': {found} = {other}")
        if value.convert is not None:
            convert = code.name(values.CONVERSIONS[value.convert], "f")
            code.line(f"{found} = {convert}({found})")
        if value.table is not None:
            unknown = None if nested else self._unknown
            code.line(f"{found} = {code.looked_up(found, ValueTable(member, value, unknown))}")
        return found

    def _origin(self, origin: Origin, member: str, urn: bool = False) -> str:
        code = self._code
        if isinstance(origin, Path):
            return code.place(origin)
        if isinstance(origin, Value):
            return self._of(origin, member, urn, nested=True)
        if isinstance(origin, ConstantValue):
            return code.constant(origin.value)
        if isinstance(origin, Template):
            return self._template(origin, urn)
        if isinstance(origin, FunctionCall):
            return code.assigned(f"{code.name(self._functions[origin.name], 'f')}(record, options)")
        between = code.name(origin.between, "c")
        parts = ", ".join(f"listed({code.place(path)}, {path.is_many})" for path in origin.paths)
        return code.assigned(f"joined({between}, ({parts},))")

    def _template(self, template: Template, urn: bool) -> str:
        parts, missing = self._parts(template.parts, urn)
        text = " + ".join(parts) or "''"
        if missing:
            text = f"None if {' or '.join(missing)} else {text}"
        return self._code.assigned(text)

    def _parts(
        self, parts: tuple[str | TemplateField | OptionalPart, ...], urn: bool
    ) -> tuple[list[str], list[str]]:
        """Expressions of the parts of a template, and the conditions on which one is missing."""
        code = self._code
        texts, missing = [], []
        for part in parts:
            if isinstance(part, str):
                texts.append(code.name(part, "c"))
            elif isinstance(part, OptionalPart):
                inner, lacking = self._parts(part.parts, urn)
                text = " + ".join(inner)
                if lacking:
                    text = f"'' if {' or '.join(lacking)} else {text}"
                texts.append(code.assigned(text))
            else:
                found = self._field(part)
                missing.append(f"{found} is None")
                escape = "segments" if part.whole else "segment"
                texts.append(f"{escape}({found})" if urn else found)
        return texts, missing

    def _field(self, field: TemplateField) -> str:
        code = self._code
        places = [
            code.constant(part) if isinstance(part, str) else code.text(code.place(part))
            for part in field.alternatives
        ]
        found = code.assigned(places[0])
        for place in places[1:]:
            code.line(f"if {found} is None: {found} = {place}")
        if field.convert is not None:
            code.line(f"{found} = {code.name(values.CONVERSIONS[field.convert], 'f')}({found})")
        return found

    # Members

    def _time(self) -> str:
        value = self._definition.members.get("time")
        if value is None:
            return "UNSET"
        choices = ""
        for origin in value.origins:
            at, name = self._origin(origin, "time"), self._code.name(_shown(origin), "c")
            choices += f"time_member({name}, {at}) if {at} is not None and {at} != '' else "
        return f"{choices}UNSET"

    def _tenant(self) -> str:
        if "tenant" not in self._definition.members:
            return "default_tenant"
        code = self._code
        found = code.assigned(code.text(self._value("tenant")))
        code.line(f"{found} = {found} and tenant({found}) or default_tenant")
        self._refuse(f"{found} == {RESERVED!r}", "tenant", f"`{RESERVED}` is reserved")
        return found

    def _dotted(self, member: str) -> str:
        code = self._code
        found, is_good = code.cleaned(self._value(member), member)
        if is_good:
            return found
        value = self._definition.members[member]
        name = _shown(value.origins[0])
        self._refuse(f"not {found}", name, f"the record has none, which makes the event's {member}")
        if member == "category":
            self._refuse(
                f"{found}.startswith({RESERVED!r}) and is_reserved({found})",
                name,
                f"`{RESERVED}` is reserved",
            )
        return found

    def _refuse(self, condition: str, path: str, reason: str) -> None:
        error = self._code.name((path, reason), "e")
        self._code.line(f"if {condition}: raise Refused(*{error})")

    def _group(self, group: str, names: tuple[str, ...]) -> str:
        code = self._code
        used = [name for name in names if f"{group}.{name}" in self._definition.members]
        if not used:
            return "UNSET"
        found = {}
        for name in used:
            member = f"{group}.{name}"
            found[name] = code.assigned(self._final(member, self._value(member)))
        missing = " and ".join(f"{variable} is UNSET" for variable in found.values())
        kind = code.name(_TYPES[group], "g")
        arguments = ", ".join(f"{name}={variable}" for name, variable in found.items())
        return code.assigned(f"UNSET if {missing} else {kind}({arguments})")

    def _final(self, member: str, value: str) -> str:
        if member == "source.port":
            return f"port_member({value})"
        if member == "source.ip":
            return self._code.ip(value)
        make = self._code.long if member == "source.user_agent" else self._code.short
        return make(value)

    # Targets

    def _targets(self) -> str:
        code = self._code
        native = self._definition.native_targets
        if native is not None:
            return code.assigned(f"target_members({self._of(native, 'targets')}) or UNSET")
        parts = [self._target(target) for target in self._definition.targets]
        if not parts:
            return "UNSET"
        if parts == [f"[{self._alone}]"]:
            return f"UNSET if {self._alone} is None else {parts[0]}"
        return f"distinct(({', '.join(parts)},)) or UNSET"

    def _target(self, target: TargetValue) -> str:
        """Expression of the list of targets that a declaration makes."""
        code = self._code
        if target.function is not None:
            function = code.name(self._functions[target.function], "f")
            return code.assigned(f"made_targets({function}(record, options))")
        if target.each is None:
            self._alone = self._one_target(target)
            return f"[{self._alone}]"
        self._code = self._new_code()
        self._code.line(f"return {self._one_target(target)}")
        function = code.name(self._code.function("record, item"), "f")
        self._code = code
        at = code.place(target.each)
        return code.assigned(f"[{function}(record, item) for item in {at}[:{_MOST_ITEMS}]]")

    def _one_target(self, target: TargetValue) -> str:
        found = {}
        for name in TARGET:
            if name in target.members:
                value = target.members[name]
                if name == "urn":
                    found[name] = self._urn(value)
                else:
                    at = self._of(value, f"targets.{name}")
                    found[name] = self._code.assigned(self._code.short(at))
        arguments = ", ".join(f"{name}={variable}" for name, variable in found.items())
        made = f"Target({arguments})"
        needed = [found["urn"]] if "urn" in found else list(found.values())
        missing = " and ".join(f"{variable} is UNSET" for variable in needed) or "True"
        return self._code.assigned(f"None if {missing} else {made}")

    def _urn(self, value: Value) -> str:
        code = self._code
        found = code.assigned("UNSET")
        for origin in value.origins:
            other = self._origin(origin, "urn", True)
            if isinstance(origin, Template):
                fits = f"{other} if len({other}) <= {values.LONG} else cut_urn({other})"
                made = f"UNSET if {other} is None else {fits}"
            else:
                made = code.urn(other)
            if origin is value.origins[0]:
                code.line(f"{found} = {made}")
            else:
                code.line(f"if {found} is UNSET: {found} = {made}")
        return found


def _shown(origin: Origin) -> str:
    """The path of a record's member, for refusals."""
    if not isinstance(origin, Path):
        return ""
    text = ""
    for step in origin.steps:
        if isinstance(step, Member):
            text += f".{step.name}"
        elif isinstance(step, Item):
            text += f"[{step.place}]"
    return text.removeprefix(".")


def _tell(unknown: Listener, member: str, found: tuple[Any, ...]) -> None:
    for value in found:
        if text := values.plain_text(value):
            unknown(member, text[: values.SHORT])
            return
