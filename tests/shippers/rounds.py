"""So many events to each receiver, and so many kills of each kind meanwhile.

    python tests/shippers/soak.py rounds [EVENTS [KILLS [SEED]]]

Each phase sends all events, kills the gateway, all receivers, or both so many times at random
moments, or stops and starts the gateway, and waits until each event has arrived. What is printed is
a table of deploy/destinations.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from otlp_receiver import receiving
from scene import Scene
from soak import Fault, kills_of_receivers, phase, seeded, show, with_destinations

from tests.support.loaded_program import end_loader

EVENTS, KILLS = 20_000, 5
# Events per second. The kills share the time that the events take, and what is killed needs some of
# it to begin anew.
_RATE = 400


def main() -> None:
    numbers = [int(one) for one in sys.argv[1:]]
    events, kills, *seed = numbers + [EVENTS, KILLS][len(numbers) :]
    with TemporaryDirectory() as folder, Scene(Path(folder)) as scene:
        if seed:
            seeded(scene, *seed)
        with receiving() as (url, received):
            rows = with_destinations(scene, url, received)
            scene.between = 10 / _RATE
            receivers = kills_of_receivers(rows)
            both = [scene.kill_gateway, *receivers]
            kinds: dict[str, list[Fault]] = {
                "gateway killed": [scene.kill_gateway], "receiver killed": receivers,
                "both killed": both, "gateway stopped": [scene.restart_gateway],
            }  # fmt: skip
            table = {
                name: phase(scene, rows, partial(_disturb, scene, faults, events, kills))
                for name, faults in kinds.items()
            }
    end_loader()
    show(rows, table)


def _disturb(scene: Scene, faults: Sequence[Fault], events: int, kills: int) -> int:
    """Send events while the faults happen together, so many times."""
    between = events / _RATE / (kills + 1)

    def together() -> None:
        for fault in scene.chance.sample(faults, len(faults)):
            fault()

    scene.produce(events, [together] * kills, (between / 2, between * 3 / 2))
    return kills
