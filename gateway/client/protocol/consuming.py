"""Acknowledgements of durable consumers: `POST /v1/consumers/{name}/ack`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from gateway.client.protocol.events import check_text
from gateway.client.protocol.exchange import GatewayCall, Steps, TryAgain, error_of, exchange
from gateway.errors import Unavailable


def acknowledge(
    url: str, name: str, cursor: str, notice: Callable[[str], None]
) -> Steps[Any, bool]:
    """Acknowledge everything up to a cursor; return whether the gateway has it durably.

    A gateway that is away or busy gets it with the next one. Raises `Unauthorized`, `Forbidden`,
    `CursorGone`, `InvalidRequest`.
    """
    check_text("name", name)
    check_text("cursor", cursor)
    path = f"/v1/consumers/{quote(name, safe='')}/ack"
    try:
        answer = yield from exchange(url, GatewayCall("POST", path, json={"cursor": cursor}))
    except (TryAgain, Unavailable) as failure:
        notice(f"not acknowledged: {failure}")
        return False
    if answer.status == 409:
        notice(f"not acknowledged: {answer.members.get('detail')}")
        return False
    if answer.status != 200:
        raise error_of(url, answer)
    return True
