"""The table: what was measured, beside the goals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.filters import FEW
from tests.benchmarks.machine import cores, serving_cores

Results = dict[str, list[dict[str, Any]]]
AT_LEAST, AT_MOST = ">=", "<="


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Without a `goal` it only informs."""

    what: str
    value: float
    unit: str = ""
    relation: str = ""
    goal: float | None = None
    remark: str = ""

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or empty where there is no goal."""
        if self.goal is None:
            return ""
        met = self.value >= self.goal if self.relation == AT_LEAST else self.value <= self.goal
        return "met" if met else "MISSED"


def rows(results: Results) -> list[Row]:
    """Every line of the table, in the order of the scenarios."""
    makers = {
        "moderate": _moderate,
        "fanout": _fanout,
        "memory": _memory,
        "filters": _filters,
        "catchup": _catchup,
        "ingest": _ingest,
        "mixed": _mixed,
        "authorize": _authorize,
        "postgres": _postgres,
        "workers": _workers,
    }
    lines: list[Row] = []
    for name, found in results.items():
        lines += makers[name]([one for one in found if "failed" not in one])
        lines += [
            Row(
                f"{name}: {one['failed']}",
                0,
                remark=("" if "left_out" in one else "FAILED ") + _last_line(one["error"]),
            )
            for one in found
            if "failed" in one
        ]
    return lines


def table(lines: Iterable[Row]) -> str:
    """The lines as text, numbers aligned."""
    cells = [
        (
            line.what,
            _number(line.value),
            line.unit,
            f"{line.relation} {_number(line.goal)}" if line.goal is not None else "",
            line.verdict,
            line.remark,
        )
        for line in lines
    ]
    cells.insert(0, ("measurement", "value", "unit", "goal", "", "remarks"))
    widths = [max(len(row[i]) for row in cells) for i in range(5)]
    return "\n".join(
        f"{what:<{widths[0]}}  {value:>{widths[1]}}  {unit:<{widths[2]}}  {goal:<{widths[3]}}  "
        f"{verdict:<{widths[4]}}  {remark}".rstrip()
        for what, value, unit, goal, verdict, remark in cells
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1][:120]


def _remarks(steps: Sequence[dict[str, Any]]) -> str:
    """What makes a measurement doubtful."""
    marks = []
    disturbed = [step["disturbed"] for step in steps if step.get("disturbed")]
    if disturbed:
        marks.append(f"DISTURBED: {max(disturbed, key=len)}")
    for step in steps:
        if step.get("client_saturated") or step.get("saturated"):
            marks.append("CLIENT SATURATED")
        if step.get("missing"):
            marks.append(f"MISSING {step['missing']}")
        if step.get("refusal"):
            marks.append(f"refused: {step['refusal'][:80]}")
    return "; ".join(dict.fromkeys(marks))


def _fanout(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    best = {
        (one["target"], one["mode"], one["subscribers"]): one["best"]
        for one in found
        if one["best"]
    }
    for one in found:
        target, mode, n = one["target"], one["mode"], one["subscribers"]
        step = best.get((target, mode, n))
        what = f"fan-out {mode} {n} {target}"
        if step is None:
            lines.append(Row(what, 0, "deliveries/s", remark="NOTHING SUSTAINED"))
            continue
        remark = f"p99 {step['p99_ms']:.1f} ms, {step['bytes_per_delivery']:.0f} bytes each"
        remark = "; ".join(filter(None, [remark, _remarks([step])]))
        lines.append(Row(what, step["deliveries_per_second"], "deliveries/s", remark=remark))
    for (target, mode, n), step in best.items():
        if target != "gateway":
            continue
        rate = step["deliveries_per_second"]
        if peer := best.get(("nchan", mode, n)):
            ratio, doubt = rate / peer["deliveries_per_second"], _remarks([step, peer])
            goal = 5 if n == 100 else 12
            what = f"fan-out {mode} {n} gateway/nchan"
            lines.append(Row(what, ratio, "x", AT_LEAST, goal, doubt))
        if peer := best.get(("c-joined", mode, n)):
            ratio, doubt = rate / peer["deliveries_per_second"], _remarks([step, peer])
            what, goal_c = f"fan-out {mode} {n} gateway/c-joined", None if n == 100 else 0.5
            lines.append(Row(what, ratio, "x", AT_LEAST, goal_c, doubt))
    return lines


def _moderate(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    units = {
        "server_cpu_us_per_delivery": ("cpu per delivery", "us"),
        "p50_ms": ("p50", "ms"),
        "p99_ms": ("p99", "ms"),
    }
    measured = {(one["target"], one["mode"]): one for one in found}
    for one in found:
        for member, (name, unit) in units.items():
            what = f"20 events/s {one['mode']} {one['subscribers']} {one['target']} {name}"
            lines.append(Row(what, one["median"][member], unit, remark=_remarks(one["steps"])))
    goals = [("nchan", member, 1.0) for member in units]
    for peer, member, goal in [*goals, ("c-per-event", "server_cpu_us_per_delivery", 1.3)]:
        for mode in ("ws", "sse"):
            ours, theirs = measured.get(("gateway", mode)), measured.get((peer, mode))
            if ours and theirs:
                what = f"20 events/s {mode} gateway/{peer} {units[member][0]}"
                ratio = ours["median"][member] / max(theirs["median"][member], 1e-9)
                doubt = _remarks([*ours["steps"], *theirs["steps"]])
                lines.append(Row(what, ratio, "x", AT_MOST, goal, doubt))
    return lines


def _memory(found: list[dict[str, Any]]) -> list[Row]:
    goals = {("gateway", "ws"): 16.0, ("gateway", "sse"): 12.0}
    return [
        Row(
            f"memory per {'' if 'stalled' in one['mode'] else 'idle '}connection "
            f"{one['target']} {one['mode']}",
            one["bytes_each"] / 1024,
            "KiB",
            AT_MOST,
            goals.get((one["target"], one["mode"])),
        )
        for one in found
    ]


def _filters(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    costs = {
        (one["kind"], one["streams"]): one["median"]["server_cpu_us_per_event"] / 1000
        for one in found
    }
    doubts = [step for one in found if one["kind"] == "scopes" for step in one["steps"]]
    most = max((streams for _, streams in costs), default=0)
    for one in found:
        kind, streams = one["kind"], one["streams"]
        goal = 25.0 if kind == "cel, no equality" else 1.0 if kind.startswith("cel") else None
        lines.append(
            Row(
                f"{kind}: an event with {streams} streams",
                costs[kind, streams],
                "ms cpu",
                AT_MOST,
                goal if streams == most else None,
                _remarks(one["steps"]),
            )
        )
    if ("scopes", FEW) in costs and ("scopes", most) in costs:
        ratio = costs["scopes", most] / max(costs["scopes", FEW], 1e-9)
        what = f"scopes: {most} streams / {FEW} streams"
        lines.append(Row(what, ratio, "x", AT_MOST, 2, _remarks(doubts)))
    return lines


def _catchup(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        for read in one["reads"]:
            alone = read["readers"] == 1
            what = f"catch-up of {read['log']} events, {read['readers']} readers"
            remark = "; ".join(
                filter(None, ["" if read["complete"] else "NOT COMPLETE", _remarks([read])])
            )
            if read["filtered"]:
                goal = 1.0 if alone else None
                lines.append(Row(f"{what}, 1 %", read["seconds"], "s", AT_MOST, goal, remark))
            else:
                rate, goal = read["events_per_second"], 300_000 if alone else None
                lines.append(Row(what, rate, "events/s", AT_LEAST, goal, remark))
    return lines


def _ingest(found: list[dict[str, Any]]) -> list[Row]:
    goals = {1: 5000.0, 1000: 40_000.0}
    return [
        Row(
            f"ingest, {one['producers']} producers, {one['batch']} in a request",
            one["median"]["events_per_second"],
            "events/s",
            AT_LEAST,
            goals.get(one["batch"]),
            _remarks(one["runs"]),
        )
        for one in found
    ]


def _mixed(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        for name in ("without", "with"):
            remark = _remarks(one[name]["steps"])
            lines.append(Row(f"mixed: live p99 {name}", one[name]["p99_ms"], "ms", remark=remark))
        doubts = [_remarks([*one["without"]["steps"], *one["with"]["steps"]])]
        doubts.append("" if one["still_catching_up"] else "CATCHING UP ENDED TOO EARLY")
        remark = "; ".join(filter(None, doubts))
        lines.append(Row("mixed: live p99 with/without", one["ratio"], "x", AT_MOST, 1.5, remark))
    return lines


def _authorize(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        of = f"with {one['keys']} keys and {one['roles']} roles"
        lines += [
            Row(f"authorise a request {of}", one["again_us"], "us", AT_MOST, 50),
            Row(f"authorise a key's first request {of}", one["first_us"], "us"),
            Row(f"take in a change to one key {of}", one["key_change_ms"], "ms", AT_MOST, 50),
            Row(f"take in a change to one role {of}", one["role_change_ms"], "ms", AT_MOST, 50),
        ]
    return lines


def _postgres(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        on, read, taken = one["cores"], one["catchup"], one["ingest"]
        where = (
            f"PostgreSQL {one['version']} with the clients on core {on['database_and_clients']}, "
            f"the gateway on core {on['gateway']}"
        )
        live = f"postgres: live p99, 1000 events/s to {one['readers']} readers"
        caught_up = f"postgres: catch-up of {read['log']} events, 1 reader"
        whole = "" if read["complete"] else "NOT COMPLETE"
        posting = "postgres: ingest, 4 producers, 1000 in a request"
        cost = "postgres: cpu per event ingested"
        rows = [
            (posting, taken["events_per_second"], "events/s", AT_LEAST, 25_000, [where]),
            (f"{cost}, gateway", taken["gateway_us_per_event"], "us", "", None, []),
            (f"{cost}, database", taken["database_us_per_event"], "us", "", None, []),
            ("postgres: cpu per event placed by a step", one["step_us_per_event"], "us", "", None,
             ["of the database, in steps of 1000"]),
            (live, one["live"]["p99_ms"], "ms", AT_MOST, 50, []),
            (caught_up, read["events_per_second"], "events/s", AT_LEAST, 100_000, [whole]),
        ]  # fmt: skip
        doubts = {posting: _remarks(one["runs"]), live: _remarks(one["steps"]),
                  caught_up: _remarks([read])}  # fmt: skip
        lines += [
            Row(what, value, unit, relation, goal,
                "; ".join(filter(None, [*remarks, doubts.get(what, "")])))
            for what, value, unit, relation, goal, remarks in rows
        ]  # fmt: skip
    return lines


def _workers(found: list[dict[str, Any]]) -> list[Row]:
    where = f"on cores {', '.join(map(str, serving_cores()))}; the clients on {cores()[1]}"
    lines = []
    for one in found:
        if "batch" in one:
            what = f"2 workers: ingest, {one['producers']} producers, {one['batch']} in a request"
            rate, unit, runs = one["median"]["events_per_second"], "events/s", one["runs"]
        else:
            what = f"2 workers: fan-out {one['mode']} {one['subscribers']}"
            best = one["best"] or {"deliveries_per_second": 0}
            rate, unit, runs = best["deliveries_per_second"], "deliveries/s", [best]
        remark = "; ".join(filter(None, [where, _remarks(runs)]))
        lines.append(Row(what, rate, unit, remark=remark))
    return lines
