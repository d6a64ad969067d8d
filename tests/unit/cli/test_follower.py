"""Following files: each record once by its id, whenever the program is killed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli.base.cursor_file import CursorFile
from gateway.cli.importing.follower import Ended, FileFollower, PatientSink
from gateway.cli.importing.growing_file import GrowingFile, parse_position
from gateway.cli.importing.importer import Importer, RefusedFile
from gateway.errors import InvalidRequest, Unavailable
from gateway.ingest.reading import GoesOn
from gateway.ingest.sink import SendResult
from gateway.ingest.sources.catalog import make_source, shipped
from gateway.ingest.sources.lines import MakeLines, lines_of, native_lines


class Killed(BaseException):
    """The program ends where it is."""


class Store:
    """A sink that knows ids; `moment` is called before and after it stores."""

    def __init__(self) -> None:
        self.stored: dict[str, object] = {}
        self.sent = 0
        self.moment: Callable[[], None] = lambda: None

    def send(self, lines: list[bytes]) -> SendResult:
        self.moment()
        events = [json.loads(line) for line in lines]
        self.sent += len(events)
        new = {event["id"]: event["data"] for event in events if event["id"] not in self.stored}
        self.stored |= new
        self.moment()
        return SendResult(len(new), len(events) - len(new))

    def close(self) -> None: ...


class Machine:
    """Runs of the follower over files, and what lasts between them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.logs = [folder / "logs" / name for name in names]
        self.logs[0].parent.mkdir()
        self.store = Store()
        self.now = 0.0
        self.steps = 30
        self.lines: MakeLines = native_lines("t")
        self.goes_on: GoesOn | None = None
        self.refused = folder / "refused"
        self._folder = folder

    def wait(self, seconds: float) -> bool:
        self.now += max(seconds, 0.1)
        self.steps -= 1
        return self.steps < 0

    def run(self, steps: int = 40) -> Importer:
        self.steps = steps
        files = []
        with RefusedFile(self.refused, follow_links=True) as refused:
            importer = Importer(
                self.lines, PatientSink(self.store, self.wait, print), refused, batch=5
            )
            try:
                for log in self.logs:
                    kept = CursorFile(self._folder / f"{log.name}.cursor")
                    text = kept.read()
                    position = None if text is None else parse_position(text, log, kept.path)
                    files.append((GrowingFile(log, position, goes_on=self.goes_on), kept))
                FileFollower(files, importer, refused, self.goes_on).run(
                    self.wait, lambda: self.now
                )
            finally:
                for file, _ in files:
                    file.close()
        return importer

    def append(self, text: bytes, log: int = 0) -> None:
        with self.logs[log].open("ab") as file:
            file.write(text)


def line(number: int) -> bytes:
    return json.dumps({"category": "app", "action": "a", "data": {"n": number}}).encode() + b"\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "app.log", "other.log")


@pytest.mark.parametrize("seed", range(30))
def test_kills_at_any_moment_lose_nothing_and_repeat_only_what_is_a_duplicate(
    machine: Machine, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = random.Random(seed)
    left = 0

    def moment() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    machine.store.moment = moment
    replace = Path.replace

    def replaced(draft: Path, to: Path) -> Path:
        # Of the position, before and after it is there.
        moment()
        replace(draft, to)
        moment()
        return to

    monkeypatch.setattr(Path, "replace", replaced)
    for log in machine.logs:
        log.touch()
    machine.run(1)
    written = 0
    for _ in range(20):
        for at, path in enumerate(machine.logs):
            for _ in range(chosen.randrange(12)):
                text = line(written)
                written += 1
                cut = chosen.randrange(len(text))
                machine.append(text[:cut], at)
                if chosen.randrange(4) == 0:
                    left = chosen.randrange(1, 6)
                    try:
                        machine.run(3)
                    except Killed:
                        pass
                machine.append(text[cut:], at)
            if chosen.randrange(3) == 0 and path.exists() and path.stat().st_size:
                taken = len(list(path.parent.glob(f"{path.name}.*")))
                for number in range(taken, 0, -1):
                    older = path.with_name(f"{path.name}.{number}")
                    older.rename(path.with_name(f"{path.name}.{number + 1}"))
                path.rename(path.with_name(f"{path.name}.1"))
                path.touch()
    left = -1
    machine.run(400)
    numbers = [data["n"] for data in machine.store.stored.values() if isinstance(data, dict)]
    assert sorted(numbers) == list(range(written))
    assert not machine.refused.exists()


def test_what_was_read_is_not_sent_again_after_a_restart(machine: Machine) -> None:
    machine.append(line(1) + line(2) + b"torn")
    machine.append(line(3), 1)
    assert machine.run().count.accepted == 3
    machine.append(b"\n" + line(4))
    importer = machine.run()
    assert (importer.count.read, importer.count.accepted, importer.count.refused) == (2, 1, 1)
    assert machine.store.sent == 4
    said = json.loads(machine.refused.read_bytes())
    assert (said["file"], said["line"], said["record"]) == (str(machine.logs[0]), 3, "torn")


def test_no_file_waits_for_the_end_of_another(machine: Machine) -> None:
    machine.append(b"".join(map(line, range(30_000))))
    machine.append(line(-1), 1)
    machine.run(2)
    assert list(machine.store.stored.values()).index({"n": -1}) < 30_000


def test_a_refused_record_is_durable_before_the_position_behind_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}"))
    )
    machine.append(line(1))
    machine.run()
    synced.clear()
    machine.append(b"oops\n")
    machine.run()
    first = [Path(name).name for name in synced]
    assert first[:2] == ["refused", "app.log.cursor.new"]
    assert first.count("refused") <= len(machine.logs), (
        "not again each time that nothing has changed"
    )


def test_statements_of_several_lines_come_as_one_record(machine: Machine) -> None:
    source = make_source(shipped("pgaudit"), {}, now=lambda: machine.now)
    machine.lines, machine.goes_on = lines_of(source, "t"), source.goes_on
    record = (
        b'2026-11-30 17:00:00.000 UTC,"u","db",1,"[local]",1.1,1,"SELECT",2026-11-30 17:00:00 UTC,'
        b'1/1,0,LOG,00000,"AUDIT: SESSION,1,1,READ,SELECT,,,""select\n\n1"",<none>",,,,,,,,,"psql",'
        b'"client backend",,0\n'
    )
    half = record.index(b"\n") + 1
    machine.append(record[:half])
    assert machine.run().count.read == 0
    machine.append(record[half:] + record[: half - 4])
    importer = machine.run()
    assert (importer.count.accepted, importer.count.refused) == (1, 0)
    machine.append(record[half - 4 :].replace(b"select", b"SELECT"))
    assert machine.run().count.read == 1


def test_a_gateway_that_is_away_is_waited_for_and_an_end_meanwhile_heeded(machine: Machine) -> None:
    away = 3

    def moment() -> None:
        nonlocal away
        away -= 1
        if away >= 0:
            raise Unavailable("gave up")

    machine.store.moment = moment
    machine.append(line(1))
    assert machine.run().count.accepted == 1
    away = 1_000
    machine.append(line(2))
    assert machine.run().count.accepted == 0, "ended while it waited"
    away = 0
    assert machine.run().count.accepted == 1
    away = 1_000
    machine.steps = 5
    with pytest.raises(Ended):
        PatientSink(machine.store, machine.wait, print).send([line(3)])


def test_a_position_that_is_torn_or_of_another_file_is_refused(machine: Machine) -> None:
    machine.append(line(1))
    machine.run()
    kept = machine.logs[0].parent.parent / "app.log.cursor"
    text = kept.read_text()
    for torn in (text[:-9], "{}", "[" * 5000, "1", text.replace('"offset": ', '"offset": "x')):
        kept.write_text(torn)
        with pytest.raises(InvalidRequest, match="holds no position"):
            machine.run()
    kept.write_text(text.replace("app.log", "app.txt"))
    with pytest.raises(InvalidRequest, match=r"holds the position in .*app\.txt"):
        machine.run()
    kept.unlink()
    assert machine.run().count.duplicates == 1
