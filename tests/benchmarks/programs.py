"""Starting and ending what a run needs: the C programs and the servers."""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import machine

_HERE = Path(__file__).parent
_PR_SET_PDEATHSIG = 1
# A quick answer, on a machine that is however busy.
ANSWER_SECONDS = 60.0


class BenchmarkError(Exception):
    """The run cannot go on; the text says what to do about it."""


def compile_program(name: str, folder: Path) -> Path:
    """Path of the compiled `<name>.c`. Raises `BenchmarkError` without a compiler."""
    target = folder / name
    if target.exists():
        return target
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchmarkError("no C compiler found; install one (Debian: apt install gcc libc6-dev)")
    command = [compiler, "-O2", "-Wall", "-o", str(target), str(_HERE / f"{name}.c")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise BenchmarkError(f"{name}.c does not compile:\n{done.stderr}")
    return target


def on_core(*cores: int, niceness: int = 0) -> Callable[[], None]:
    """What a child does before its program starts: take its core, and die with its parent."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        os.nice(niceness)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return prepare


class Server:
    """A server process, on the serving core unless others are given."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        cores: Sequence[int] = (),
        cwd: Path | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = self._start(
                command,
                env=dict(os.environ) | dict(environment or {}),
                cwd=cwd,
                stdout=out,
                stderr=out,
                preexec_fn=on_core(*(cores or machine.cores()[:1])),
            )

    def _start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)

    @property
    def pids(self) -> list[int]:
        pid = self._process.pid
        return [pid, *machine.children(pid)]

    def wait_until(self, ready: Callable[[], bool], seconds: float = ANSWER_SECONDS) -> None:
        """Return when `ready`. Raises `BenchmarkError` with the end of the log."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise BenchmarkError(f"{self._process.args!r} did not start:\n{tail}")
            time.sleep(0.02)

    def close(self) -> None:
        pids = self.pids
        end_process(self._process)
        for pid in pids[1:]:
            if Path(f"/proc/{pid}").exists():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


class Program:
    """One of the C programs: commands in, one line of JSON out per answer."""

    def __init__(
        self, path: Path, *options: str | int | Path, core: int | None = None, niceness: int = 0
    ) -> None:
        self._process = subprocess.Popen(
            [str(path), *map(str, options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=on_core(machine.cores()[1] if core is None else core, niceness=niceness),
        )
        self._name = path.name
        self._buffer = b""

    @property
    def pids(self) -> list[int]:
        return [self._process.pid]

    def send(self, command: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def answer(self, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        """The next answer. Raises `BenchmarkError` when the program ended or is silent."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise BenchmarkError(f"{self._name} gave no answer within {seconds:.0f} s")
                read = os.read(self._process.stdout.fileno(), 65536)
                if not read:
                    raise self._failure()
                self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\n")
        result: dict[str, Any] = json.loads(text)
        return result

    def ask(self, command: str, seconds: float = ANSWER_SECONDS) -> dict[str, Any]:
        self.send(command)
        return self.answer(seconds)

    def _failure(self) -> BenchmarkError:
        end_process(self._process)
        assert self._process.stderr is not None
        text = self._process.stderr.read().decode(errors="replace")
        return BenchmarkError(f"{self._name} ended: {text.strip()[-1500:]}")

    def close(self) -> None:
        end_process(self._process)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ask, then insist."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
