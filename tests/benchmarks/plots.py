"""The results as pictures; needs the extra `bench` (matplotlib)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

Results = dict[str, list[dict[str, Any]]]


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the PNG files that the results allow. Raises `ImportError` without matplotlib."""
    matplotlib = importlib.import_module("matplotlib")  # optional, and slow to import
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    good = {name: [one for one in found if "failed" not in one] for name, found in results.items()}
    written = []
    for name, paint in _PICTURES.items():
        if not good.get(name):
            continue
        figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
        paint(axes, good[name])
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
        written.append(path)
    return written


def _fanout(axes: Any, found: list[dict[str, Any]]) -> None:
    """p99 over deliveries per second, a line for every search."""
    for one in found:
        steps = sorted(one["steps"], key=lambda step: float(step["rate_asked"]))
        axes.plot(
            [step["deliveries_per_second"] for step in steps],
            [step["p99_ms"] for step in steps],
            marker="." if one["mode"] == "ws" else "x",
            label=f"{one['target']} {one['mode']} {one['subscribers']}, {one['way']}",
        )
    axes.axhline(100, color="grey", linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="deliveries per second", ylabel="p99, ms")
    axes.set_title("Fan-out: append to receive")
    axes.legend(fontsize="x-small", ncols=2)


def _bars(axes: Any, labels: list[str], values: list[float], title: str, unit: str) -> None:
    bars = axes.barh(labels, values)
    axes.bar_label(bars, fmt="{:,.4g}", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.margins(x=0.15)


def _moderate(axes: Any, found: list[dict[str, Any]]) -> None:
    labels = [f"{one['target']} {one['mode']}" for one in found]
    values = [one["median"]["server_cpu_us_per_delivery"] for one in found]
    _bars(axes, labels, values, "20 events/s: server CPU per delivery", "microseconds")


def _memory(axes: Any, found: list[dict[str, Any]]) -> None:
    labels = [f"{one['target']} {one['mode']}" for one in found]
    values = [one["bytes_each"] / 1024 for one in found]
    _bars(axes, labels, values, "Resident memory per idle connection", "KiB")


def _filters(axes: Any, found: list[dict[str, Any]]) -> None:
    labels = [f"{one['kind']}, {one['streams']}" for one in found]
    values = [one["median"]["server_cpu_us_per_event"] / 1000 for one in found]
    _bars(axes, labels, values, "Server CPU per event over distinct streams", "milliseconds")
    axes.set_xscale("log")


def _catchup(axes: Any, found: list[dict[str, Any]]) -> None:
    reads = [read for one in found for read in one["reads"]]
    labels = [f"{r['readers']} readers{', 1 %' if r['filtered'] else ''}" for r in reads]
    values = [read["log"] * read["readers"] / read["seconds"] for read in reads]
    _bars(axes, labels, values, "Catch-up: events of the log passed", "events per second")


def _ingest(axes: Any, found: list[dict[str, Any]]) -> None:
    ways = [(one["target"], way) for one in found for way in one["ways"]]
    labels = [f"{target}: {way['came_in']}" for target, way in ways]
    values = [way["median"]["events_per_second"] for _, way in ways]
    _bars(axes, labels, values, "Ingest", "events per second")


def _mixed(axes: Any, found: list[dict[str, Any]]) -> None:
    labels = [f"{name} stalled and catching-up readers" for name in ("without", "with")]
    values = [found[0][name]["p99_ms"] for name in ("without", "with")]
    _bars(axes, labels, values, "Live p99", "milliseconds")


_PICTURES = {
    "fanout": _fanout,
    "moderate": _moderate,
    "memory": _memory,
    "filters": _filters,
    "catchup": _catchup,
    "ingest": _ingest,
    "mixed": _mixed,
}
