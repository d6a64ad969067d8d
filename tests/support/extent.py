"""The extent of a log without events, for what needs to know no more of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Extent:
    """Implements `gateway.log.ports.LogExtent`."""

    epoch: str = "e"
    head: int = 0
    floor: int = 0
