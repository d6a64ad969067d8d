"""Formatting of many events, in slices that are charged to the key."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.formats.format import Format
from gateway.scheduling.loop_work import Slices


async def format_in_slices(format: Format, natives: Sequence[bytes], slices: Slices) -> list[bytes]:
    """The events, each in its native JSON, in a format."""
    encoded = []
    for native in natives:
        await slices.rest()
        encoded.append(format.encode(native))
    return encoded
