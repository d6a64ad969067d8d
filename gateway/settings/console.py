"""Settings of the console."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.kinds import BOOLEAN, setting


@dataclass(frozen=True)
class ConsoleSettings:
    """Pages for people."""

    enabled: bool = setting(
        True,
        BOOLEAN,
        "Whether browsers get the console at /; signing in works at server.names and on the "
        "machine itself.",
    )
