"""nginx and HAProxy, run with the configurations that deploy/ ships.

Only paths, ports and addresses are replaced, in a copy.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.setup_clients import system_program
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

DEPLOY = Path(__file__).parents[3] / "deploy"
KINDS = ("nginx", "haproxy")
_SECONDS = 20
# Debian's nginx would use folders of the system for these.
_NGINX_FOLDERS = "".join(
    f"    {name}_temp_path {{folder}}/{name};\n"
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


class Certificate:
    """A certificate for 127.0.0.1 that `context` trusts; made in a folder, as `tls.*`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "tls.crt"
        key = folder / "tls.key"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                "-days", "2", "-keyout", str(key), "-out", str(self.path),
            ],
            check=True, capture_output=True, timeout=patience(_SECONDS),
        )  # fmt: skip
        (folder / "tls.pem").write_text(self.path.read_text() + key.read_text())
        self.context = ssl.create_default_context(cafile=str(self.path))


def configuration(
    kind: str,
    folder: Path,
    certificate: Certificate,
    gateways: tuple[str, str] = ("127.0.0.1:1", "127.0.0.1:1"),
    ports: tuple[int, int] = (1, 2),
    changes: Mapping[str, str] | None = None,
) -> Path:
    """The shipped configuration in `folder`, with addresses of two gateways, the ports for HTTP
    and HTTPS, and further `changes`; what is to be replaced must be there."""
    file = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[kind]
    replaced = {"gateway-1:8080": gateways[0], "gateway-2:8080": gateways[1]}
    if kind == "nginx":
        user = "user root;\n" if os.geteuid() == 0 else ""
        replaced |= {
            "listen 80;": f"listen 127.0.0.1:{ports[0]};",
            "listen 443 ": f"listen 127.0.0.1:{ports[1]} ",
            "/etc/nginx/tls": str(certificate.folder),
            "/var/log/nginx": str(folder),
            "/run/nginx.pid": f"{folder}/nginx.pid",
            "worker_rlimit_nofile 65536;": "",
            "worker_connections 32768;": "worker_connections 400;",
            "worker_processes auto;\n": f"{user}daemon off;\nworker_processes 1;\n",
            "http {\n": "http {\n" + _NGINX_FOLDERS.format(folder=folder),
        }
    else:
        replaced |= {
            "bind :80\n": f"bind 127.0.0.1:{ports[0]}\n",
            "bind :443 ": f"bind 127.0.0.1:{ports[1]} ",
            # It will not start where it may not have so many files open.
            "maxconn 20000": "maxconn 200",
            "/etc/haproxy/tls.pem": str(certificate.folder / "tls.pem"),
        }
    text = (DEPLOY / file).read_text(encoding="utf-8")
    for old, new in {**replaced, **(changes or {})}.items():
        assert old in text, f"deploy/{file} has no {old!r}"
        text = text.replace(old, new)
    made = folder / file
    made.write_text(text, encoding="utf-8")
    return made


def command(kind: str, file: Path, *, check: bool = False) -> list[str]:
    """The command that runs a proxy in the foreground, or checks its configuration."""
    program = system_program(kind) or kind
    if kind == "nginx":
        # What it has to say before it has read the file goes elsewhere than to the system's log.
        start = [program, "-e", str(file.parent / "error.log"), "-p", str(file.parent)]
        return [*start, "-c", str(file), *(["-t"] if check else [])]
    return [program, "-f", str(file), "-c" if check else "-db"]


class Proxy:
    """A running proxy in front of the gateways at these addresses; ended when left.

    `changes` are further replacements in its configuration.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        certificate: Certificate,
        gateways: tuple[str, str],
        changes: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir()
        self.context = certificate.context
        self.certificate = certificate.path
        self._folder = folder
        plain, self.port = free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.plain_url = f"http://127.0.0.1:{plain}"
        ports = (plain, self.port)
        file = configuration(kind, folder, certificate, gateways, ports, changes)
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                command(kind, file), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self._await_port()
        except BaseException:
            self.close()
            raise

    @property
    def said(self) -> str:
        """Everything it has logged."""
        logs = [self._folder / name for name in ("output", "error.log", "access.log")]
        return "\n".join(log.read_text(errors="replace") for log in logs if log.exists())

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(patience(_SECONDS))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _await_port(self) -> None:
        deadline = time.monotonic() + patience(_SECONDS)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the proxy did not start:\n{self.said}") from None
                time.sleep(0.01)


def missing_programs() -> list[str]:
    """What these tests drive and is not there; tests/setup_clients.py installs it."""
    return [name for name in (*KINDS, "openssl", "curl") if system_program(name) is None]
