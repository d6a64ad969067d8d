"""Streams that were opened by sessions of the console, which end with their session."""

from __future__ import annotations

from collections.abc import Callable

from gateway.access.sessions import Sessions
from gateway.clock import Clock, until_next_poll
from gateway.errors import GatewayError
from gateway.streaming.live.subscription import State, Subscription
from gateway.wire.framing import SESSION_ENDED, End

_POLL_SECONDS = 0.5


class SessionStreams:
    """Ends streams whose session is over, within a second, whoever has ended it."""

    def __init__(
        self, sessions: Sessions, clock: Clock, end: Callable[[Subscription, End], None]
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._end = end
        self._streams: dict[str, list[Subscription]] = {}
        sessions.on_end(self._ended)

    def add(self, session_id: str, subscription: Subscription) -> None:
        """Let a stream end with its session."""
        self._streams.setdefault(session_id, []).append(subscription)

    async def run(self) -> None:
        """Look at the sessions that have open streams, until cancelled."""
        while True:
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))
            for session_id in list(self._streams):
                await self._look(session_id)

    async def _look(self, session_id: str) -> None:
        streams = self._streams[session_id]
        streams[:] = [one for one in streams if one.state is not State.ENDED]
        if not streams:
            del self._streams[session_id]
            return
        try:
            session = await self._sessions.get(session_id)
        except GatewayError:
            # Streams wait while the store cannot be asked about their keys.
            return
        if session is None:
            self._ended(session_id)

    def _ended(self, session_id: str) -> None:
        for stream in self._streams.pop(session_id, ()):
            if stream.state is not State.ENDED:
                self._end(stream, SESSION_ENDED)
