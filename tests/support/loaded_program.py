"""The program in processes that need not load it: forked from one that has, as its workers are.

To load the program costs more than to start a gateway, and tests do it hundreds of times. Here
one process for all tests of a run loads it, and each start is a fork of it, which gets arguments,
environment, folder and standard streams of its own and then does what `python -m gateway` does.
What a start has to do with the interpreter or the loader is tested with `subprocess`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

ROOT = Path(__file__).parents[2]
# What `serve` and the other commands load when they begin; they load the rest themselves.
_LOADED = (
    "gateway.cli.main", "gateway.cli.serve", "gateway.cli.keys.commands", "gateway.cli.log",
    "gateway.cli.store", "gateway.cli.tail", "gateway.cli.following",
    "gateway.runtime.process.logs", "gateway.runtime.process.event_loop",
    "gateway.runtime.process.collector",
    "gateway.runtime.process.memory", "gateway.runtime.compose", "gateway.runtime.supervisor",
    "gateway.adapters.postgres.log",
    "gateway.adapters.postgres.keys", "gateway.adapters.postgres.source",
)  # fmt: skip
_MESSAGE_BYTES = 1 << 20


class LoadedProgram:
    """One run of the program, with the interface of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
    ) -> None:
        self.args = ["python", "-m", "gateway", *arguments]
        self.returncode: int | None = None
        report, told = os.pipe()
        kept = [report]
        given = [told]
        self._report = report
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        streams = []
        for name, wanted in (("stdout", stdout), ("stderr", stderr)):
            if wanted == subprocess.PIPE:
                ours, theirs = os.pipe()
                given.append(theirs)
                setattr(self, name, open(ours, encoding="utf-8"))  # noqa: SIM115
            else:
                theirs = wanted if isinstance(wanted, int) else wanted.fileno()
            streams.append(theirs)
        request = {"arguments": [*arguments], "env": {**env}, "cwd": str(cwd or Path.cwd())}
        try:
            _loader().start(json.dumps(request).encode(), [told, *streams])
        except BaseException:
            for one in kept:
                os.close(one)
            raise
        finally:
            for one in given:
                os.close(one)
        self.pid = int(self._line())

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._line())
            os.close(self._report)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self._report, 1)
            assert piece, "what has loaded the program has ended"
            line += piece
        return line


class _Loader:
    """The process that has loaded the program, as the tests see it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.loaded_program", str(theirs.fileno())],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip

    def start(self, request: bytes, descriptors: list[int]) -> None:
        socket.send_fds(self._socket, [request], descriptors)

    def end(self) -> None:
        self._socket.close()
        self._process.wait()


_loaders: list[_Loader] = []


def _loader() -> _Loader:
    if not _loaders:
        _loaders.append(_Loader())
    return _loaders[0]


def end_loader() -> None:
    """End the process that has loaded the program, if there is one."""
    while _loaders:
        _loaders.pop().end()


def _serve(requests: socket.socket) -> None:
    """Start what is asked for, and report how it ended, until nobody can ask any more."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    reports: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            while (ended := _ended()) is not None:
                report = reports.pop(ended[0])
                with suppress(BrokenPipeError):
                    os.write(report, b"%d\n" % ended[1])
                os.close(report)
        if requests not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 3)
        if not message:
            return
        report, out, errors = descriptors
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (requests.detach(), woken, wake, report, *reports.values()):
                os.close(one)
            _run(json.loads(message), out, errors)
        os.write(report, b"%d\n" % pid)
        reports[pid] = report
        os.close(out)
        os.close(errors)


def _ended() -> tuple[int, int] | None:
    """The next process that has ended, and its exit code as `subprocess` tells it."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def _run(request: dict[str, object], out: int, errors: int) -> NoReturn:
    """What the interpreter does for `python -m gateway`."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, standard in ((nothing, 0), (out, 1), (errors, 2)):
        os.dup2(ours, standard)
    for ours in {nothing, out, errors} - {0, 1, 2}:
        os.close(ours)
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[arg-type, call-overload]
    time.tzset()
    os.chdir(str(request["cwd"]))
    sys.argv = ["gateway", *request["arguments"]]  # type: ignore[misc]
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    for name in _LOADED:
        importlib.import_module(name)
    # Nothing of it is looked at again, and so copied, in each of the processes.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
