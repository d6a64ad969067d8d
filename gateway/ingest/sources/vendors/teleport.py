"""Teleport: where a connection came from.

Source: Teleport documentation, "Audit events".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.ingest.mapping.values import text


def remote_address(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Address of the peer, without its port."""
    for member in ("addr.remote", "addr_remote", "src_addr"):
        address = text(record.get(member))
        if address is not None:
            if address.startswith("["):
                return address[1:].partition("]")[0]
            host, colon, port = address.rpartition(":")
            return host if colon and port.isdigit() and ":" not in host else address
    return None
