"""How long the rounds of a gateway's event loop take, and in what.

`python rounds.py FILE serve --data ..` runs the program with that command line, in the checkout
that `PYTHONPATH` names, and appends a line to the file four times a second. A round lasts from when
the loop has something to do until it waits again; `cpu_ms` is what the loop's own thread has
computed in the one that computed most: else it has waited for other threads and processes. Long
rounds are described in `FILE.rounds`, with the stacks that were seen in them.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from asyncio import SelectorEventLoop
from pathlib import Path
from types import FrameType
from typing import Any

_LONG_SECONDS = 0.03
_EVERY_SECONDS = 0.004
_SLOW_COLLECTION_SECONDS = 0.003
_WRITE_SECONDS = 0.25
_FRAMES = 7


class Rounds:
    """Watches the rounds of the one event loop of this process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = threading.get_ident()
        self._began = self._began_cpu = 0.0
        self._seen: list[str] = []
        self._longest = self._longest_cpu = 0.0
        self._collecting = 0.0

    def collected(self, phase: str, info: dict[str, int]) -> None:
        """A callback of the garbage collector."""
        now = time.perf_counter()
        if phase == "start":
            self._collecting = now
        elif now - self._collecting > _SLOW_COLLECTION_SECONDS:
            took = (now - self._collecting) * 1000
            self._seen.append(f"collected generation {info['generation']} in {took:.0f} ms")

    def begin(self) -> None:
        self._began_cpu = time.thread_time()
        self._began = time.perf_counter()

    def end(self) -> None:
        if not self._began:
            return
        took = time.perf_counter() - self._began
        cpu = time.thread_time() - self._began_cpu
        self._began = 0.0
        seen, self._seen = self._seen, []
        self._longest = max(self._longest, took)
        self._longest_cpu = max(self._longest_cpu, cpu)
        if took > _LONG_SECONDS:
            with open(f"{self._file}.rounds", "a", encoding="utf-8") as file:
                file.write(f"{took * 1000:.0f} ms, of which {cpu * 1000:.0f} computed\n")
                file.writelines(f"    {stack}\n" for stack in seen)

    def sample(self) -> None:
        """A thread's work: until the process ends."""
        written = 0.0
        while True:
            time.sleep(_EVERY_SECONDS)
            now = time.perf_counter()
            began = self._began
            if began and now - began > _EVERY_SECONDS:
                self._seen.append(
                    f"+{(now - began) * 1000:.0f}: "
                    + _stack(sys._current_frames().get(self._thread))
                )
            if now - written > _WRITE_SECONDS:
                written = now
                self._write()

    def _write(self) -> None:
        line = {
            "at": time.monotonic(),
            "ms": round(self._longest * 1000, 1),
            "cpu_ms": round(self._longest_cpu * 1000, 1),
        }
        self._longest = self._longest_cpu = 0.0
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _stack(frame: FrameType | None) -> str:
    said: list[str] = []
    while frame is not None and len(said) < _FRAMES:
        code = frame.f_code
        said.append(f"{Path(code.co_filename).stem}.{code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(said)


def main() -> None:
    rounds = Rounds(Path(sys.argv[1]))
    init = SelectorEventLoop.__init__

    def watched(loop: SelectorEventLoop, selector: Any = None) -> None:
        init(loop, selector)
        select = loop._selector.select

        def select_between_rounds(timeout: Any = None) -> Any:
            rounds.end()
            ready = select(timeout)
            rounds.begin()
            return ready

        loop._selector.select = select_between_rounds

    gc.callbacks.append(rounds.collected)
    SelectorEventLoop.__init__ = watched  # type: ignore[method-assign]
    threading.Thread(target=rounds.sample, daemon=True).start()
    sys.argv = ["audit-gateway", *sys.argv[2:]]
    # The folder of this file, which has modules with names of others.
    del sys.path[0]
    from gateway.cli.main import main as program

    program()


if __name__ == "__main__":
    main()
