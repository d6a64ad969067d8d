"""What exceptions of connections mean, for all clients of destinations."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable

from gateway.delivery.connect.transport import NoAnswer

# What a peer says of the certificate that it was shown, or not shown.
_OUR_CERTIFICATE = re.compile(r"ALERT.*(?:CERTIFICATE|UNKNOWN_CA)")


class RefusedAddress(OSError):
    """An address is not connected to. Its text is for people."""


def failure_of_security(error: BaseException) -> NoAnswer | None:
    """Failure of a check of an address, or of TLS; None if it is neither."""
    for cause in _causes(error):
        if isinstance(cause, RefusedAddress):
            return NoAnswer("address", str(cause), config=True)
        # Those of aiohttp have neither of these; they wrap one that has.
        if message := getattr(cause, "verify_message", ""):
            return NoAnswer("certificate", message, config=True)
        if isinstance(cause, ssl.SSLError) and (reason := getattr(cause, "reason", "")):
            wrong = bool(_OUR_CERTIFICATE.search(reason))
            return NoAnswer("certificate" if wrong else "tls", reason, config=wrong)
    return None


def failure_of_stream(error: Exception, where: str) -> NoAnswer:
    """Failure of a connection without HTTP, to a place."""
    if isinstance(error, NoAnswer):
        return error
    if failure := failure_of_security(error):
        return failure
    if isinstance(error, TimeoutError):
        return NoAnswer("timeout", f"{where}: no connection in time")
    if isinstance(error, socket.gaierror):
        return NoAnswer("dns", f"{where}: {error.strerror or error}")
    reason = error.strerror if isinstance(error, OSError) else None
    return NoAnswer("connect", f"{where}: {reason or 'the connection ended'}")


def _causes(error: BaseException) -> Iterable[BaseException]:
    """The exception and those that it wraps."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__, getattr(one, "os_error", None)]
    return seen
