"""All receivers and shippers that there are, killed at random moments while events come in.

    python tests/shippers/soak.py [SECONDS [SEED]]
    python tests/shippers/soak.py rounds|poison|backlog ..

Each phase kills one kind of part, the last one all of them, and then waits until each event has
arrived. What is printed is a table of deploy/destinations.md. The others are modules beside this
one, and say what they do.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import receivers  # noqa: E402
import recipes  # noqa: E402
from otlp_receiver import receiving  # noqa: E402
from receivers import Receiver, toml  # noqa: E402
from scene import MissingProgram, Scene, content, ids_in  # noqa: E402

from tests.support.loaded_program import end_loader  # noqa: E402

SECONDS = 180.0
# Share of the time that each of the first phases has, events per second, and between two kills.
_SHARE, _RATE, _BETWEEN = 1 / 3, 100, (0.3, 3.0)
_SETTLING = 180.0
Fault = Callable[[], object]


class Row(NamedTuple):
    """A line of the table. `of_receiver` and `of_shipper` kill what belongs to it."""

    name: str
    counts: Callable[[], Counter[str]]
    of_receiver: tuple[Fault, ...] = ()
    of_shipper: tuple[Fault, ...] = ()
    destination: str = ""
    forgets: bool = False


class Cell(NamedTuple):
    """What came of the events of a phase, and how many a replay has brought."""

    sent: int
    arrived: int
    repeated: int
    replayed: int = 0


def main() -> None:
    if len(sys.argv) > 1 and not sys.argv[1].replace(".", "").isdigit():
        name = sys.argv.pop(1)
        assert name in ("rounds", "poison", "backlog"), __doc__
        import_module(name).main()
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with TemporaryDirectory() as folder, Scene(Path(folder)) as scene:
        if len(sys.argv) > 2:
            seeded(scene, int(sys.argv[2]))
        with receiving() as (url, received), receiving() as (other_url, other):
            rows = with_destinations(scene, url, received) + _shippers(scene, other_url, other)
            scene.between = 10 / _RATE
            table = {
                name: phase(scene, rows, partial(_kill, scene, faults, seconds * share))
                for name, faults, share in _phases(scene, rows)
            }
    end_loader()
    show(rows, table)


def seeded(scene: Scene, seed: int) -> None:
    """Have the same happen again."""
    scene.seed = seed
    scene.chance = random.Random(seed)
    print(f"with seed {seed}")


def with_destinations(scene: Scene, url: str, received: list[bytes]) -> list[Row]:
    """Rows of the receivers that there are, each with a destination. A Collector hands on to a
    `url` what is `received` there."""
    found: list[Receiver] = []
    for start in (*receivers.ALONE, partial(receivers.collector, url=url, received=received)):
        try:
            found += start(scene)
        except MissingProgram as missing:
            print(missing)
    path = scene.folder / "gateway.toml"
    key = scene.key.split("_")[1]
    tables = [toml(f"d{at}", one.destination, key) for at, one in enumerate(found)]
    path.write_text("\n".join(tables))
    scene.options = ["--config", str(path)]
    scene.kill_gateway()
    rows = []
    for at, one in enumerate(found):
        kills = () if one.program is None else (one.program.kill,)
        rows.append(Row(one.name, one.counts, kills, destination=f"d{at}", forgets=one.forgets))
    return rows


def _shippers(scene: Scene, other_url: str, other: list[bytes]) -> list[Row]:
    rows = []
    shippers = dict(recipes.SHIPPERS)
    shippers["OpenTelemetry Collector, file of `tail`"] = partial(recipes.collector, url=other_url)
    for name, recipe in shippers.items():
        try:
            one = recipe(scene)
        except MissingProgram as missing:
            print(missing)
            continue
        kills = tuple(part.kill for part in (one.shipper, one.tail) if part is not None)
        raw = partial(content, one.file)
        if one.file.is_dir():
            raw = partial(recipes.pages, one.file)
        elif "Collector" in name:
            raw = partial(b"".join, other)
        rows.append(Row(name, partial(_counted, raw), of_shipper=kills))
    return rows


def _counted(raw: Callable[[], bytes]) -> Counter[str]:
    return Counter(ids_in(raw()))


def kills_of_receivers(rows: Sequence[Row]) -> list[Fault]:
    """A fault for each program, as one may have several rows."""
    return list({id(one.__self__): one for row in rows for one in row.of_receiver}.values())  # type: ignore[attr-defined]


def _phases(scene: Scene, rows: Sequence[Row]) -> list[tuple[str, list[Fault], float]]:
    gateway: list[Fault] = [scene.kill_gateway]
    of_receivers = kills_of_receivers(rows)
    of_shippers = [one for row in rows for one in row.of_shipper]
    return [
        ("gateway", gateway, _SHARE),
        ("receiver", of_receivers, _SHARE),
        ("shipper", of_shippers, _SHARE),
        ("all", [*gateway * 3, *of_receivers, *of_shippers], 1.0),
    ]


def _kill(scene: Scene, faults: Sequence[Fault], seconds: float) -> int:
    """Kill for so long while events come in; how often."""
    kills = 0

    def chosen() -> Iterator[Fault]:
        nonlocal kills
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            kills += 1
            yield scene.chance.choice(faults)

    scene.produce(1, chosen(), _BETWEEN)
    return kills


def phase(scene: Scene, rows: Sequence[Row], disturb: Callable[[], int]) -> dict[str, Cell]:
    """Disturb while events come in, and count when all has arrived."""
    before = set(scene.sent)
    kills = disturb()
    sent = scene.sent - before
    cells = {row.name: Cell(len(sent), 0, 0) for row in rows}
    waiting, deadline = list(rows), time.monotonic() + _SETTLING
    while waiting and time.monotonic() < deadline:
        time.sleep(2)
        for row in list(waiting):
            cells[row.name] = cell = _cell(sent, row.counts())
            if cell.arrived == len(sent):
                waiting.remove(row)
            elif row.forgets and _level(scene, row.destination) and _shown(sent, row) == cell:
                # It has acknowledged what it has not: sent again, everything is there.
                _replay(scene, row.destination)
                after = _awaited(sent, row.counts)
                cells[row.name] = after._replace(
                    repeated=cell.repeated, replayed=after.arrived - cell.arrived
                )
                waiting.remove(row)
    print(f"{kills} kills, {len(sent)} events, not complete: {[one.name for one in waiting]}")
    for row in waiting:
        if row.destination:
            print(scene.ask("GET", f"/v1/destinations/{row.destination}"))
    # Repeats that come late are repeats, too.
    time.sleep(3)
    for row in rows:
        cell = cells[row.name]
        if not cell.replayed:
            cells[row.name] = _cell(sent, row.counts())
    sys.stdout.flush()
    return cells


def _cell(sent: set[str], counts: Counter[str]) -> Cell:
    arrived = sent & counts.keys()
    return Cell(len(sent), len(arrived), sum(counts[one] - 1 for one in arrived))


def _shown(sent: set[str], row: Row) -> Cell:
    """What a receiver has that shows events a little later than it takes them."""
    time.sleep(5)
    return _cell(sent, row.counts())


def _awaited(sent: set[str], counts: Callable[[], Counter[str]]) -> Cell:
    deadline = time.monotonic() + _SETTLING / 3
    while (cell := _cell(sent, counts())).arrived < len(sent) and time.monotonic() < deadline:
        time.sleep(1)
    return cell


def _level(scene: Scene, name: str) -> bool:
    """Whether a destination has nothing left to deliver."""
    shown = scene.ask("GET", f"/v1/destinations/{name}")
    return shown["state"] == "active" and shown["lag"]["events"] == 0


def _replay(scene: Scene, name: str) -> None:
    scene.ask("POST", f"/v1/destinations/{name}/replay", {"from": "1h", "reason": "it was killed"})


def show(rows: Sequence[Row], table: dict[str, dict[str, Cell]]) -> None:
    """Print the table: sent, arrived, lost, repeated."""
    print("| | " + " | ".join(table) + " |\n| --- |" + " --- |" * len(table))
    for row in rows:
        print(
            f"| {row.name} | " + " | ".join(_cell_shown(one[row.name]) for one in table.values()),
            "|",
        )


def _cell_shown(cell: Cell) -> str:
    lost = cell.sent - cell.arrived
    replayed = f", {cell.replayed} by replay" if cell.replayed else ""
    return f"{cell.sent}, {cell.arrived}, {lost}, {cell.repeated}{replayed}"


if __name__ == "__main__":
    main()
