"""The streaming way in: events come in as lines, and lines of the answer say how many are durable.

    body -> whole lines -> decoded, checked -> pending group -> Writer.put -> durable -> a line

Lines are read and decoded while the group before them is on its way into the log. Only one group
is, so that nothing is stored behind what was not. What is read and not yet durable is bounded;
beyond that nothing is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

import msgspec
from aiohttp import HttpVersion11, web
from aiohttp.http_writer import StreamWriter

from gateway.access.usage.access import DENIED, INGESTED
from gateway.cursor import format_cursor
from gateway.errors import (
    GatewayError,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    Unavailable,
    UnsupportedMediaType,
)
from gateway.http.intake.sorted_items import (
    MOST_ERRORS,
    SortedItems,
    check_granted,
    note_stored,
    sort_items,
)
from gateway.http.request.access_logging import note_refusal
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.answers import IngestProgress
from gateway.http.response.problem import internal_error, problem_members
from gateway.ingest.growing_lines import GrowingLines
from gateway.ingest.marked import Lenient
from gateway.ingest.strict_json import Refused
from gateway.log.ports import Appended

# Longest time until a change of the key is noticed.
_LOOK_SECONDS = 0.4
# Bytes that are read and not yet durable.
_MOST_HELD = 1 << 20
# Room to report why an item is refused, or to store a part of it; stored events are far smaller.
_MOST_LINE = 2 << 20
_TOO_LONG = f"has more than {_MOST_LINE} bytes"
# Bytes of lines that the peer has not read; beyond that nothing is read from it, either, and it is
# looked at again after these seconds.
_MOST_UNREAD = 64 * 1024
_UNREAD_SECONDS = 0.05
# How long the peer may take to read the last lines.
_LAST_SECONDS = 2.0
# How long a refused peer may go on sending what is not kept.
_LINGER_SECONDS = 0.5
_BOM = b"\xef\xbb\xbf"
_ENCODE = msgspec.json.Encoder().encode
_REFUSED = (
    "the items named in `errors`, counted from 0, are refused; the first `upto` items are stored; "
    "mend or remove what is refused, and send again from there"
)


class _Group(msgspec.Struct):
    """Items that are stored together or not at all. `size`: their bytes in the body."""

    items: int = 0
    size: int = 0
    sorted: SortedItems = msgspec.field(default_factory=SortedItems)
    # What of it the key may not write, for detection.
    forbidden: dict[str, None] = {}
    probed: dict[str, None] = {}

    def add(self, found: SortedItems, items: int, size: int) -> None:
        self.items += items
        self.size += size
        self.sorted.good += found.good
        self.sorted.marked += found.marked
        self.sorted.rejected += found.rejected
        self.sorted.truncated += found.truncated


class IngestStream(web.StreamResponse):
    """Answer that takes the body of its request while it is sent."""

    def __init__(
        self,
        request: web.Request,
        context: Context,
        admission: Admission,
        *,
        mapped: bool,
        lenient: bool,
    ) -> None:
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise UnsupportedMediaType(
                "a body that is answered while it arrives cannot be compressed; send it as it is",
                code="unsupported_encoding",
            )
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if lenient and not request.query.get("on_invalid"):
            headers["Preference-Applied"] = "handling=lenient"
        super().__init__(headers=headers)
        self.content_type = "application/x-ndjson"
        if request.version < HttpVersion11:
            # Nothing else says where the answer ends.
            self.force_close()
        # Logged now as a request that has sent nothing; its groups are logged one by one.
        admission.access.action = INGESTED
        self.request = request
        self.context = context
        self.admission = admission
        self.mapped = mapped
        self.lenient = lenient
        self.holding = admission.holding(request)
        self.held = 0
        self.body_lines = GrowingLines(_MOST_LINE)
        self.pending = _Group()
        # The group on its way into the log, and why one was not stored.
        self.storing: asyncio.Future[list[Appended]] | None = None
        self.failure: BaseException | None = None
        # Lines that are to be sent.
        self.lines: list[bytes] = []
        self.decoded = self.upto = self.accepted = self.duplicates = 0
        self.last_cursor = format_cursor(context.log.epoch, context.log.head)
        # Items since the last ones that counted as a request.
        self.uncounted = 0
        self.waiting: asyncio.Timeout | None = None
        self.woken = False
        self.heard_at = self.checked_at = context.clock.monotonic()

    async def write_eof(self, data: bytes = b"") -> None:
        """Take the whole body, and end the answer."""
        error: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
        try:
            await self.take_body()
        except GatewayError as refused:
            error = self.refusal(refused)
        except ConnectionError:
            raise
        except Exception as failure:
            self.context.tasks.report("request", failure)
            error = self.refusal(internal_error(self.admission.access.request_id))
        line = IngestProgress(
            self.upto,
            self.last_cursor,
            accepted=self.accepted,
            duplicates=self.duplicates,
            error=error,
        )
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await super().write(b"".join([*self.lines, _ENCODE(line), b"\n"]))
                await super().write_eof(data)
        except TimeoutError:
            if self.request.transport is not None:
                self.request.transport.abort()
            raise ConnectionResetError("the peer does not read its answer") from None
        if error is not msgspec.UNSET:
            await self.close()

    async def close(self) -> None:
        """Close the connection, without a reset that may overtake the answer."""
        self.force_close()
        transport = self.request.transport
        if transport is not None and transport.can_write_eof():
            with contextlib.suppress(OSError):  # It is gone already.
                transport.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self.request.content.readany():
                    pass
        self.request.protocol.force_close()

    async def take_body(self) -> None:
        """Store all of the body. Raises why not, once what came before is durable."""
        try:
            await self.receive()
        except GatewayError:
            await self.settle()
            raise
        await self.settle()

    async def receive(self) -> None:
        clock, limit = self.context.clock, self.context.settings.server.body_timeout
        while True:
            now = clock.monotonic()
            if not self.context.ready:
                raise Unavailable(
                    "the gateway is stopping; send again from `upto`",
                    code="stopping",
                    retry_after=2,
                )
            if now - self.checked_at > _LOOK_SECONDS:
                await self.check_key()
            await self.put()
            has_room = self.held <= _MOST_HELD or self.is_settled
            piece = await self.wait(read=has_room)
            if piece is None:
                if not has_room:
                    self.heard_at = now
                elif now - self.heard_at > limit:
                    raise RequestTimeout(
                        f"nothing came for {limit:g} seconds; send an empty line now and then"
                    )
                continue
            if not piece:
                break
            self.heard_at = now
            await self.hold(len(piece))
            dropped = self.body_lines.dropped
            for text, is_long in self.body_lines.add(piece):
                await self.decode(text, is_long)
            if self.body_lines.is_long and not self.lenient:
                raise PayloadTooLarge(
                    f"the item {self.decoded} {_TOO_LONG}; send smaller ones",
                    code="event_too_large",
                )
            self.give_back(self.body_lines.dropped - dropped)
        await self.decode(*self.body_lines.last())

    @property
    def is_settled(self) -> bool:
        """Whether all that was decoded is durable."""
        return self.storing is None and not self.pending.items

    async def settle(self) -> None:
        """Return once all that was decoded is durable."""
        while True:
            await self.put()
            if self.is_settled:
                return
            await self.wait(read=False)

    async def wait(self, *, read: bool) -> bytes | None:
        """Bytes of the body, none at its end; None if a group was settled, or after a moment."""
        transport = self.request.transport
        unread = transport is not None and transport.get_write_buffer_size() > _MOST_UNREAD
        if self.lines and not unread:
            lines, self.lines = self.lines, []
            # Nobody may be interrupted who waits until the peer reads: see `unread`.
            writer = self.request.writer
            assert isinstance(writer, StreamWriter)
            await writer.write(b"".join(lines), drain=False)
        try:
            # `settled` ends the wait by moving this deadline.
            async with asyncio.timeout(_UNREAD_SECONDS if unread else _LOOK_SECONDS) as timeout:
                self.waiting = timeout
                if self.woken:
                    return None
                if read and not unread:
                    return await self.request.content.readany()
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            pass
        finally:
            self.waiting, self.woken = None, False
        return None

    async def check_key(self) -> None:
        """Raise unless the key may write what it could when the request came."""
        self.checked_at = self.context.clock.monotonic()
        await self.admission.recheck()
        self.context.limits.throttle.check(self.admission.key, lasting=True)

    async def hold(self, size: int) -> None:
        """Take bytes of the key's budget, after waiting for those of this request."""
        while not self.holding.grow(size):
            if self.is_settled:
                # This says why.
                self.holding.take(size)
                break
            await self.put()
            await self.wait(read=False)
        self.held += size

    def give_back(self, size: int) -> None:
        self.held -= size
        self.holding.give_back(size)

    async def decode(self, text: bytes, is_long: bool) -> None:
        """Decode whole lines, or the beginning of one that is too long, and add them to the pending
        group."""
        if not text or text.isspace():
            self.give_back(len(text))
            return
        if self.decoded and text.startswith(_BOM):
            # Only at the beginning of the body it is more than the fault of an item.
            text = b"\n" + text
        context, key, view = self.context, self.admission.key, self.admission.view
        access, options = self.admission.access, {"lines": True, "mapped": self.mapped}
        if self.lenient:
            access = msgspec.structs.replace(access)
            if is_long:
                decoded = Lenient(refused=[(self.decoded, text, Refused("", _TOO_LONG))])
            else:
                decoded = await context.decoder.decode_leniently(
                    text, key.id, most=len(text), first=self.decoded, **options
                )
            items = len(decoded.drafts) + len(decoded.refused)
            found = await sort_items(context, key, view, access, decoded)
            self.pending.forbidden |= dict.fromkeys(access.forbidden)
            self.pending.probed |= dict.fromkeys(access.probed)
        else:
            drafts = await context.decoder.decode(
                text, key.id, most=len(text), first=self.decoded, **options
            )
            items, found = len(drafts), SortedItems(drafts)
            await check_granted(context, view, access, drafts, self.decoded)
        await self.count(items)
        self.decoded += items
        self.pending.add(found, items, len(text))

    async def count(self, items: int) -> None:
        """Count as many requests as these items would need at least."""
        most, limits, key = (
            self.context.settings.ingest.max_request_events,
            self.context.limits,
            self.admission.key,
        )
        self.uncounted += items
        while self.uncounted > most:
            self.uncounted -= most
            if limits.limits_requests(key):
                await limits.admit(self.request, key)

    async def put(self) -> None:
        """Queue the pending group, unless another one is on its way. Raises why that failed."""
        if self.failure is not None:
            raise self.failure
        if not self.pending.items or self.storing is not None:
            return
        await self.check_key()
        group, storing = self.pending, asyncio.get_running_loop().create_future()
        batches = [group.sorted.good, group.sorted.marked]
        try:
            self.context.writer.put(batches if self.lenient else batches[:1], storing)
        except Unavailable as error:
            if error.code != "write_queue_full":
                raise
            # It is tried again after a moment.
            return
        self.pending, self.storing = _Group(), storing
        storing.add_done_callback(partial(self.settled, group))

    def settled(self, group: _Group, storing: asyncio.Future[list[Appended]]) -> None:
        """Note what became of a group, also when the peer has gone meanwhile."""
        self.storing = None
        self.give_back(group.size)
        self.failure = storing.exception()
        if self.failure is None:
            self.note(group, storing.result())
        self.woken = True
        waiting, self.waiting = self.waiting, None
        if waiting is not None and not waiting.expired():
            waiting.reschedule(asyncio.get_running_loop().time())

    def note(self, group: _Group, stored: list[Appended]) -> None:
        context = self.context
        access = msgspec.structs.replace(
            self.admission.access,
            at=context.clock.now(),
            forbidden=tuple(group.forbidden),
            probed=tuple(group.probed),
        )
        good = note_stored(context, access, stored)
        context.access_log.log(access)
        self.upto += group.items
        self.accepted += good.accepted
        self.duplicates += good.duplicates
        self.last_cursor = format_cursor(context.log.epoch, good.last)
        line = IngestProgress(
            self.upto,
            self.last_cursor,
            group.sorted.rejected or (),
            group.sorted.truncated or (),
        )
        self.lines.append(_ENCODE(line) + b"\n")

    def refusal(self, error: GatewayError) -> dict[str, Any]:
        """Members of the problem that ends the answer. It is logged and counted."""
        context, request_access = self.context, self.admission.access
        access = msgspec.structs.replace(request_access, at=context.clock.now())
        note_refusal(access, error)
        context.access_log.log(access)
        context.usage.count(self.admission.key.id, denials=int(access.action == DENIED))
        context.requests.refuse(access.route, error.status, error.code)
        members = problem_members(error, access.request_id)
        if "errors" in members:
            members |= {"errors": members["errors"][:MOST_ERRORS], "detail": _REFUSED}
        if isinstance(error, Unavailable | TooManyRequests):
            members["retry_after"] = error.retry_after
        return members
