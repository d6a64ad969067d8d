"""Confirmations: each hour the identity provider is asked whether a person still has access."""

from __future__ import annotations

import logging
from typing import Protocol

from gateway.access.credentials.session import Session
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import StoredKeys
from gateway.access.sessions import Sessions
from gateway.access.usage.access import SIGNED_OUT, Access
from gateway.clock import Clock, until_next_poll
from gateway.errors import Forbidden, GatewayError, Unauthorized
from gateway.people.provider import GrantRefused
from gateway.people.sign_in import SignIn

_POLL_SECONDS = 10.0
_LOGGER = logging.getLogger(__name__)


class Recorded(Protocol):
    """Record of uses."""

    def log(self, access: Access) -> None:
        """Add a use."""


class Confirmations:
    """Has the persons of sessions confirmed, and ends sessions of those who are not.

    Of all processes one asks about a session. While the provider does not answer, it is asked again
    each minute; a session that was not confirmed for two hours is over by itself.
    """

    def __init__(
        self, sign_in: SignIn, sessions: Sessions, store: StoredKeys, record: Recorded,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._sign_in = sign_in
        self._sessions = sessions
        self._store = store
        self._record = record
        self._clock = clock

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))
            try:
                await self.poll()
            except GatewayError as error:
                _LOGGER.warning("sessions cannot be confirmed now: %s", error.detail)

    async def poll(self) -> None:
        """Ask about the sessions that are due."""
        now = self._clock.now()
        for session in await self._sessions.all():
            if session.confirmed is not None and session.confirmed.is_due(now):
                claimed = await self._sessions.claim(session)
                if claimed is not None:
                    await self._confirm(claimed)

    async def _confirm(self, session: Session) -> None:
        key = await self._store.get(session.key_id)
        assert session.confirmed is not None
        token = self._sign_in.refresh_token(session.confirmed)
        if key is None or key.person is None or token is None:
            await self._sessions.end([session.id])
            return
        try:
            tokens = await self._sign_in.provider.refresh(token)
            roles = await self._sign_in.confirmed(tokens, key.person.subject)
        except (GrantRefused, Unauthorized, Forbidden) as refusal:
            await self._end(session, key, str(refusal))
            return
        except GatewayError as error:
            _LOGGER.warning("the session of %s is not confirmed yet: %s", key.name, error.detail)
            return
        if roles is not None:
            now, given = self._clock.now(), roles
            await self._store.change(key.id, lambda one: lifecycle.take_roles(one, given, now))
        confirmed = self._sign_in.confirmation(tokens.refresh_token or token)
        await self._sessions.confirm(session.id, confirmed)

    async def _end(self, session: Session, key: Key, why: str) -> None:
        _LOGGER.info("a session of %s ends, as the provider does not confirm it: %s", key.name, why)
        await self._sessions.end([session.id])
        self._record.log(
            Access(
                at=self._clock.now(), action=SIGNED_OUT, reason="not_confirmed", key=key,
                session=session.id, address=session.address, client=session.client,
            )
        )  # fmt: skip
