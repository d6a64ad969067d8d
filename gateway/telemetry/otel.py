"""Tracer over the SDK of OpenTelemetry, which is imported where traces are wanted only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.tracing.spans import NO_SPAN, SpanKind, TracedSpan

_NAME = "audit-gateway"
_PARENT = "traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()
_KINDS = {"server": trace.SpanKind.SERVER, "client": trace.SpanKind.CLIENT}


class OtelTracer:
    """Implements `gateway.tracing.spans.Tracer`. `ended` is called with each span that has ended;
    `instance` is the name of the process, `percent` the share of new traces that are kept."""

    def __init__(self, ended: Callable[[ReadableSpan], None], instance: str, percent: int) -> None:
        resource = Resource({
            "service.name": _NAME, "service.version": __version__, "service.instance.id": instance,
        })  # fmt: skip
        sampler = ParentBased(TraceIdRatioBased(percent / 100))
        provider = TracerProvider(sampler, resource, shutdown_on_exit=False)
        provider.add_span_processor(_Ended(ended))
        self._tracer = provider.get_tracer(_NAME, __version__)

    def begin(self, name: str, kind: SpanKind, traceparent: str) -> _CurrentSpan:
        parent = Context()
        if traceparent:
            # Without `tracestate`, which would go on to receivers that its sender does not know.
            parent = _PROPAGATOR.extract({_PARENT: traceparent}, parent)
        return _CurrentSpan(self._tracer.start_span(name, parent, _KINDS[kind]))

    def within(self, name: str) -> AbstractContextManager[TracedSpan]:
        # Of a trace that is not kept nothing is; nor below a span that has ended, which tasks that
        # it has started still know.
        if not trace.get_current_span().is_recording():
            return NO_SPAN
        return _CurrentSpan(self._tracer.start_span(name))

    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return {_PARENT: carrier[_PARENT]} if _PARENT in carrier else {}


class _CurrentSpan:
    """Span that is the current one within the block, and ends with it."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span

    def __enter__(self) -> TracedSpan:
        self._token = contexts.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        contexts.detach(self._token)
        if kind is not None:
            # Never its text, which may quote what was sent.
            self.fail(kind.__name__)
        self._span.end()

    def set(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def fail(self, kind: str) -> None:
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))


class _Ended(SpanProcessor):
    """Passes spans on that are kept."""

    def __init__(self, ended: Callable[[ReadableSpan], None]) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._ended(span)


def encoded(spans: list[ReadableSpan]) -> bytes:
    """Spans as a request of OTLP. Such requests one behind the other are one with all spans."""
    body: bytes = encode_spans(spans).SerializeToString()
    return body
