"""The scripts that decide at the Redis server, where all replicas meet.

Each runs whole or not at all, touches keys of one hash slot only, and takes
the time as its first argument: microseconds since 1970, or "" for the server's
own clock, which is the default, so that replicas need not agree on the time.
Their texts are in `lua/`; each says there what it is given and what it answers.

Whoever else uses the server may have put something under one of the names. What
no script has written counts as nothing there and is replaced: an error of one
key would be taken for a server that fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import resources


class Script:
    """Lua text, and the name the server knows it by once it has seen it."""

    def __init__(self, *files: str) -> None:
        folder = resources.files("gateway.adapters.redis") / "lua"
        self.text = "".join((folder / f"{name}.lua").read_text("utf-8") for name in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


class ScriptCall:
    """One run of a script."""

    __slots__ = ("arguments", "keys", "script")

    def __init__(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | float]
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments

    def known(self) -> tuple[str | int | float, ...]:
        """As a command to a server that has seen the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)

    def whole(self) -> tuple[str | int | float, ...]:
        """As a command to any server."""
        return ("EVAL", self.script.text, len(self.keys), *self.keys, *self.arguments)


# Each is the last of its files; those before it define what it uses.
TAKE_RATE = Script("now", "stored", "level", "take_rate")
TAKE_DAILY = Script("stored", "take_daily")
CHARGE = Script("now", "stored", "level", "charge")
LEASE = Script("now", "stored", "lease")
COUNT = Script("stored", "count")
