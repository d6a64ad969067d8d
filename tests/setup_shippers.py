"""Brings programs that `make test-shippers` runs: Debian's, unpacked into a folder of their own.

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


def main() -> None:
    if FOLDER.exists() or shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
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
        shutil.move(unpacked, FOLDER)


if __name__ == "__main__":
    main()
