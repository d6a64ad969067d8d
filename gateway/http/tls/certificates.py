"""The certificate that new connections get, and its replacement when the files change.

A new pair is loaded into a context of its own. Only when all of it is right do connections that
begin from then on get that context; open ones keep theirs, and a refused pair leaves the earlier
one in place. A pair of which one file is written and the other is not yet is one that is refused
for a moment: it is told of only if it stays.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from gateway.clock import Clock, format_time
from gateway.http.tls.certificate import (
    CertificateRefused,
    ServerCertificate,
    expiry_warning,
    is_open_to_others,
    load_certificate,
)
from gateway.http.tls.handshakes import Handshakes
from gateway.http.tls.transport import TlsTransport
from gateway.settings.tls import TlsSettings

POLL_SECONDS = 1.0
# How long a pair may be half written.
GRACE_SECONDS = 3.0
# Before its end a certificate should have been replaced: as many seconds, or this part of its life.
_LOGGER = logging.getLogger(__name__)

Stamps = tuple[tuple[int, int, int] | None, ...]
Refused = Callable[[CertificateRefused], Awaitable[None]]


class Certificates:
    """The certificate of the listener of one process. Call `run` to have it follow its files."""

    def __init__(self, tls: TlsSettings, clock: Clock, on_refused: Refused) -> None:
        """Raises `CertificateRefused`."""
        self._tls = tls
        self._clock = clock
        self._on_refused = on_refused
        self._files = [file for file in (tls.certificate, tls.key, tls.client_ca) if file]
        self._seen = self._stamps()
        self._current: ServerCertificate = load_certificate(tls)
        self._handshakes = Handshakes()
        self._asked = False
        # Of the pair that is refused now: since when, and whether that has been told.
        self._refused: CertificateRefused | None = None
        self._since = 0.0
        self._told = ""
        if is_open_to_others(tls.key):
            _LOGGER.warning(
                "server.tls.key: every user of this machine can read %s; let the gateway's user "
                "alone read it (mode 0400, or 0440 for its group)", tls.key,
            )  # fmt: skip

    @property
    def expires(self) -> float:
        """End of the current certificate in seconds since 1970."""
        return self._current.expires

    @property
    def context(self) -> ssl.SSLContext:
        """Context of the next connection."""
        return self._current.context

    def protect(self, protocol: asyncio.Protocol) -> asyncio.Protocol:
        """Protocol of a TCP connection over which `protocol` speaks encrypted."""
        return TlsTransport(protocol, self.context, self._handshakes)

    def close(self) -> None:
        """End the handshakes that are not finished."""
        self._handshakes.close()

    def warnings(self) -> Iterator[tuple[str, str]]:
        """What an operator should know, without names of files: a code, and a line each."""
        if self._refused is not None and self._told:
            yield (
                "certificate_refused",
                f"the new certificate is refused ({self._refused.members['reason']}), the earlier "
                "one serves on: the log of the gateway says what to do",
            )
        if line := expiry_warning(self._current, self._clock.now()):
            yield "certificate_expiring", line

    def reload(self) -> None:
        """Have the files read again within a second, whether they have changed or not."""
        self._asked = True

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await self._clock.sleep(POLL_SECONDS)
            await self.poll()

    async def poll(self) -> None:
        """Look at the files once."""
        asked, self._asked = self._asked, False
        stamps = await asyncio.to_thread(self._stamps)
        if stamps == self._seen and self._refused is None and not asked:
            return
        try:
            loaded = await asyncio.to_thread(load_certificate, self._tls)
        except CertificateRefused as refused:
            await self._refuse(refused, at_once=asked)
            return
        # Stamps of before: what was written meanwhile is seen at the next poll.
        self._seen = stamps
        self._current = loaded
        self._refused, self._told = None, ""
        _LOGGER.info(
            "new connections get the certificate in %s, which expires at %s",
            self._tls.certificate, format_time(loaded.expires),
        )  # fmt: skip

    async def _refuse(self, refused: CertificateRefused, *, at_once: bool) -> None:
        now = self._clock.monotonic()
        if self._refused is None:
            self._since = now
        self._refused = refused
        if self._told == refused.detail or not (at_once or now - self._since >= GRACE_SECONDS):
            return
        self._told = refused.detail
        _LOGGER.error(
            "the new certificate is refused, the earlier one serves on: %s", refused.detail,
            extra={"code": refused.members["reason"]},
        )  # fmt: skip
        await self._on_refused(refused)

    def _stamps(self) -> Stamps:
        """What tells one version of the files from another."""
        return tuple(map(_stamp, self._files))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
