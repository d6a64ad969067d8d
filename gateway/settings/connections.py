"""Settings of the limits on connections."""

from __future__ import annotations

from gateway.settings.kinds import INTEGER, SIZE, setting

_MEMORY = "it is held in memory"

MAX_CONNECTIONS: int = setting(
    0,
    INTEGER,
    "Connections that may be open in each process; 0 is as many as the limit of descriptors "
    "allows, less a reserve.",
    unit="connections",
    least=(0, "0 is as many as descriptors allow"),
    most=(1_000_000, _MEMORY),
)
MAX_CONNECTIONS_PER_ADDRESS: int = setting(
    0,
    INTEGER,
    "Connections of one address, behind trusted proxies the client's; 0 is three quarters of all.",
    unit="connections",
    least=(0, "0 is three quarters of all"),
    most=(1_000_000, _MEMORY),
)
MAX_HEAD_BYTES: int = setting(
    "64KiB",
    SIZE,
    "URL and headers of one request, together.",
    least=("20KiB", "a long filter would not fit"),
    most=("1MiB", _MEMORY),
)
MAX_UNFINISHED_HEADS: int = setting(
    "16MiB",
    SIZE,
    "URLs and headers that have not arrived whole, of all connections together; beyond it the "
    "largest is refused with 503.",
    least=("1MiB", "requests in several packets would be refused"),
    most=("1GiB", _MEMORY),
)
