"""Event loop of a test: it leaves no connection behind when it is closed."""

from __future__ import annotations

import asyncio
from asyncio.sslproto import SSLProtocol


class EventLoop(asyncio.SelectorEventLoop):
    """Closes what still says goodbye, and fails the test that has left a connection open.

    A connection that was closed may still wait for its peer, for the end of a TLS session or for
    what was written, when the test has ended. Without this the collector would find it at any time
    later, and fail the test that runs then.
    """

    def close(self) -> None:
        """Close the loop. Raises `AssertionError` if a connection is open that nobody closed."""
        if self.is_closed():
            return
        left = [one for one in self._transports.values() if one._sock is not None]  # type: ignore[attr-defined]
        still_open = [repr(one) for one in left if not _is_closing(one)]
        for transport in left:
            transport.abort()
        # What is aborted closes its socket in the next turn.
        self.call_soon(self.stop)
        self.run_forever()
        super().close()
        assert not still_open, f"connections that were not closed: {still_open}"


def _is_closing(transport: asyncio.Transport) -> bool:
    protocol = transport.get_protocol()
    if isinstance(protocol, SSLProtocol):
        return protocol._app_transport is None or protocol._app_transport.is_closing()
    return transport.is_closing()
