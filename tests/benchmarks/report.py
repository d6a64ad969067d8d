"""The table: what was measured, beside the goals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.benchmarks.filters import FEW
from tests.benchmarks.machine import cores, serving_cores
from tests.benchmarks.masks import SETS
from tests.benchmarks.protocol_posts import CAME_IN
from tests.benchmarks.targets import JOINED, OWN, PIPELINED, SINGLE, STREAMED

Results = dict[str, list[dict[str, Any]]]
AT_LEAST, AT_MOST = ">=", "<="


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Without a `goal` it only informs. `came_in` says how the events
    came in that it is about."""

    what: str
    value: float
    unit: str = ""
    relation: str = ""
    goal: float | None = None
    remark: str = ""
    came_in: str = ""

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
        "masks": _masks,
        "catchup": _catchup,
        "ingest": _ingest,
        "mixed": _mixed,
        "authorize": _authorize,
        "declaring": _declaring,
        "looking": _looking,
        "inventory": _inventory,
        "sources": _sources,
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
            line.came_in,
            line.remark,
        )
        for line in lines
    ]
    cells.insert(0, ("measurement", "value", "unit", "goal", "", "events came in", "remarks"))
    widths = [max(len(row[i]) for row in cells) for i in range(6)]
    return "\n".join(
        f"{what:<{widths[0]}}  {value:>{widths[1]}}  {unit:<{widths[2]}}  {goal:<{widths[3]}}  "
        f"{verdict:<{widths[4]}}  {came_in:<{widths[5]}}  {remark}".rstrip()
        for what, value, unit, goal, verdict, came_in, remark in cells
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
        (one["target"], one["way"], one["mode"], one["subscribers"]): one["best"]
        for one in found
        if one["best"]
    }
    for one in found:
        target, mode, n = one["target"], one["mode"], one["subscribers"]
        step, what = one["best"], f"fan-out {mode} {n} {target}"
        if step is None:
            remark = "NOTHING SUSTAINED"
            lines.append(Row(what, 0, "deliveries/s", remark=remark, came_in=one["came_in"]))
            continue
        remark = "; ".join(
            filter(
                None,
                [
                    f"p99 {step['p99_ms']:.1f} ms, {step['bytes_per_delivery']:.0f} bytes each",
                    f"clients {step['client_cpu_share']:.0%} of their core",
                    _remarks([step]),
                ],
            )
        )
        rate = step["deliveries_per_second"]
        lines.append(Row(what, rate, "deliveries/s", remark=remark, came_in=one["came_in"]))
    for mode, n in dict.fromkeys((one["mode"], one["subscribers"]) for one in found):
        for way, peer, peer_ways, goal in _compared(n):
            ours = best.get(("gateway", way, mode, n))
            peers = [(peer, name, mode, n) for name in peer_ways if (peer, name, mode, n) in best]
            if not (ours and peers):
                continue
            most = max(peers, key=lambda key: float(best[key]["deliveries_per_second"]))
            ratio = ours["deliveries_per_second"] / best[most]["deliveries_per_second"]
            came_in = " / ".join(dict.fromkeys((_TEXTS[way], _TEXTS[most[1]])))
            best_of = "'s best" if len(peer_ways) > 1 else ""
            what = f"fan-out {mode} {n} gateway/{peer}{best_of}"
            doubt = _remarks([ours, best[most]])
            lines.append(Row(what, ratio, "x", AT_LEAST, goal, doubt, came_in))
    return lines


_TEXTS = {way.name: way.text for way in (JOINED, SINGLE, PIPELINED, OWN)}


def _compared(subscribers: int) -> list[tuple[str, str, tuple[str, ...], float | None]]:
    """What is compared: our way in, a peer and its ways in, and the goal."""
    joined, single, pipelined, own = JOINED.name, SINGLE.name, PIPELINED.name, OWN.name
    few, best = subscribers <= 100, (single, pipelined)
    return [
        (joined, "nchan", best, 5 if few else 12),
        (joined, "c-joined", (own,), None if few else 0.5),
        (single, "nchan", (single,), 0.85 if few else None),
        (single, "nchan", best, None if few else 7),
        (single, "c-joined", (own,), None),
        (single, "c-durable", (single,), None if few else 0.5),
        (pipelined, "nchan", (pipelined,), None),
        (single, "centrifugo", (single,), None),
        (pipelined, "centrifugo", (pipelined,), None),
    ]


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
            value, doubt = one["median"][member], _remarks(one["steps"])
            lines.append(Row(what, value, unit, remark=doubt, came_in=one["came_in"]))
    ratios = [
        ("nchan", "server_cpu_us_per_delivery", 0.8),
        ("nchan", "p99_ms", 1.0),
        ("c-per-event", "server_cpu_us_per_delivery", 1.3),
    ]
    for mode in ("ws", "sse"):
        ours = measured.get(("gateway", mode))
        for peer, member, goal in ratios:
            if ours and (theirs := measured.get((peer, mode))):
                what = f"20 events/s {mode} gateway/{peer} {units[member][0]}"
                ratio = ours["median"][member] / max(theirs["median"][member], 1e-9)
                doubt = _remarks([*ours["steps"], *theirs["steps"]])
                lines.append(Row(what, ratio, "x", AT_MOST, goal, doubt, ours["came_in"]))
        if ours and (theirs := measured.get(("nchan", mode))):
            what = f"20 events/s {mode} gateway p50 - nchan p50"
            more = ours["median"]["p50_ms"] - theirs["median"]["p50_ms"]
            doubt = _remarks([*ours["steps"], *theirs["steps"]])
            remark = "; ".join(filter(None, ["goal: a commit with its sync", doubt]))
            goal = ours["commit_ms"]
            lines.append(Row(what, more, "ms", AT_MOST, goal, remark, ours["came_in"]))
    return lines


def _memory(found: list[dict[str, Any]]) -> list[Row]:
    goals = {("gateway", "ws"): 3.0, ("gateway", "sse"): 3.0}
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
                one["came_in"],
            )
        )
    if ("scopes", FEW) in costs and ("scopes", most) in costs:
        ratio = costs["scopes", most] / max(costs["scopes", FEW], 1e-9)
        what = f"scopes: {most} streams / {FEW} streams"
        lines.append(Row(what, ratio, "x", AT_MOST, 2, _remarks(doubts), found[0]["came_in"]))
    return lines


def _masks(found: list[dict[str, Any]]) -> list[Row]:
    costs = {
        (one["kind"], one["sets"]): one["median"]["server_cpu_us_per_event"] / 1000 for one in found
    }
    lines = [
        Row(
            f"{one['kind']}: an event to {one['readers']} readers, {one['sets']} sets",
            costs[one["kind"], one["sets"]],
            "ms cpu",
            remark=_remarks(one["steps"]),
            came_in=one["came_in"],
        )
        for one in found
    ]
    for one in found:
        kind = one["kind"]
        if one["sets"] == SETS and (kind, 1) in costs:
            what, ratio = f"{kind}: {SETS} sets / 1", costs[kind, SETS] / costs[kind, 1]
            remark = _remarks(one["steps"])
            lines.append(Row(what, ratio, "x", AT_MOST, 1.5, remark, one["came_in"]))
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
                value, unit, relation, what = read["seconds"], "s", AT_MOST, f"{what}, 1 %"
            else:
                goal = 300_000.0 if alone else None
                value, unit, relation = read["events_per_second"], "events/s", AT_LEAST
            lines.append(Row(what, value, unit, relation, goal, remark, read["came_in"]))
    return lines


def _ingest(found: list[dict[str, Any]]) -> list[Row]:
    goals = {("gateway", "64"): 8000.0, ("gateway", PIPELINED.name): 12_000.0,
             ("gateway", STREAMED.name): 30_000.0, ("gateway", "1000s"): 40_000.0}  # fmt: skip
    lines = []
    for one in found:
        target, what = one["target"], f"ingest {one['target']}"
        for way in one["ways"]:
            median, came_in = way["median"], way["came_in"]
            doubt = f"clients {median['cpu_share']:.0%} of their core"
            remark = "; ".join(filter(None, [doubt, _remarks(way["runs"])]))
            rate, goal = median["events_per_second"], goals.get((target, way["way"]))
            cost = median["server_cpu_us_per_event"]
            lines.append(Row(what, rate, "events/s", AT_LEAST, goal, remark, came_in))
            lines.append(Row(f"{what} cpu per event", cost, "us", came_in=came_in))
    return lines


def _mixed(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        for name in ("without", "with"):
            remark = _remarks(one[name]["steps"])
            what, p99 = f"mixed: live p99 {name}", one[name]["p99_ms"]
            lines.append(Row(what, p99, "ms", remark=remark, came_in=one["came_in"]))
        doubts = [_remarks([*one["without"]["steps"], *one["with"]["steps"]])]
        doubts.append("" if one["still_catching_up"] else "CATCHING UP ENDED TOO EARLY")
        remark = "; ".join(filter(None, doubts))
        what, ratio = "mixed: live p99 with/without", one["ratio"]
        lines.append(Row(what, ratio, "x", AT_MOST, 1.5, remark, one["came_in"]))
    return lines


def _sources(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        if "posted_us" in one:
            remark = f"{one['posted_us']:.1f} us / {one['native_us']:.1f} us an event"
            what = f"{one['source']}: events posted / native events posted"
            lines.append(
                Row(what, one["throughput_of_native"], "x", AT_LEAST, 0.5, remark, CAME_IN)
            )
            continue
        remark = f"{one['mapped_us']:.1f} us a record"
        what, least = (
            f"{one['source']}: records mapped / native events decoded",
            one.get("least", 0.5),
        )
        lines.append(Row(what, one["throughput_of_native"], "x", AT_LEAST, least, remark))
        if "of_bare" in one:
            remark = f"{one['mapped_us']:.1f} us / {one['bare_us']:.2f} us"
            what = f"{one['source']}: a record mapped / its members decoded and no more"
            lines.append(Row(what, one["of_bare"], "x", AT_MOST, 5, remark))
    return lines


def _looking(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        page = f"{one['desc_ms']:.2f} / {one['asc_ms']:.2f} ms"
        search = f"{one['text_seconds']:.2f} / {one['scan_seconds']:.2f} s"
        lines += [
            Row(
                f"newest page of 100 / oldest, of {one['log']} events",
                one["desc_ms"] / one["asc_ms"], "x", AT_MOST, 2, page,
            ),
            Row(
                f"search of {one['log']} events for a word in none / a plain scan",
                one["text_seconds"] / one["scan_seconds"], "x", AT_MOST, 3, search,
            ),
        ]  # fmt: skip
        for what, name, most in (
            ("a view of everything", "all", 0.1),
            ("a tenant", "tenant", 1.5),
            ("a tenant, after one block more", "again", 0.1),
        ):
            took, plain = one[f"count_{name}_seconds"], one["group_seconds"]
            what = f"counts of {one['log']} events of {what} / a plain GROUP BY by hour"
            remark = f"{took * 1e3:.1f} / {plain * 1e3:.1f} ms"
            lines.append(Row(what, took / plain, "x", AT_MOST, most, remark))
    return lines


def _inventory(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        over = f"{one['reviewed']} keys over {one['records']} records"
        lines += [
            Row(f"a page of {one['keys']} keys", one["page_seconds"], "s", AT_MOST, 1),
            Row(f"a review of {over}", one["review_seconds"], "s", AT_MOST, 10),
            Row(f"the loop meanwhile, {over}", one["stop_ms"], "ms", AT_MOST, 20),
        ]
    return lines


def _declaring(found: list[dict[str, Any]]) -> list[Row]:
    lines = []
    for one in found:
        of = f"of {one['keys']} keys and {one['roles']} roles"
        lines += [
            Row(f"a plan {of}, unchanged", one["same_seconds"], "s", AT_MOST, 5),
            Row(f"a plan {of}, all changed", one["changed_seconds"], "s", AT_MOST, 5),
        ]
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
        posting = "postgres: ingest"
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
                "; ".join(filter(None, [*remarks, doubts.get(what, "")])),
                one["live_came_in" if what == live else "came_in"])
            for what, value, unit, relation, goal, remarks in rows
        ]  # fmt: skip
    return lines


def _workers(found: list[dict[str, Any]]) -> list[Row]:
    where = f"on cores {', '.join(map(str, serving_cores()))}; the clients on {cores()[1]}"
    lines = []
    for one in found:
        if "ways" in one:
            rows = _ingest([one | {"target": "2 workers"}])
        else:
            best = one["best"] or {"deliveries_per_second": 0}
            what = f"2 workers: fan-out {one['mode']} {one['subscribers']}"
            rate, doubt = best["deliveries_per_second"], _remarks([best])
            rows = [Row(what, rate, "deliveries/s", remark=doubt, came_in=one["came_in"])]
        lines += [replace(row, remark="; ".join(filter(None, [where, row.remark]))) for row in rows]
    return lines
