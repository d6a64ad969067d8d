"""Destinations of the type `file`: segments of events in a folder of the machine.

Each event is in the files once, whatever happens: the file itself knows which was the last.
"""

from __future__ import annotations

import asyncio
import errno
from bisect import bisect_right
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from gateway.cursor import parse_cursor
from gateway.delivery.files.folder import is_inside
from gateway.delivery.files.segments import Rotation, Segments, Stopping
from gateway.delivery.outlets.outlet import (
    SUCCESS,
    Confirmation,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutletLimits,
    offset_of,
)
from gateway.delivery.outlets.outlet_plan import (
    EventFormat,
    OutletKind,
    OutletPlan,
    invalid_setting,
)

# Failures that last until somebody changes something.
_OF_THE_FOLDER = (
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP,
)  # fmt: skip
_WITH_CURSOR = ("native", "cloudevents", "ocsf", "ecs")


class FileSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where files lie below the setting `destinations.folder`, and when one is closed."""

    folder: str = ""
    max_bytes: int = 256 << 20
    max_seconds: int = 3600


def check(settings: FileSettings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that do not go together."""
    if not is_inside(settings.folder):
        raise invalid_setting(
            "folder", "a path below destinations.folder, such as audit/siem, without .. and links"
        )
    if not 1 << 16 <= settings.max_bytes <= 1 << 40:
        raise invalid_setting("max_bytes", "65536 to 1099511627776 bytes")
    if not 1 <= settings.max_seconds <= 31 * 86400:
        raise invalid_setting("max_seconds", "1 to 2678400 seconds")
    if format.name not in _WITH_CURSOR:
        raise invalid_setting(
            "folder",
            f"lines of {format.name} do not say where a file ends; take one of "
            + ", ".join(_WITH_CURSOR),
        )


class FileOutlet:
    """Outlet of the type `file`. What it does with the disk runs in a thread of its own; a call
    that was cancelled is over before the next one begins."""

    confirmation: Confirmation = "stored"
    limits = OutletLimits(5000, 4 << 20, 1 << 20)

    def __init__(self, plan: OutletPlan) -> None:
        self._plan = plan
        self.verbatim = plan.verbatim
        settings: FileSettings = plan.settings
        assert plan.folder is not None, "the type gets a folder"
        rotation = Rotation(settings.max_bytes, settings.max_seconds)
        # What is sent again goes into files of its own, as these say how far the delivery is; no
        # destination can have their name.
        name = f"{plan.name}~replay" if plan.replay else plan.name
        self._segments = Segments(plan.folder, settings.folder, name, rotation)
        self._thread = ThreadPoolExecutor(1, "destination-file")
        # Whether the files are open, and the last event in them: its epoch and offset.
        self._open = False
        self._cursor = ""
        self._last = ("", 0)

    async def open(self) -> DeliveryVerdict:
        verdict = await self._run(self._recover)
        return verdict._replace(cursor=self._cursor or None)

    def encode(self, outbound: OutboundEvent) -> bytes:
        return self._plan.formatted(outbound)

    def stage(self, batch: Sequence[EncodedEvent]) -> None:
        """Nothing takes long before it is written."""

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        now = self._plan.clock.now()
        return await self._run(lambda: self._append(batch, now))

    async def confirm(self, receipt: object) -> DeliveryVerdict:
        return SUCCESS

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        return await self._run(lambda: self._probe(encoded.body))

    async def close(self) -> None:
        if self._segments.stopping:
            return
        self._segments.stopping = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._segments.close)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], DeliveryVerdict]) -> DeliveryVerdict:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._guarded, work)

    # In the thread

    def _guarded(self, work: Callable[[], DeliveryVerdict]) -> DeliveryVerdict:
        """Result of the work; after a failure the files are opened anew."""
        try:
            return work()
        except Stopping:
            return DeliveryVerdict(DeliveryResult.TRANSIENT, kind="stopped")
        except BlockingIOError:
            message = "another process writes to these files"
            return DeliveryVerdict(DeliveryResult.TRANSIENT, kind="disk", message=message)
        except OSError as error:
            self._open = False
            lasting = error.errno in _OF_THE_FOLDER
            result = DeliveryResult.CONFIG if lasting else DeliveryResult.TRANSIENT
            return DeliveryVerdict(result, kind="disk", message=error.strerror or "I/O error")

    def _recover(self) -> DeliveryVerdict:
        self._open = False
        self._cursor = self._segments.recover()
        if self._plan.replay:
            self._cursor = ""
        self._last = parse_cursor(self._cursor) if self._cursor else ("", 0)
        self._open = True
        return SUCCESS

    def _append(self, batch: Sequence[EncodedEvent], now: float) -> DeliveryVerdict:
        if not self._open:
            self._recover()
        # What an attempt has written whose answer nobody heard comes again.
        new = self._new(batch)
        if new:
            self._segments.append([one.body for one in new], new[0].cursor, now)
            self._cursor = new[-1].cursor
            self._last = parse_cursor(self._cursor)
        return SUCCESS._replace(duplicates=len(batch) - len(new))

    def _new(self, batch: Sequence[EncodedEvent]) -> Sequence[EncodedEvent]:
        """Events of a batch, which is in order and of one log, that are not in the files."""
        epoch, last = self._last
        if parse_cursor(batch[0].cursor)[0] != epoch:
            return batch
        known = bisect_right(batch, last, key=lambda one: offset_of(one.json))
        return batch[known:] if known else batch

    def _probe(self, data: bytes) -> DeliveryVerdict:
        self._segments.probe(data)
        return SUCCESS


FILE = OutletKind(FileSettings, FileOutlet, check, schemes=())
