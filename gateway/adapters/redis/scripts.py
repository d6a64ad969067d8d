"""Lua scripts that decide at the Redis server for all replicas.

Each is atomic, touches keys of one hash slot only, and takes the time as its first argument:
microseconds since 1970, or "" for the server's own clock, the default, so that replicas need not
agree on the time. Their texts in `lua/` document arguments and answers.

Other users of the server may have stored values under our names. A script replaces what no script
has written: an error about one key would look like a failing server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple


class Script:
    """Lua text, and the digest by which the server knows it once loaded."""

    def __init__(self, *files: str) -> None:
        folder = resources.files("gateway.adapters.redis") / "lua"
        self.text = "".join((folder / f"{name}.lua").read_text("utf-8") for name in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class ScriptCall(NamedTuple):
    """One run of a script."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[str | int | float]

    def known(self) -> tuple[str | int | float, ...]:
        """Command for a server that has loaded the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    def whole(self) -> tuple[str | int | float, ...]:
        """Command for any server."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)


# Each is the last of its files; those before it define what it uses.
TAKE_RATE = Script("now", "stored", "level", "take_rate")
TAKE_DAILY = Script("stored", "take_daily")
CHARGE = Script("now", "stored", "level", "charge")
LEASE = Script("now", "stored", "lease")
COUNT = Script("stored", "count")
