"""Spans of distributed traces, as those parts know them that are traced.

A tracer is installed by `gateway.telemetry` where traces are wanted; without one a span costs a
look at a variable. Spans never hold content of events, keys or text of queries.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Literal, Protocol

# How a span stands to the outside: an answer, a request to others, or neither.
SpanKind = Literal["server", "client"]
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class TracedSpan(Protocol):
    """Span under way."""

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute."""

    def fail(self, kind: str) -> None:
        """Note that what it is about failed, and by which of a few kinds of errors."""


class Tracer(Protocol):
    """What makes spans."""

    def begin(
        self, name: str, kind: SpanKind, traceparent: str
    ) -> AbstractContextManager[TracedSpan]:
        """Span of its own trace, or of that of a `traceparent` header. It is the current one within
        the block, for the task and those that it starts."""

    def within(self, name: str) -> AbstractContextManager[TracedSpan]:
        """Span below the current one; none is made where none is current."""

    def headers(self) -> Mapping[str, str]:
        """Headers of a request to others, by which its receiver joins the current trace."""


class _NoSpan:
    """What is there instead of a span."""

    def __enter__(self) -> _NoSpan:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, name: str, value: str | int) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass


NO_SPAN = _NoSpan()
_installed: Tracer | None = None


def install(tracer: Tracer | None) -> None:
    """Have a tracer make the spans of this process, or none."""
    global _installed
    _installed = tracer


def begin(name: str, kind: SpanKind, traceparent: str = "") -> AbstractContextManager[TracedSpan]:
    """Span of a trace of its own, or of the one that a `traceparent` names."""
    return NO_SPAN if _installed is None else _installed.begin(name, kind, traceparent)


def within(name: str) -> AbstractContextManager[TracedSpan]:
    """Span below the current one, where there is one."""
    return NO_SPAN if _installed is None else _installed.within(name)


def headers() -> Mapping[str, str]:
    """Headers that carry the current trace to others."""
    return _NO_HEADERS if _installed is None else _installed.headers()
