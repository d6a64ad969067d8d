"""Writes constraints.txt: exact versions of everything that is installed, with their hashes.

    make lock                   keeps the versions that stand there, if pyproject.toml allows them
    make lock ARGS=--upgrade    takes the newest that it allows

Sections follow each other: what runs the program, what its image has beside that, what tests it,
what measures it.
Needs `uv`, which `make lock` installs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
HEAD = """\
# Exact versions of everything that is installed, direct or not, with the hashes of what the index
# serves; ranges are in pyproject.toml. Written by `make lock`. A line `#@ end of ..` ends a
# section.
"""
SECTIONS = {
    "run": (), "image": ("destinations", "oidc", "otel", "otlp", "zstd"),
    "dev": ("dev",), "bench": ("dev", "bench"),
}  # fmt: skip
# What builds the program itself: it is installed without fetching anything else.
BUILDS = "setuptools>=77\n"
_PIN = re.compile(r"(?m)^[A-Za-z0-9]\S*==.*\n(?: +--hash=.*\n)+")


def main() -> None:
    known = FILE.read_text(encoding="utf-8")
    versions = "" if "--upgrade" in sys.argv[1:] else "\n".join(re.findall(r"(?m)^\S+==\S+", known))
    text, before = HEAD, set()
    for section, extras in SECTIONS.items():
        pins = {name: pin for name, pin in locked(extras, versions) if name not in before}
        before |= set(pins)
        text += f"{''.join(pins.values())}#@ end of {section}\n"
    FILE.write_text(text, encoding="utf-8")


def locked(extras: tuple[str, ...], versions: str) -> list[tuple[str, str]]:
    """The pins, by name, of the program with these extras, for every system and Python."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, builds = Path(folder, "versions.txt"), Path(folder, "builds.in")
        constraints.write_text(versions)
        builds.write_text(BUILDS)
        chosen = [argument for extra in extras for argument in ("--extra", extra)]
        done = subprocess.run(
            ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header",
             "--no-annotate", "--python-version", "3.11", "--system-certs", "--constraint",
             str(constraints), *chosen, "pyproject.toml", str(builds)],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return [(pin.partition("==")[0], pin) for pin in _PIN.findall(done.stdout)]


if __name__ == "__main__":
    main()
