"""Who gave a command over keys and roles at the command line. Pure."""

from __future__ import annotations

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
