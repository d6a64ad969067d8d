"""The machine: which core does what, a network of our own, and who else is using it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
OTHER_LOAD = 0.10  # of one core; more than that marks a measurement
STEAL = 0.02
FIRST = "go before all other programs, so that a busy machine is as a quiet one; as root"


def cores() -> tuple[int, int]:
    """The core that serves and the core that holds the clients; equal where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[1 % len(usable)]


def serving_cores() -> list[int]:
    """The cores for servers of several processes: all but the clients', where there are more than
    two; else all."""
    usable = sorted(os.sched_getaffinity(0))
    return [core for core in usable if core != cores()[1]] if len(usable) > 2 else usable


def enter_network_namespace() -> str:
    """Move this process into an empty network with loopback and Reno; say what came of it.

    A machine that uses BBR paces even loopback with timers, which would be measured
    instead of the servers. Must be called before any thread is started.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        return f"shared with the machine, {_congestion_control()} (run as root for one apart)"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("16sh", b"lo", 0).ljust(40, b"\0")
        flags = struct.unpack_from("16sh", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
        up = struct.pack("16sh", b"lo", flags | _IFF_UP).ljust(40, b"\0")
        fcntl.ioctl(probe, _SIOCSIFFLAGS, up)
    try:
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")
    except OSError:
        pass
    return f"apart, {_congestion_control()}"


def _congestion_control() -> str:
    return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


def go_first() -> None:
    """Be served before all other programs, with all that is started from here on."""
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(2))


@contextmanager
def go_as_others() -> Iterator[None]:
    """Let programs that are started meanwhile be served as all others are, niceness included.

    A real-time policy knows no niceness. And a core that it keeps busy serves the kernel's threads,
    through which a write reaches the disk, only once a second.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def raise_file_limit(wanted: int) -> int:
    """Open files allowed from here on; at most what this user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for ceiling in (max(hard, wanted), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, ceiling)), ceiling))
            break
        except (ValueError, OSError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def describe(network: str) -> dict[str, str | int]:
    """What a reader needs to compare two runs."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line),
        "unknown",
    )
    return {
        "processor": model,
        "cores": os.cpu_count() or 1,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "network": network,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }


def filesystem(folder: Path) -> str:
    """Type of the file system under `folder`: on tmpfs nothing is durable."""
    mounts = [line.split()[1:3] for line in _lines("/proc/mounts")]
    found = [(place, kind) for place, kind in mounts if folder.resolve().is_relative_to(place)]
    return max(found, key=lambda one: len(one[0]))[1] if found else "unknown"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """Process ids of the direct children."""
    return [int(p) for line in _lines(f"/proc/{pid}/task/{pid}/children") for p in line.split()]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of processes with all their threads; to the nanosecond where told."""
    total = 0.0
    for pid in pids:
        precise = [
            int(lines[0].split()[0])
            for task in Path(f"/proc/{pid}/task").glob("*")
            if (lines := _lines(f"{task}/schedstat"))
        ]
        if precise:
            total += sum(precise) / 1e9
        elif stat := _lines(f"/proc/{pid}/stat"):
            fields = stat[0].rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / _TICKS
    return total


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory; pages shared between the processes count once for each."""
    return sum(
        int(lines[0].split()[1]) * _PAGE for pid in pids if (lines := _lines(f"/proc/{pid}/statm"))
    )


def own_bytes(pids: Iterable[int]) -> int:
    """Resident memory without the pages of files, which the kernel takes back when it likes."""
    rows = [lines[0].split() for pid in pids if (lines := _lines(f"/proc/{pid}/statm"))]
    return sum(int(row[1]) - int(row[2]) for row in rows) * _PAGE


class LoadWatch:
    """Who used the processors between `start` and `verdict`, besides the given processes."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = [os.getpid(), *pids]
        self._begun = time.monotonic()
        self._busy, self._steal = self._machine()
        self._own = cpu_seconds(self._pids)

    @staticmethod
    def _machine() -> tuple[float, float]:
        fields = [int(field) / _TICKS for field in _lines("/proc/stat")[0].split()[1:]]
        return fields[0] + fields[1] + fields[2], fields[7]

    def verdict(self) -> str:
        """Empty when undisturbed, else what disturbed."""
        elapsed = max(time.monotonic() - self._begun, 1e-3)
        busy, steal = self._machine()
        own = cpu_seconds(self._pids)
        other = (busy - self._busy - (own - self._own)) / elapsed
        stolen = (steal - self._steal) / elapsed
        marks = []
        if other > OTHER_LOAD:
            marks.append(f"other load {other:.0%} of a core")
        if stolen > STEAL:
            marks.append(f"steal {stolen:.0%}")
        return ", ".join(marks)


def wait_for_quiet(seconds: float) -> float:
    """Wait until nobody else used the processors for a second; at most `seconds`.

    Returns the seconds it took.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        watch = LoadWatch(())
        time.sleep(1)
        if not watch.verdict():
            break
    return time.monotonic() - begun
