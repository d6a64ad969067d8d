"""Strategies: filter expressions of the subset, well typed, and events to try them on.

What Google's library and these filters treat differently on purpose is not generated:
an int and a double that meet in arithmetic, numbers of different types compared where both types
are known, doubles next to integers beyond 2^53, int() of a dynamic bool (which cel-cpp allows),
strings of doubles with exponents, and durations and differences of more than 292 years.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import strategies as st

WORDS = ["", "a", "b", "ab", "denied", "success", "u1", "é", "😀", "k8s:prod/web", 'q"\\\n']
INTS = [0, 1, -1, 2, 3, 7, -7, 100, 2**63 - 1, -(2**63), 2**53 + 1]
UINTS = [0, 1, 2, 7, 2**64 - 1]
DOUBLES = [0.0, -0.0, 0.5, 1.0, 2.0, -2.25, 1e300]
TIMES = ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000001Z", "2025-06-01T00:00:00.250+02:00"]
DURATIONS = ["0", "1s", "1.5h", "-2m30s", "1h1ms", "3us7ns"]
PATTERNS = ["a", "^a", "b$", "^(a|b)+$", "[^a-z]", "k8s:.*/web", r"\d", ""]

_pick = st.sampled_from


def quoted(text: str) -> str:
    """A string literal of CEL."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


class _Grammar:
    """Draws text of a type; `depth` is how much deeper it may nest."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.variables: list[tuple[str, str]] = []  # (name, "target" | "item" | "key")

    def pick(self, *options: Any) -> Any:
        return self.draw(_pick(options))

    def rule(self, kind: str, depth: int) -> str:
        return str(getattr(self, kind)(depth))

    def bool(self, depth: int) -> str:
        if depth <= 0:
            return str(self.pick("data.b", "true", "false", "data.m.b", self.relation(0)))
        shape = self.pick("relation", "relation", "logic", "logic", "not", "choice", "quantifier")
        return str(getattr(self, shape)(depth - 1))

    def logic(self, depth: int) -> str:
        sign = self.pick("&&", "||")
        parts = [self.bool(depth) for _ in range(self.pick(2, 2, 3))]
        return "(" + f" {sign} ".join(parts) + ")"

    def negation(self, depth: int) -> str:
        return f"!({self.bool(depth)})"

    def choice(self, depth: int) -> str:
        return f"({self.bool(depth)} ? {self.bool(depth)} : {self.bool(depth)})"

    def quantifier(self, depth: int) -> str:
        over, kind = self.pick(
            ("targets", "target"),
            ("data.l", "item"),
            ("data.m", "key"),
            ("data", "key"),
            ("data.x", "item"),
            ("actor", "key"),
        )
        name = self.pick("t", "u")
        macro = self.pick("exists", "all", "exists_one")
        self.variables.append((name, kind))
        body = self.bool(depth)
        self.variables.pop()
        return f"{over}.{macro}({name}, {body})"

    def relation(self, depth: int) -> str:
        kind = self.pick("int", "uint", "double", "string", "dyn", "timestamp", "duration", "test")
        if kind == "test":
            return self.test(depth)
        left, right = self.rule(kind, depth), self.rule(kind, depth)
        if kind != "dyn" and self.pick(True, False, False):
            left, right = self.pick((left, self.dyn(depth)), (self.dyn(depth), right))
        signs = ["==", "!=", "<", "<=", ">", ">="]
        return f"{left} {self.pick(*signs)} {right}"

    def test(self, depth: int) -> str:
        shape = self.pick("in", "in", "string", "has", "null", "lists", "bools")
        if shape == "in":
            kind = self.pick("string", "int", "dyn")
            items = [self.rule(kind, 0) for _ in range(self.pick(0, 1, 3))]
            over = self.pick("[" + ", ".join(items) + "]", "data.l", "data.m", "data.x")
            item = self.rule(self.pick(kind, kind, "dyn"), depth)
            if kind == "int" and over in ("data.m",):
                item = self.dyn(depth)
            return f"{item} in {over}"
        if shape == "string":
            text = self.pick(self.string(depth), self.dyn(depth))
            function = self.pick("startsWith", "endsWith", "contains", "matches")
            if function == "matches":
                return f"{text}.matches({quoted(self.pick(*PATTERNS))})"
            return f"{text}.{function}({self.string(0)})"
        if shape == "has":
            paths = ["actor.id", "actor.name", "data.i", "data.nope", "data.m.b", "data.x.y.z"]
            paths += ["source.port", "request.id", "targets[0].urn", "targets[7].urn", "data.s.t"]
            paths += [f"{name}.type" for name, kind in self.variables if kind == "target"]
            return f"has({self.pick(*paths)})"
        if shape == "null":
            return f"{self.dyn(depth)} {self.pick('==', '!=')} null"
        if shape == "lists":
            one = self.pick("data.l", "data.m", "data.x", "[data.i, data.s]", "[1, 2]", "[data.l]")
            return f"{one} {self.pick('==', '!=')} {self.pick('data.l', 'data.x', 'data.m')}"
        return f"({self.bool(depth)}) {self.pick('==', '!=', '<')} ({self.bool(depth)})"

    def dyn(self, depth: int) -> str:
        options = ["data.i", "data.f", "data.s", "data.b", "data.n", "data.x", "data.nope"]
        options += ["data.m.b", "data.m.c", "data.l[0]", "data.l[2]", "data.l[1.0]", "data.x.y"]
        options += ["data.a", 'data["s"]', "data.m[data.s]", f"data.l[{self.int(0)}]"]
        options += ["data.l[data.f]", "data[tenant]", "data.x[0].y"]
        options += [name for name, kind in self.variables if kind == "item"]
        options += [f"data.m[{name}]" for name, kind in self.variables if kind == "key"]
        return str(self.pick(*options))

    def int(self, depth: int) -> str:
        options = [str(self.pick(*INTS)), "severity", "data.i", "data.j", "source.port"]
        if depth > 0:
            left, right = self.int(depth - 1), self.int(depth - 1)
            options += [f"({left} {self.pick('+', '-', '*', '/', '%')} {right})"] * 2
            options += [f"-({left})", f"size({self.pick('data.l', 'targets', 'data.s', 'data')})"]
            options += [f"int({self.pick(quoted('12'), 'data.s', '-1.75', 'data.f', '7u')})"]
            options += [f"{self.string(depth - 1)}.size()", f"int({self.timestamp(0)})"]
            options += [f"({self.bool(0)} ? {left} : {right})"]
        return str(self.pick(*options))

    def uint(self, depth: int) -> str:
        options = [f"{self.pick(*UINTS)}u", "uint(data.i)", "uint(2.5)", 'uint("7")']
        if depth > 0:
            left, right = self.uint(depth - 1), self.uint(depth - 1)
            options += [f"({left} {self.pick('+', '-', '*', '/', '%')} {right})"]
        return str(self.pick(*options))

    def double(self, depth: int) -> str:
        options = [repr(self.pick(*DOUBLES)), "data.f", "data.g", "double(severity)"]
        if depth > 0:
            left, right = self.double(depth - 1), self.double(depth - 1)
            options += [f"({left} {self.pick('+', '-', '*', '/')} {right})", f"-({left})"]
            options += [f"double({self.pick('data.i', 'data.s', quoted('1.5e3'))})"]
        return str(self.pick(*options))

    def string(self, depth: int) -> str:
        options = [quoted(self.pick(*WORDS)), "tenant", "outcome", "actor.id", "reason", "data.s"]
        options += [f"{name}.urn" for name, kind in self.variables if kind == "target"]
        options += [name for name, kind in self.variables if kind == "key"]
        options += ["targets[0].urn", "targets[1].type", 'actor["name"]']
        if depth > 0:
            options += [f"({self.string(depth - 1)} + {self.string(depth - 1)})"]
            source = self.pick(self.int(0), "true", "data.b", "data.s", "0.5", self.timestamp(0))
            options += [f"string({source})", f"string({self.duration(0)})"]
            options += [f"({self.bool(0)} ? {self.string(0)} : {self.string(0)})"]
        return str(self.pick(*options))

    def timestamp(self, depth: int) -> str:
        source = self.pick(quoted(self.pick(*TIMES)), "time", "data.t", "data.s")
        options = [f"timestamp({source})", "timestamp(severity)"]
        if depth > 0:
            sign = self.pick("+", "-")
            options += [f"({self.timestamp(depth - 1)} {sign} {self.duration(depth - 1)})"]
        return str(self.pick(*options))

    def duration(self, depth: int) -> str:
        options = [f"duration({quoted(self.pick(*DURATIONS))})", "duration(data.d)"]
        if depth > 0:
            sign = self.pick("+", "-")
            options += [f"({self.duration(depth - 1)} {sign} {self.duration(depth - 1)})"]
            options += [f"({self.timestamp(depth - 1)} - {self.timestamp(depth - 1)})"]
        return str(self.pick(*options))


setattr(_Grammar, "not", _Grammar.negation)


@st.composite
def filters(draw: st.DrawFn, depth: int = 2) -> str:
    """The text of a filter."""
    return _Grammar(draw).bool(depth)


class _Events:
    """Makes events of every kind: members absent, of the wrong type, or as filters expect them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def some(self, **makers: Callable[[], Any]) -> dict[str, Any]:
        """An object that lacks one member in six."""
        return {name: make() for name, make in makers.items() if self.random.random() > 1 / 6}

    def mostly(self, *options: Any) -> Any:
        return (
            self.pick(None, "text", [], {}) if self.random.random() < 0.1 else self.pick(*options)
        )

    def word(self) -> Any:
        return self.pick(*WORDS)

    def words(self, *names: str) -> dict[str, Any]:
        return self.some(**dict.fromkeys(names, self.word))

    def item(self) -> Any:
        return self.pick(0, 1, -7, "a", "u1", True, None, {"y": 1}, [1])

    def items(self) -> list[Any]:
        return [self.item() for _ in range(self.random.randrange(5))]

    def data(self) -> dict[str, Any]:
        return self.some(
            i=lambda: self.mostly(*INTS),
            j=lambda: self.mostly(*INTS),
            f=lambda: self.mostly(*DOUBLES),
            g=lambda: self.mostly(*DOUBLES),
            s=lambda: self.pick(*WORDS, "12", "1.5", None, 3),
            b=lambda: self.mostly(True, False),
            n=lambda: self.pick(None, 1, False),
            t=lambda: self.mostly(*TIMES),
            d=lambda: self.mostly(*DURATIONS),
            l=lambda: self.mostly(self.items(), self.items(), "a"),
            m=lambda: self.mostly({self.pick("a", "b", "c"): self.item() for _ in range(3)}),
            x=lambda: self.pick(self.item(), self.items()),
        )

    def event(self) -> dict[str, Any]:
        required = {
            "time": self.pick(*TIMES),
            "recorded_at": self.pick(*TIMES),
            "tenant": self.pick("acme", "b", "i", "s"),
            "outcome": self.pick("success", "failure", "denied", "unknown"),
            "severity": self.pick(1, 2, 3, 4, 5, 6),
        }
        return required | self.some(
            actor=lambda: self.words("type", "id", "name", "key_id"),
            source=lambda: self.words("service", "ip") | self.some(port=lambda: 443),
            targets=lambda: [self.words("urn", "type", "id") for _ in range(self.pick(0, 1, 2, 2))],
            request=lambda: self.words("id", "trace_id"),
            category=self.word,
            action=self.word,
            reason=self.word,
            data=self.data,
        )


_events = _Events(seed=20260131)
EVENTS = [_events.event() for _ in range(500)]


def several_events(count: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """So many of `EVENTS`. They are made beforehand: drawing each would take most of the time."""
    starts = st.integers(0, len(EVENTS) - count)
    return starts.map(lambda start: EVENTS[start : start + count])
