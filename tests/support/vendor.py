"""Fetches the libraries of the console, and checks them against `vendor.toml`.

    python -m tests.support.vendor

npm brings the archives, by name and version. A digest that differs ends it, and nothing is written.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.setup_clients import node_program

FOLDER = Path(__file__).parents[2] / "gateway" / "http" / "console" / "static" / "vendor"
DECLARED = tomllib.loads((FOLDER / "vendor.toml").read_text())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(name: str, version: str, folder: Path) -> Path:
    """Archive of a package, in a folder."""
    node = node_program()
    npm = node.parent / "npm"
    env = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}"}
    made = subprocess.run(
        [npm, "pack", "--silent", f"{name}@{version}"],
        cwd=folder, env=env, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return folder / made.stdout.split()[-1]


def main() -> None:
    files: dict[Path, bytes] = {}
    with TemporaryDirectory() as scratch:
        for name, declared in DECLARED.items():
            archive = fetch(name, declared["version"], Path(scratch))
            if digest(archive.read_bytes()) != declared["archive"]:
                sys.exit(f"{archive.name} is not the archive that vendor.toml has; nothing written")
            with tarfile.open(archive) as opened:
                for path, file in declared["files"].items():
                    member = opened.extractfile(f"package/{path}")
                    assert member is not None, f"{name} has no {path}"
                    content = member.read()
                    if digest(content) != file["sha256"]:
                        sys.exit(f"{name}: {path} is not what vendor.toml has; nothing written")
                    files[FOLDER / file["as"]] = content
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    print(f"{len(files)} files of {len(DECLARED)} libraries are as vendor.toml has them")


if __name__ == "__main__":
    main()
