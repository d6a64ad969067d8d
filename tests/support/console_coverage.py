"""Functions of the console's own code that no test of the console runs.

    python -m tests.support.console_coverage

Runs tests/system/console with the coverage of the browser's profiler, prints each function that was
loaded and never called, with its module and line, and each module that was never loaded. Exit code
1: there are some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

_ROOT = Path(__file__).parents[2]
_OWN = _ROOT / "gateway" / "http" / "console" / "static" / "own"


def never_run(folder: Path) -> list[str]:
    """What the files of `ConsolePage.keep_coverage` in a folder say was never called."""
    modules = {
        str(path.relative_to(_OWN).with_suffix("")).replace(os.sep, "-"): path
        for path in _OWN.rglob("*.js")
    }
    counts: dict[tuple[str, int], tuple[str, int]] = {}
    for file in folder.glob("*.ndjson"):
        for line in file.read_text().splitlines():
            module, functions = json.loads(line)
            for name, start, count in functions:
                _, before = counts.get((module, start), (name, 0))
                counts[module, start] = (name, before + count)
    loaded = {module for module, _ in counts}
    found = [f"{modules[name].relative_to(_OWN)}: never loaded" for name in modules.keys() - loaded]
    for (module, start), (name, count) in counts.items():
        if not count:
            # Offsets are those of UTF-16 code units.
            text = modules[module].read_text().encode("utf-16-le")[: 2 * start].decode("utf-16-le")
            line = text.count("\n") + 1
            found.append(f"{modules[module].relative_to(_OWN)}:{line}: {name or '(unnamed)'}")
    return sorted(found)


def main() -> int:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "tests/system/console", *sys.argv[1:]]
        tests = subprocess.run(
            command, cwd=_ROOT, env={**os.environ, "CONSOLE_COVERAGE": folder}, check=False
        )
        found = never_run(Path(folder))
    print("\n".join(found) or "Every function of the console ran.")
    return tests.returncode or bool(found)


if __name__ == "__main__":
    sys.exit(main())
