"""Context of lines of the program's own log."""

from __future__ import annotations

from contextvars import ContextVar

# Id of the request that is being answered; "" outside of requests.
REQUEST: ContextVar[str] = ContextVar("request", default="")
