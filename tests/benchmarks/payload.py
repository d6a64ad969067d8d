"""The events that are posted and the requests that subscribe, as bytes on the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

EVENT_BYTES = 600
# What the gateway adds to an event: cursor, recorded_at, time, id, outcome and severity.
ADDED_BYTES = 201
MARK = f"{0:010d}:{0:019d}"  # sequence number and nanoseconds; measure.h writes over it


def event(size: int = EVENT_BYTES, data: Mapping[str, Any] | None = None, **members: Any) -> str:
    """One event as JSON text of exactly `size` bytes; `members` replace the usual ones."""
    body: dict[str, Any] = {
        "tenant": "bench",
        "category": "bench.load",
        "action": "bench.tick",
        "actor": {"type": "service", "id": "svc-1"},
        **members,
        "data": {"bench": MARK, **(data or {}), "pad": ""},
    }
    short = len(json.dumps(body, separators=(",", ":")))
    if short > size:
        raise ValueError(f"these members alone take {short} bytes, more than {size}")
    body["data"]["pad"] = "x" * (size - short)
    return json.dumps(body, separators=(",", ":"))


def posted(data: Mapping[str, Any] | None = None, **members: Any) -> str:
    """The event to post to the gateway so that what it delivers has `EVENT_BYTES`."""
    return event(EVENT_BYTES - ADDED_BYTES, data, **members)


def post_head(path: str, content_type: str, key: str = "", api_key: str = "") -> str:
    """Head of a POST up to and including the name of its last header, Content-Length."""
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    authorization += f"X-API-Key: {api_key}\r\n" if api_key else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{authorization}"
        f"Content-Type: {content_type}\r\nContent-Length: "
    )


def streamed_head(path: str, key: str) -> str:
    """Whole head of a POST in chunks that is answered while they are sent."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: application/x-ndjson\r\nAccept: application/x-ndjson\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )


def subscription(
    mode: str, path: str, key: str = "", parameters: Sequence[tuple[str, str]] = ()
) -> str:
    """A whole request that opens a stream; `mode` is ws, sse or ndjson."""
    target = f"{path}?{urlencode(parameters)}" if parameters else path
    accept = {"sse": "text/event-stream", "ndjson": "application/x-ndjson", "ws": "*/*"}[mode]
    headers = ["Host: 127.0.0.1", f"Accept: {accept}"]
    if key:
        headers.append(f"Authorization: Bearer {key}")
    if mode == "ws":
        headers += [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
    return f"GET {target} HTTP/1.1\r\n" + "\r\n".join(headers) + "\r\n\r\n"
