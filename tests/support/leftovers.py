"""What tests leave behind: processes, files, users. There should be nothing."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Every process that is started from here on inherits it, however far down, and keeps it when
# those between have ended.
MARK = "GATEWAY_TESTS"
_END_SECONDS = 10


@contextmanager
def nothing_is_left_behind() -> Iterator[None]:
    """Fails at the end if a process still runs that was started in here, if a temporary file is
    left, or if there is another user than before."""
    users = {one.pw_name for one in pwd.getpwall()}
    folder = Path(tempfile.mkdtemp(prefix="gateway-tests-"))
    # Servers that do not run as root have to get at their folders in here.
    folder.chmod(0o711)
    mark = folder.name
    before = {name: os.environ.get(name) for name in ("TMPDIR", MARK)}
    earlier = _parents()
    os.environ |= {"TMPDIR": str(folder), MARK: mark}
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = None
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
        deadline = time.monotonic() + _END_SECONDS
        while (running := started(mark, earlier)) and time.monotonic() < deadline:
            time.sleep(0.05)
        files = sorted(path.name for path in folder.iterdir())
        shutil.rmtree(folder, ignore_errors=True)
    assert not running, f"still running: {running}"
    assert not files, f"left in the folder for temporary files: {files}"
    assert {one.pw_name for one in pwd.getpwall()} == users


def started(mark: str, earlier: Collection[int]) -> list[str]:
    """The processes that have the mark, and those whose parent is this process or such a one, as
    some write over their environment; but none of the earlier ones."""
    parents = {pid: parent for pid, parent in _parents().items() if pid not in earlier}
    wanted = f"{MARK}={mark}".encode()
    found = {pid for pid in parents if wanted in _read(pid, "environ").split(b"\0")}
    found |= {pid for pid, parent in parents.items() if parent == os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return [f"{pid}: {_read(pid, 'cmdline').decode()}".replace("\0", " ") for pid in sorted(found)]


def _parents() -> dict[int, int]:
    """The parent of each process that runs."""
    found = {}
    for pid in [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]:
        state, parent, *_ = [*_read(pid, "stat").rpartition(b")")[2].split(), b"Z", b"0"]
        if state != b"Z":
            found[pid] = int(parent)
    return found


def _read(pid: int, name: str) -> bytes:
    """What the kernel says of a process; nothing if it has ended or is another user's."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
