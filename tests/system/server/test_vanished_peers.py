"""Peers that vanish without a word, told from those that are there and do not read."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.http.connection.vanished import VanishedPeers
from tests.support.gateway_process import ROOT

# In a network of its own, whose loopback can be switched off.
_SCRIPT = """
import fcntl, socket, struct, sys, time
from gateway.http.connection import vanished

SIOCSIFFLAGS, IFF_UP = 0x8914, 1

def loopback(flags):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags))

loopback(IFF_UP)
vanished._SILENT_MILLISECONDS = 1000
listener = socket.create_server(("127.0.0.1", 0))
peer = socket.create_connection(listener.getsockname())
ours, _ = listener.accept()
ours.setblocking(False)
ours.send(b"x")
time.sleep(0.05)
assert not vanished.has_vanished(ours), "it has just answered"
if sys.argv[1] == "vanish":
    loopback(0)
    ours.send(b"x")
else:
    try:
        while True:
            ours.send(b"x" * 65536)
    except BlockingIOError:
        pass
until = time.monotonic() + (60 if sys.argv[1] == "vanish" else 4)
while time.monotonic() < until and not vanished.has_vanished(ours):
    time.sleep(0.05)
print("gone" if vanished.has_vanished(ours) else "there")
"""


def in_a_network_of_its_own(what: str) -> str:
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", sys.executable, "-c", _SCRIPT, what],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_a_peer_that_answers_nothing_any_more_is_gone() -> None:
    assert in_a_network_of_its_own("vanish") == "gone"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_a_peer_that_does_not_read_but_answers_probes_is_there() -> None:
    assert in_a_network_of_its_own("stall") == "there"


class Stream:
    """As much of a subscription as is looked at."""

    def __init__(self, sink: Any) -> None:
        self.sink = sink


def test_every_stream_is_looked_at_within_seconds_and_few_at_a_time() -> None:
    looked_at: list[int] = []
    cut: list[int] = []

    class Sink:
        def __init__(self, number: int) -> None:
            self._number = number

        @property
        def vanished(self) -> bool:
            looked_at.append(self._number)
            return self._number % 100 == 7

        def abort(self) -> None:
            cut.append(self._number)

    hub: Any = SimpleNamespace(subscriptions={Stream(Sink(n)): None for n in range(1000)})
    peers = VanishedPeers(hub)
    for _ in range(12):
        before = len(looked_at)
        peers.probe()
        assert len(looked_at) - before <= 101
    assert set(looked_at) == set(range(1000))
    assert set(cut) == {number for number in range(1000) if number % 100 == 7}
