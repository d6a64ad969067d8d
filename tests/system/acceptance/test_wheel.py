"""The wheel, built and installed as a user would, beside its dependencies and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from gateway import __version__
from tests.support.gateway_process import ROOT
from tests.system.acceptance.test_readme import session

_BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE")
_PINNED = re.compile(r"(?m)^([A-Za-z0-9._-]+)==")


def pip(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def build(folder: Path) -> Path:
    """The wheel of the program as it stands; its sources are copied, so that none is written."""
    sources = folder / "sources"
    shutil.copytree(
        ROOT / "gateway", sources / "gateway", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in _BUILT_FROM:
        shutil.copy(ROOT / name, sources)
    # `make` installs what builds the program. Where it did not, pip fetches it.
    alone = ["--no-build-isolation"] if builds_here() else []
    pip("wheel", "--no-deps", *alone, "--wheel-dir", folder, sources)
    [wheel] = folder.glob("*.whl")
    return wheel


def builds_here() -> bool:
    try:
        return int(metadata.version("setuptools").partition(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False


def install(wheel: Path, environment: Path) -> Path:
    """A new environment with the wheel, and with the packages that `make run` installs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip(
        "--python",
        environment / "bin" / "python",
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
        wheel,
    )
    paths = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").partition("#@ end of run\n")[0]
    for name in _PINNED.findall(pins):
        for there in top_level(name):
            (packages / there.name).symlink_to(there)
    return packages


def top_level(name: str) -> set[Path]:
    """The files and folders of a package that is installed here; of another system's, none."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return set()
    tops = {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}
    return {Path(str(found.locate_file(top))) for top in tops}


def test_the_wheel_serves_events_in_an_environment_with_its_dependencies_alone(
    tmp_path: Path,
) -> None:
    wheel = build(tmp_path)
    assert wheel.name.startswith(f"audit_gateway-{__version__}-")
    folder = tmp_path / "elsewhere"
    packages = install(wheel, folder / ".venv")
    with session(folder) as user:
        user.run("unset PYTHONPATH")
        assert user.run("audit-gateway --version").split()[-1] == __version__
        found = user.run("python -c 'import gateway; print(gateway.__file__)'")
        assert found.strip() == str(packages / "gateway" / "__init__.py")
        said = user.run("audit-gateway serve --demo --port 0 --data data")
        [address] = user.listening
        assert user.run(f"curl --silent --fail {address}/healthz")
        [curl] = [line.strip() for line in said.splitlines() if "curl " in line]
        assert '"category":' in user.run(curl)
        [key] = set(re.findall(r"alpk_\w+", curl))
        user.run(f"export AUDIT_GATEWAY_KEY={key}")
        shown = user.run(f"audit-gateway tail --url {address} --from start --limit 1 --json")
        assert '"category":' in shown
