"""Metrics of all processes of this gateway.

Each worker writes its metrics into a row of shared memory, about once a second and at each scrape
of itself. So any worker can answer for all, and the death of one loses a second at most.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from gateway.delivery.running.meter import DestinationNumbers
from gateway.http.metrics.declarations import HISTOGRAMS, LABELLED, METRICS, WORKER_METRICS
from gateway.http.request.context import Context
from gateway.oversight.consumer_watch import ConsumerNumbers

_BYTES = 8
# Most names of tasks, and bytes of each.
_MOST_TASKS = 56
_NAME_BYTES = 32
_TASKS_BYTES = _MOST_TASKS * (_NAME_BYTES + _BYTES)


def _cells(context: Context) -> Iterator[float]:
    """Values of this process, in the order of the declarations."""
    for metric in METRICS:
        yield metric.of(context)
    for of_worker in WORKER_METRICS:
        yield of_worker.of(context)
    for labelled in LABELLED:
        yield from labelled.of(context)
    for histogram in HISTOGRAMS:
        for one in histogram.of(context):
            yield from one.cells


# Values that continue from those of an earlier worker.
_COUNTERS = (
    *(metric.kind == "counter" for metric in METRICS),
    *(False for _ in WORKER_METRICS),
    *(labelled.kind == "counter" for labelled in LABELLED for _ in labelled.values),
    *(True for histogram in HISTOGRAMS for _ in range(histogram.width * len(histogram.values))),
)


class _TaskErrors:
    """Internal errors of one worker by the name of the task, in shared memory."""

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
        # Names are only appended, so that a concurrent reader is not misled.
        places = {name: place for place, name in enumerate(self.read())}
        for name, count in errors.items():
            place = places.setdefault(name, len(places))
            if place < _MOST_TASKS:
                self._counts[place] = count
                first = place * _NAME_BYTES
                whole = name.encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
                self._names[first : first + _NAME_BYTES] = whole


class Metrics:
    """Metrics of a number of workers, created before they are forked."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        memory = mmap.mmap(-1, workers * len(_COUNTERS) * _BYTES)
        self._values = memoryview(memory).cast("d")
        tasks = memoryview(mmap.mmap(-1, workers * _TASKS_BYTES))
        self._tasks = [
            _TaskErrors(tasks[number * _TASKS_BYTES : (number + 1) * _TASKS_BYTES])
            for number in range(workers)
        ]
        self._worker = self._first = 0
        self._before = [0.0] * len(_COUNTERS)
        self._errors_before: dict[str, int] = {}

    def begin(self, worker: int) -> None:
        """Become a worker; its counters continue from those of an earlier one."""
        self._worker, self._first = worker, worker * len(_COUNTERS)
        self._errors_before = self._tasks[worker].read()
        self._before = [
            value if counts else 0.0
            for counts, value in zip(_COUNTERS, self._row(worker), strict=True)
        ]

    def end(self, worker: int) -> None:
        """Reset the gauges of a worker that ended."""
        for column, counts in enumerate(_COUNTERS):
            if not counts:
                self._values[worker * len(_COUNTERS) + column] = 0.0

    def update(self, context: Context) -> None:
        """Write the metrics of this process into its row."""
        for column, value in enumerate(_cells(context)):
            self._values[self._first + column] = self._before[column] + value
        before = self._errors_before
        self._tasks[self._worker].write(
            {name: before.get(name, 0) + count for name, count in context.tasks.errors.items()}
        )

    def exposition(
        self,
        kind: str,
        consumers: Sequence[ConsumerNumbers] = (),
        destinations: Sequence[DestinationNumbers] = (),
    ) -> tuple[bytes, str]:
        """All metrics in the format of a media type, and that type in full. May run on a thread."""
        # Loaded at the first scrape: neither the commands nor the start wait for it.
        from gateway.http.metrics.exposition import exposition

        errors: Counter[str] = Counter()
        for tasks in self._tasks:
            errors.update(tasks.read())
        return exposition(self.rows(), errors, consumers, destinations, kind)

    def rows(self) -> list[Sequence[float]]:
        """Values of each worker, in the order of the declarations."""
        return [self._row(worker) for worker in range(self._workers)]

    def _row(self, worker: int) -> Sequence[float]:
        first = worker * len(_COUNTERS)
        return self._values[first : first + len(_COUNTERS)].tolist()
