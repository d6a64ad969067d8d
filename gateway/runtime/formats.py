"""Formats of a gateway, by its settings."""

from __future__ import annotations

import socket

from gateway.formats.format import Format, FormatOptions, Unmapped
from gateway.formats.registry import make_formats
from gateway.settings.declarations import Settings

_UNMAPPED: dict[str, Unmapped] = {"full": "full", "rest": "rest", "none": "none"}


def formats_of(settings: Settings) -> dict[str, Format]:
    """Every format by its name."""
    chosen = settings.formats
    options = FormatOptions(
        type_prefix=chosen.type_prefix,
        source=chosen.source,
        unmapped=_UNMAPPED[chosen.unmapped],
        original=chosen.original,
        enterprise_id=chosen.enterprise_id,
        hostname=chosen.hostname or socket.gethostname(),
    )
    return make_formats(options)
