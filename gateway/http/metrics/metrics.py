"""Metrics of all processes of this gateway together, as `/metrics` shows them.

Each worker keeps its metrics in a row of memory that they all share, and writes
them there about once a second and whenever it is asked itself. So any of them
can answer for all, and of one that dies only the last second is not counted.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from gateway.http.connection.loop_delay import WIDTH, lines_of
from gateway.http.request.context import Context


class Metric(NamedTuple):
    """A whole number that each worker has, and how all of theirs make one."""

    name: str
    kind: str
    about: str
    of: Callable[[Context], int]
    together: Callable[[Iterable[int]], int]


METRICS = (
    Metric("streams", "gauge", "Open streams.", lambda c: len(c.hub.subscriptions), sum),
    Metric("streams_opened_total", "counter", "Streams opened.",
           lambda c: c.hub.totals.opened, sum),
    Metric("streams_ended_total", "counter", "Streams ended.", lambda c: c.hub.totals.ended, sum),
    Metric("delivered_events_total", "counter", "Events written to streams.",
           lambda c: c.hub.totals.events, sum),
    Metric("delivered_bytes_total", "counter", "Bytes of events written to streams.",
           lambda c: c.hub.totals.bytes, sum),
    Metric("demotions_total", "counter", "Streams that fell behind and went on from the store.",
           lambda c: c.hub.totals.demotions, sum),
    Metric("overdue_streams", "gauge",
           "Live streams that are owed events for over 5 seconds: more than 0 is a bug.",
           lambda c: c.hub.overdue(), sum),
    Metric("recorded_uses_total", "counter", "Uses of keys, and refusals, noted for the record.",
           lambda c: c.access_log.accesses, sum),
    Metric("record_events_total", "counter", "Events of the record that are in the log.",
           lambda c: c.access_log.written, sum),
    Metric("record_waiting", "gauge", "Events of the record that are not in the log yet.",
           lambda c: c.access_log.waiting, sum),
    Metric("findings_total", "counter", "Signs of unusual activity.",
           lambda c: c.detector.findings.found, sum),
    Metric("peppers", "gauge", "Peppers that count for keys.",
           lambda c: len(c.keyring.peppers.all), min),
    Metric("peppers_coming", "gauge", "1 from `pepper add` to `pepper switch`.",
           lambda c: c.keyring.peppers.all[0].standing == "coming", max),
    Metric("limited_requests_total", "counter", "Requests that a limit answered with 429.",
           lambda c: c.limits.refusals, sum),
    Metric("filter_steps_total", "counter",
           "Steps (0.1 us) that filters with loops, searches or patterns took.",
           lambda c: c.work.totals.steps, sum),
    Metric("filter_exceeded_total", "counter",
           "Events that did not match because a filter ran out of its budget on them.",
           lambda c: c.work.totals.exceeded, sum),
    Metric("filter_left_live_total", "counter",
           "Streams that left the live group because of what their filters cost.",
           lambda c: c.work.totals.left_live, sum),
    Metric("filter_refused_total", "counter",
           "Requests refused because the filters of their key had used up their share.",
           lambda c: c.work.totals.refused, sum),
    Metric("connections", "gauge", "Open connections.", lambda c: c.connections.open, sum),
    Metric("connections_refused_total", "counter",
           "Connections and requests beyond the limits of connections.",
           lambda c: c.connections.refused, sum),
    Metric("unfinished_head_bytes", "gauge", "Bytes of URLs and headers that are not whole yet.",
           lambda c: c.connections.unfinished, sum),
    Metric("heads_refused_total", "counter", "Requests whose URL and headers were too much.",
           lambda c: c.connections.refused_heads, sum),
    Metric("bytes_in_flight", "gauge", "Bytes of bodies and pages that requests hold.",
           lambda c: c.in_flight.held, sum),
    Metric("bytes_in_flight_refused_total", "counter", "Requests that would have held too many.",
           lambda c: c.in_flight.refused, sum),
    Metric("redis_up", "gauge", "Whether Redis answers; 1 also where none is set.",
           lambda c: int(c.shared.health().up), min),
    Metric("redis_outages_total", "counter", "Times that Redis was found to be away.",
           lambda c: c.shared.health().outages, sum),
    Metric("redis_failed_calls_total", "counter", "Calls of Redis that failed or took too long.",
           lambda c: c.shared.health().failed_calls, sum),
    Metric("limits_decided_alone_total", "counter",
           "Limits that one process decided alone while Redis was away.",
           lambda c: c.shared.health().local_decisions, sum),
    Metric("limits_closed_total", "counter",
           "Requests refused while Redis was away, as limits.closed_without_redis says.",
           lambda c: c.shared.health().closed_decisions, sum),
    Metric("log_head_offset", "gauge", "Newest offset of the log.", lambda c: c.log.head, max),
    Metric("log_floor_offset", "gauge", "Newest offset deleted by retention.",
           lambda c: c.log.floor, max),
    Metric("store_away", "gauge", "1 while the store takes no events, as far as is known.",
           lambda c: c.degraded_reason is not None, max),
    Metric("id_conflicts_total", "counter",
           "Events sent under an id that another event had, and stored under one of their own.",
           lambda c: c.writer.conflicts, sum),
    Metric("followed_rows_total", "counter", "Rows of the followed table brought into the log.",
           lambda c: c.followed.rows if c.followed else 0, sum),
    Metric("followed_marked_total", "counter", "Those of them that made only a marked event.",
           lambda c: c.followed.marked if c.followed else 0, sum),
    Metric("followed_renamed_total", "counter",
           "Rows of followed tables whose id was taken, and that came under another.",
           lambda c: getattr(c.log, "renamed", 0), sum),
    Metric("followed_away", "gauge", "1 while there is a followed table that cannot be read.",
           lambda c: c.followed is not None and c.followed.degraded_reason is not None, max),
    Metric("followed_horizon_seconds", "gauge",
           "How long the newest rows of a read-only table have been waiting.",
           lambda c: int(c.followed.waits.seconds) if c.followed and c.followed.waits else 0, max),
    Metric("followed_blocking_pid", "gauge", "The process whose transaction they wait for, or 0.",
           lambda c: (c.followed.waits.pid or 0) if c.followed and c.followed.waits else 0, max),
    Metric("clock_offset_seconds", "gauge",
           "How far the wall clock is ahead of trusted time; beyond 2 it was set.",
           lambda c: round(c.clock.offset), lambda rows: max(rows, key=abs)),
    Metric("clock_steps_total", "counter", "Times that the wall clock was found to have been set.",
           lambda c: c.clock.steps, max),
    Metric("tail_lag_events", "gauge", "Events not yet handed to live streams.",
           lambda c: c.log.head - c.hub.position, max),
)  # fmt: skip
_STREAMS = 0
_BYTES = 8
# So many names of tasks have room, each of so many bytes.
_MOST_TASKS = 64
_NAME_BYTES = 32
_TASKS_BYTES = _MOST_TASKS * (_NAME_BYTES + _BYTES)


class _TaskErrors:
    """The internal errors of one worker by the name of the task, in memory that all share."""

    def __init__(self, memory: memoryview) -> None:
        self._names = memory[: _MOST_TASKS * _NAME_BYTES]
        self._counts = memory[_MOST_TASKS * _NAME_BYTES :].cast("q")

    def read(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for place in range(_MOST_TASKS):
            first = place * _NAME_BYTES
            name = bytes(self._names[first : first + _NAME_BYTES]).rstrip(b"\0")
            if not name:
                break
            found[name.decode()] = self._counts[place]
        return found

    def write(self, errors: Mapping[str, int]) -> None:
        # Names are only added, behind those that are there: whoever reads meanwhile is not misled.
        places = {name: place for place, name in enumerate(self.read())}
        for name, count in errors.items():
            place = places.setdefault(name, len(places))
            if place < _MOST_TASKS:
                self._counts[place] = count
                first = place * _NAME_BYTES
                whole = name.encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
                self._names[first : first + _NAME_BYTES] = whole


class Metrics:
    """The metrics of so many workers; made before they are forked."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        memory = mmap.mmap(-1, workers * len(METRICS) * _BYTES)
        self._cells = memoryview(memory).cast("q")
        tasks = memoryview(mmap.mmap(-1, workers * _TASKS_BYTES))
        self._tasks = [
            _TaskErrors(tasks[number * _TASKS_BYTES : (number + 1) * _TASKS_BYTES])
            for number in range(workers)
        ]
        self._delays = memoryview(mmap.mmap(-1, workers * WIDTH * _BYTES)).cast("q")
        self._delays_before = [0] * WIDTH
        self._worker = self._first = 0
        self._before = [0] * len(METRICS)
        self._errors_before: dict[str, int] = {}

    def begin(self, worker: int) -> None:
        """This process is that worker; its counters go on where those of an earlier one ended."""
        self._worker, self._first = worker, worker * len(METRICS)
        self._errors_before = self._tasks[worker].read()
        self._delays_before = self._delays_of(worker)
        row = self._row(worker)
        self._before = [
            value if metric.kind == "counter" else 0
            for metric, value in zip(METRICS, row, strict=True)
        ]

    def end(self, worker: int) -> None:
        """That worker is gone: nothing is open there any more."""
        for column, metric in enumerate(METRICS):
            if metric.kind == "gauge":
                self._cells[worker * len(METRICS) + column] = 0

    def update(self, context: Context) -> None:
        """Write the metrics of this process into its row."""
        for column, metric in enumerate(METRICS):
            self._cells[self._first + column] = self._before[column] + metric.of(context)
        for column, count in enumerate(context.loop_delay.counts):
            place = self._worker * WIDTH + column
            self._delays[place] = self._delays_before[column] + count
        before = self._errors_before
        self._tasks[self._worker].write(
            {name: before.get(name, 0) + count for name, count in context.tasks.errors.items()}
        )

    def text(self) -> str:
        """All metrics in Prometheus' text exposition format, version 0.0.4."""
        rows = [self._row(worker) for worker in range(self._workers)]
        lines: list[str] = []
        for column, metric in enumerate(METRICS):
            lines += _head(metric.name, metric.kind, metric.about)
            value = metric.together(row[column] for row in rows)
            lines.append(f"audit_gateway_{metric.name} {value}")
        lines += _head("worker_streams", "gauge", "Open streams of each worker process.")
        for worker, row in enumerate(rows):
            lines.append(f'audit_gateway_worker_streams{{worker="{worker}"}} {row[_STREAMS]}')
        about = "Unexpected exceptions by the task that they ended: each is a bug."
        lines += _head("internal_errors_total", "counter", about)
        errors: Counter[str] = Counter()
        for tasks in self._tasks:
            errors.update(tasks.read())
        for name, count in sorted(errors.items()):
            lines.append(f'audit_gateway_internal_errors_total{{task="{name}"}} {count}')
        lines += lines_of([self._delays_of(worker) for worker in range(self._workers)])
        return "\n".join([*lines, ""])

    def _delays_of(self, worker: int) -> list[int]:
        return self._delays[worker * WIDTH : (worker + 1) * WIDTH].tolist()

    def _row(self, worker: int) -> list[int]:
        first = worker * len(METRICS)
        return self._cells[first : first + len(METRICS)].tolist()


def _head(name: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP audit_gateway_{name} {about}", f"# TYPE audit_gateway_{name} {kind}"
