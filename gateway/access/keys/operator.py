"""Who changed a key or a role: another key, a program, or the command line. Pure."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

PREFIX = "cli:"


class Operator(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user of the system, as the system tells: `sudo_user` is who became `user` by sudo."""

    user: str
    sudo_user: str = ""
    host: str = ""
    terminal: str = ""

    @property
    def actor(self) -> str:
        """How records name them."""
        return f"{PREFIX}{self.user}"

    @property
    def person(self) -> str:
        """How the detector tells them apart: machines and terminals come and go."""
        return f"{PREFIX}{self.sudo_user or self.user}"


# A kid, the name of a program, or who runs the command line.
Actor: TypeAlias = str | Operator


def actor_name(by: Actor) -> str:
    """How records name who changed something."""
    return by.actor if isinstance(by, Operator) else by


def operator_of(by: Actor) -> Operator | None:
    """Who gave the command, if it was made by the command line."""
    return by if isinstance(by, Operator) else None
