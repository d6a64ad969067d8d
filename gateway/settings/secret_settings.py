"""Settings of `[server]` for secrets that are provided instead of made in the data folder."""

from __future__ import annotations

from typing import Any

from gateway.settings.kinds import TEXT, check_peppers, check_secret, setting

PEPPER_FILE: Any = setting(
    "",
    TEXT,
    "File of the secret of the key digests, the same for all gateways on one database; empty is "
    "pepper in the folder `data`.",
)
PEPPER: Any = setting(
    "",
    TEXT,
    "That secret itself instead of its file, 64 hexadecimal digits: for the environment, where an "
    "orchestrator puts it.",
    check=check_peppers,
    secret=True,
)
LOG_SECRET_FILE: Any = setting(
    "",
    TEXT,
    "File of the secret of the log (32 bytes or 64 hexadecimal digits), the same for all gateways "
    "on one database, and never changed; empty is log-secret in the folder `data`.",
)
LOG_SECRET: Any = setting(
    "",
    TEXT,
    "That secret itself instead of its file, 64 hexadecimal digits.",
    check=check_secret,
    secret=True,
)
