"""Traces of a running process: off, unless the settings name a receiver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.clock import Clock
from gateway.errors import InvalidSetting
from gateway.settings.metrics import TraceSettings
from gateway.tasks import Tasks, stop
from gateway.tracing import spans as tracing


@asynccontextmanager
async def traces_of(
    settings: TraceSettings, instance: str, clock: Clock, tasks: Tasks
) -> AsyncIterator[None]:
    """Trace this process while the block runs. Raises `InvalidSetting` without the SDK."""
    if not settings.endpoint:
        yield
        return
    try:
        # Imported here: most gateways have no traces, and need no library for them.
        from gateway.telemetry.otel import OtelTracer, encoded
        from gateway.telemetry.span_sender import SpanSender
    except ImportError as error:
        raise InvalidSetting(
            f"traces.endpoint: the package audit-gateway[otel] is not installed ({error.name})",
            setting="traces.endpoint",
        ) from None
    sender = SpanSender(settings.endpoint, encoded, clock)
    sending = tasks.keep("traces", sender.run)
    tracing.install(OtelTracer(sender.put, instance, settings.sample))
    try:
        yield
    finally:
        tracing.install(None)
        await stop([sending])
        await sender.close()
