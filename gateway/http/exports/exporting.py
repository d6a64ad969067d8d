"""Beginning of an export, and its record, by which a file that is found later can be traced."""

from __future__ import annotations

import json
from functools import partial

from gateway.access.usage.access import EXPORTED, ExportedFile
from gateway.http.connection.stream_connection import StreamConnection
from gateway.http.exports.export_sink import ExportSink
from gateway.http.query.position import Begin
from gateway.http.request.context import Context
from gateway.http.response.export_plan import ExportPlan, attachment
from gateway.oversight.access_log.access_log import use_of_stream
from gateway.wire.framing import CLIENT_GONE


def export_headers(
    plan: ExportPlan, key_id: str, between: tuple[str, str], begin: Begin
) -> list[str]:
    """Headers of an export between two cursors; those of a body that has no place for what is said
    at its begin, too."""
    made = [f"Content-Disposition: {attachment(key_id, *between, plan.suffix)}"]
    if not plan.says_end:
        said = {"Gap": begin.gap, "Notice": begin.notice}
        made += [f"Audit-{name}: {json.dumps(one)}" for name, one in said.items() if one]
    return made


def export_sink(
    context: Context, connection: StreamConnection, plan: ExportPlan, key_id: str
) -> ExportSink:
    """Sink of an export, whose end is recorded."""
    in_thread = context.work.slices(key_id).in_thread
    return ExportSink(connection, plan, in_thread, context.tasks, partial(_log, context))


def _log(context: Context, sink: ExportSink) -> None:
    """Log what an export has sent, beside the end of its stream."""
    subscription = sink.subscription
    opened = None if subscription is None else subscription.opened
    if subscription is None or opened is None:
        return
    end, access = subscription.end, use_of_stream(subscription, opened, context.clock.now())
    access.action = EXPORTED
    if not sink.complete:
        access.outcome, access.reason = "failure", CLIENT_GONE if end is None else end.reason
    # Not of an action: that of the stream counts as its use.
    access.route = opened.route
    # The record of the stream has them for detection.
    access.counted = access.events
    access.export = ExportedFile(
        subscription.first, subscription.last, sink.size, sink.digest, sink.complete
    )
    context.access_log.log(access)
