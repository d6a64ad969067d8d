"""`python -m tests.benchmarks [--quick] [--only fanout,...] [--targets gateway,nchan,...]`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.benchmarks import machine, plots, report
from tests.benchmarks.plan import FULL, QUICK, SCENARIOS, Run
from tests.benchmarks.programs import BenchmarkError, compile_program
from tests.benchmarks.targets import Centrifugo, Nchan

RESULTS = Path(__file__).parent / "results"
TARGETS = ("gateway", "nchan", "centrifugo", "c-joined", "c-durable", "c-per-event")
PEERS = (Nchan, Centrifugo)


def main() -> int:
    """0 when everything was measured, 1 when something failed, 2 when nothing could be."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `with` blocks end things
    if options.first:
        machine.go_first()
    network = machine.enter_network_namespace()
    machine.raise_file_limit(65_536)
    about: dict[str, Any] = machine.describe(network)
    peers = [name for name in options.targets.split(",") if name]
    for peer in PEERS:
        if peer.name in peers and (missing := peer.missing()):
            _say(missing)
            about[peer.name] = missing
            peers.remove(peer.name)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-", dir=options.folder) as name:
        folder = Path(name)
        about["data_filesystem"] = machine.filesystem(folder)
        _say(f"{about}")
        try:
            for program in ("load_client", "producer", "ceiling", "joining"):
                compile_program(program, folder)
        except BenchmarkError as error:
            _say(str(error))
            return 2
        plan = QUICK if options.quick else FULL
        plan = replace(plan, rounds=options.rounds or plan.rounds)
        run = Run(plan, folder, peers, options.patience, _say)
        try:
            for scenario in options.only.split(","):
                run.scenario(scenario)
        except (KeyboardInterrupt, SystemExit):
            about["stopped"] = "from outside, incomplete"
            _say("stopped; what was measured so far:")
    about["seconds"] = round(time.monotonic() - begun)
    failed = _publish(about, run.results)
    return 130 if "stopped" in about else failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, in under two minutes")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, with commas")
    parser.add_argument("--targets", default=",".join(TARGETS), help="what to measure, with commas")
    parser.add_argument("--rounds", type=int, help="measure so often and take the median")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds to wait for a quiet machine, each time"
    )
    parser.add_argument("--first", action="store_true", help=machine.FIRST)
    parser.add_argument("--folder", help="where data is put; durable figures need a real disk")
    options = parser.parse_args()
    for value, known in ((options.only, SCENARIOS), (options.targets, TARGETS)):
        if unknown := set(value.split(",")) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; one of {', '.join(known)}")
    return options


def _publish(about: dict[str, Any], results: report.Results) -> int:
    lines = report.rows(results)
    text = report.table(lines)
    print(text, flush=True)
    folder = RESULTS / time.strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    document = {"machine": about, "results": results}
    (folder / "results.json").write_text(json.dumps(document, indent=1))
    (folder / "table.txt").write_text(text + "\n")
    try:
        plots.draw(results, folder)
    except ImportError:
        _say("no plots: matplotlib is not installed (pip install 'audit-gateway[bench]')")
    _say(f"{about['seconds']} s; written to {folder}")
    failed = [one for found in results.values() for one in found if "failed" in one]
    return 0 if all("left_out" in one for one in failed) else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
