"""What no log of a gateway may hold: keys, tickets, cookies of sessions."""

from __future__ import annotations

import logging
import re

SECRETS = re.compile(
    r"alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}"
    r"|alp[tv]_[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}"
    r"|audit-session=[^\s;]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def assert_no_secrets(log: str) -> None:
    """Fail if what a program wrote to standard error holds a secret; which one is not told."""
    found = [line for line in log.splitlines() if SECRETS.search(line)]
    assert not found, [SECRETS.sub("<secret>", line) for line in found]


class SecretsInLog(logging.Handler):
    """Keeps the lines of gateways in this process that hold a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        # Commands and tests print what they like.
        if record.name.startswith(("gateway", "aiohttp", "asyncio")):
            line = self.format(record)
            if SECRETS.search(line):
                self.found.append(SECRETS.sub("<secret>", line))
