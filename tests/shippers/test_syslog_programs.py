"""rsyslog and syslog-ng, behind a file of `tail` and behind a destination: part of every run of the
tests where Debian's packages can be had (tests/setup_clients.py)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trustme
from scene import EVENTS, RECEIVED_FILE, ROUNDS, Killable, Scene, content, found

from tests.setup_clients import UNPACKED
from tests.support.services.ports import free_port

SHORT = max(1, ROUNDS // 2)


def unpacked(name: str) -> tuple[Path, dict[str, str]]:
    """A program of a version that the recipes are for, and the variables that it needs."""
    if not (UNPACKED / "usr" / "sbin" / name).exists():
        pytest.skip(f"{name} is not unpacked: python tests/setup_clients.py says why")
    return found(name)


def rsyslog(scene: Scene, file: Path) -> Callable[[], Killable]:
    """What starts rsyslog, and kills the one that runs."""
    path, settings = unpacked("rsyslogd")
    pid = scene.folder / "rsyslog.pid"
    options = ["-n", "-f", str(file), "-i", str(pid)]
    options += ["-M", *map(str, UNPACKED.glob("usr/lib/*/rsyslog"))]
    started: list[Killable] = []

    def start_again() -> Killable:
        for one in started:
            one.end()
        pid.unlink(missing_ok=True)
        if started:
            started[0].kill()
        else:
            started.append(scene.run([path, *options], settings))
        return started[0]

    return start_again


def syslog_ng(scene: Scene, file: Path) -> Callable[[], Killable]:
    """What starts syslog-ng, and kills the one that runs."""
    path, settings = unpacked("syslog-ng")
    work = scene.folder
    options = [
        "-F", "-f", str(file), "-R", str(work / "persist"), "-p", str(work / "pid"),
        "-c", str(work / "control"), "--no-caps",
    ]  # fmt: skip
    modules = os.pathsep.join(map(str, UNPACKED.glob("usr/lib/syslog-ng/*")))
    options += ["--module-path", modules]
    started: list[Killable] = []

    def start_again() -> Killable:
        if started:
            started[0].kill()
        else:
            started.append(scene.run([path, *options], settings))
        return started[0]

    return start_again


def repeated(scene: Scene, received: Path) -> int:
    """How many events came more than once, when all have come."""
    return scene.await_all(lambda: content(received)).total() - len(scene.sent)


@pytest.mark.parametrize("recipe", ["rsyslog", "syslog-ng"])
def test_every_event_is_brought_from_the_file_of_tail(scene: Scene, recipe: str) -> None:
    received, events = scene.folder / "received.ndjson", scene.folder / "events.ndjson"
    places = {RECEIVED_FILE: str(received)}
    if recipe == "rsyslog":
        places["/var/spool/rsyslog"] = str(scene.folder)
    start = PROGRAMS[recipe](scene, scene.configured(recipe, places))
    tail = scene.tail(events)
    start()
    faults: Sequence[Callable[[], object]] = (start, tail.kill, scene.kill_gateway, start)
    scene.produce(EVENTS, [*faults] * SHORT)
    print(f"repeated {repeated(scene, received)} of {len(scene.sent)}")
    assert content(events).count(b"\n") == len(scene.sent)


@pytest.mark.parametrize("recipe", ["rsyslog", "syslog-ng"])
def test_every_event_is_taken_from_a_destination_over_tls(scene: Scene, recipe: str) -> None:
    port = str(free_port())
    authority = trustme.CA()
    own = authority.issue_cert("localhost")
    received = scene.folder / "received.ndjson"
    ca, certificate, key = (scene.folder / name for name in ("ca.pem", "own.pem", "own.key"))
    ca.write_bytes(authority.cert_pem.bytes())
    certificate.write_bytes(own.cert_chain_pems[0].bytes())
    key.write_bytes(own.private_key_pem.bytes())
    places = {
        "/etc/audit/syslog.pem": str(certificate), "/etc/audit/syslog.key": str(key),
        "6514": port, RECEIVED_FILE: str(received),
    }  # fmt: skip
    if recipe == "rsyslog":
        places |= {"/var/spool/rsyslog": str(scene.folder), "/etc/audit/ca.pem": str(ca)}
    PROGRAMS[recipe](scene, scene.configured(recipe, places, "receiver.conf"))()
    places = {
        "7kQ2mZ0aB1cD": scene.key.split("_")[1],
        "syslog.example.org:6514": f"localhost:{port}",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n": ca.read_text(),
    }
    scene.options = ["--config", str(scene.configured("rsyslog", places, "gateway.toml"))]
    scene.kill_gateway()
    scene.produce(EVENTS, [scene.kill_gateway] * SHORT)
    print(f"repeated {repeated(scene, received)} of {len(scene.sent)}")


PROGRAMS = {"rsyslog": rsyslog, "syslog-ng": syslog_ng}
