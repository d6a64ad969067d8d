"""Brings programs that `make test-shippers` runs into a folder of their own: Debian's, unpacked,
and an OpenTelemetry Collector, where there is Go to build it, which takes minutes.

    python tests/setup_shippers.py

Nothing is installed, as rsyslog and syslog-ng do not go together. Where that is not possible, the
tests run what the machine has, and say what they have not run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER = Path(__file__).parent / "shippers" / "programs"
_PACKAGES = (
    "rsyslog", "libestr0", "libfastjson4", "liblognorm5",
    "syslog-ng-core", "libivykis0", "libnet1", "libpcre3",
)  # fmt: skip
_SECONDS = 300


_COLLECTOR = Path(__file__).parent / "shippers" / "otel_collector"
_BUILD_SECONDS = 1800


def main() -> None:
    _unpack_debian_packages()
    _build_collector()


def _build_collector() -> None:
    program = FOLDER / "otelcol"
    go = shutil.which("go")
    if program.exists() or go is None:
        return
    print("building an OpenTelemetry Collector ...", flush=True)
    FOLDER.mkdir(exist_ok=True)
    command = [go, "build", "-trimpath", "-o", str(program), "."]
    done = subprocess.run(
        command, cwd=_COLLECTOR, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
    )
    if done.returncode:
        print(f"`{' '.join(command)}` failed: {done.stderr.strip()[:300]}", file=sys.stderr)


def _unpack_debian_packages() -> None:
    tools = shutil.which("apt-get"), shutil.which("dpkg-deb")
    if (FOLDER / "usr").exists() or None in tools:
        return
    print("unpacking the programs that events are shipped with ...", flush=True)
    with TemporaryDirectory() as folder:
        command = ["apt-get", "-qq", "download", *_PACKAGES]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if done.returncode:
            print(f"`{' '.join(command)}` failed: {done.stderr.strip()[:300]}", file=sys.stderr)
            return
        unpacked = Path(folder) / "unpacked"
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True, timeout=_SECONDS)
        FOLDER.mkdir(exist_ok=True)
        for part in unpacked.iterdir():
            shutil.move(part, FOLDER)


if __name__ == "__main__":
    main()
