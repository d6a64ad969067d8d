"""Live streams of all processes of a gateway: their list, and the end of one by an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from gateway.access.keyring import Keyring
from gateway.access.keys.change import key_urn, other_change
from gateway.access.keys.key_store import UnrecordedChanges
from gateway.access.keys.operator import Actor, Operator, actor_name, operator_of
from gateway.clock import Clock, Moment, format_time
from gateway.cursor import Cursor, advance, distance, format_cursor, later, parse_cursor
from gateway.errors import Conflict, NotFound, Unavailable
from gateway.filters.overlap import one_overlaps
from gateway.filters.pattern import ANY
from gateway.filters.scope import SEPARATORS
from gateway.fleet.processes import Processes
from gateway.json_members import about
from gateway.log.lag import recorded_behind
from gateway.log.newest import newest_recorded
from gateway.log.ports import Log
from gateway.scheduling.loop_work import Stretch
from gateway.streaming.live.hub import Hub
from gateway.streaming.live.subscription import State, Subscription
from gateway.wire.framing import ENDED_BY_OPERATOR

StreamState = Literal["live", "replaying", "stalled"]
StreamOrder = Literal["lag", "opened", "bytes"]
STATES: tuple[StreamState, ...] = ("live", "replaying", "stalled")
ORDERS: tuple[StreamOrder, ...] = ("lag", "opened", "bytes")
# Bytes of rows in the answer of one process; parameters may be long.
_MOST_BYTES = 1 << 20
_LIST, _END = "streams.list", "streams.end"
_DESTINATION = "destination"


class LiveStreamAnswer(msgspec.Struct, kw_only=True):
    """One live stream."""

    id: str
    key: Annotated[str, about("The id of its key.")]
    name: str
    owner: str
    transport: str
    address: str | None
    client: str | None
    replica: str
    worker: int
    opened_at: Moment
    state: StreamState
    cursor: Cursor
    lag_events: Annotated[int, about("Events of the log behind its cursor, whoever sees them.")]
    lag_seconds: Annotated[float, about("From its cursor to the newest event, by `recorded_at`.")]
    sent_events: int
    sent_bytes: int
    unsent_bytes: Annotated[int, about("Bytes that wait here for its peer.")]
    parameters: Annotated[Any, about("What it asked for.")]
    ends_at: Annotated[Moment | None, about("When it ends, or its key, if nothing is done.")]


class LiveStreamList(msgspec.Struct, kw_only=True):
    """Live streams of all processes; `missing` are those that did not answer within a second."""

    streams: list[LiveStreamAnswer]
    total: Annotated[int, about("How many there are, whatever the limit.")]
    partial: bool
    missing: list[str]


class LiveStreamQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Streams that are wanted, and the most of them."""

    key: str | None = None
    tenant: str | None = None
    transport: str | None = None
    state: str | None = None
    replica: str | None = None
    order: StreamOrder = "lag"
    limit: int = 100


class _LocalStreams(msgspec.Struct):
    streams: list[LiveStreamAnswer]
    total: int


class _EndRequest(msgspec.Struct, frozen=True):
    id: str
    reason: str
    by: str
    operator: Operator | None


class _Ended(msgspec.Struct):
    stream: LiveStreamAnswer | None = None
    is_destination: bool = False


_ENCODE = msgspec.json.encode
_QUERY = msgspec.json.Decoder(LiveStreamQuery)
_LOCAL = msgspec.json.Decoder(_LocalStreams)
_END_REQUEST = msgspec.json.Decoder(_EndRequest)
_ENDED = msgspec.json.Decoder(_Ended)
# Most behind, longest open, or most bytes first.
_RANKS: dict[StreamOrder, Callable[[LiveStreamAnswer], float | str]] = {
    "lag": lambda stream: -stream.lag_events,
    "opened": attrgetter("opened_at"),
    "bytes": lambda stream: -stream.sent_bytes,
}


class LiveStreams:
    """Use cases of operators over live streams, and the answers of this process to others."""

    def __init__(
        self,
        processes: Processes,
        hub: Hub,
        log: Log,
        keyring: Keyring,
        store: UnrecordedChanges,
        clock: Clock,
    ) -> None:
        self._processes = processes
        self._hub = hub
        self._log = log
        self._keyring = keyring
        self._store = store
        self._clock = clock
        processes.answer(_LIST, self._answer_list)
        processes.answer(_END, self._answer_end)

    async def all(self, query: LiveStreamQuery, by: str = "") -> LiveStreamList:
        """Streams of all processes, for the key `by`."""
        replies = await self._processes.ask(_LIST, _ENCODE(query), by=by)
        stretch, total = Stretch(), 0
        found: list[LiveStreamAnswer] = []
        told, unknown = replies.read(_LOCAL)
        for local in told:
            found += local.streams
            total += local.total
            await stretch.rest()
        streams = nsmallest(query.limit, found, key=_RANKS[query.order])
        await self._measure(streams)
        missing = [
            one.name for one in unknown if query.replica in (None, one.replica)
        ]  # fmt: skip
        return LiveStreamList(
            streams=streams, total=total, partial=bool(missing), missing=sorted(missing)
        )

    async def end(self, stream_id: str, reason: str, by: Actor) -> LiveStreamAnswer:
        """End a stream of any process with 4005, and return it as it was. It is recorded before."""
        process = await self._processes.named(stream_id.partition("-")[0])
        if process is None:
            raise _unknown()
        request = _EndRequest(stream_id, reason, actor_name(by), operator_of(by))
        asked_by = actor_name(by)
        replies = await self._processes.ask(_END, _ENCODE(request), by=asked_by, to=process)
        told, _ = replies.read(_ENDED)
        if not told:
            raise Unavailable(
                f"{process.name}, which has this stream, does not answer; look whether it is still "
                "there, and try again",
                code="replica_silent",
            )
        [ended] = told
        if ended.is_destination:
            raise Conflict(
                "this is the stream of a destination, which would open it again: pause the "
                "destination",
                code="destination_stream",
            )
        if ended.stream is None:
            raise _unknown()
        await self._measure([ended.stream])
        return ended.stream

    async def _answer_list(self, body: bytes) -> bytes:
        """Streams of this process, in JSON."""
        query, stretch = _QUERY.decode(body), Stretch()
        if query.replica not in (None, self._processes.own.replica):
            return _ENCODE(_LocalStreams([], 0))
        chosen: list[tuple[float, int, Subscription]] = []
        present = self._hub.subscriptions if query.key is None else self._hub.streams_of(query.key)
        for stream in list(present):
            await stretch.rest()
            if stream.state is not State.ENDED and self._matches(stream, query):
                chosen.append((self._rank(stream, query.order), stream.number, stream))
        first = nsmallest(query.limit, chosen)
        await stretch.rest()
        parts: list[bytes] = []
        size = 0
        for _, _, stream in first:
            await stretch.rest()
            if stream.state is not State.ENDED:
                parts.append(_ENCODE(self._row(stream)))
                size += len(parts[-1])
                if size > _MOST_BYTES:
                    break
        return b'{"total":%d,"streams":[%b]}' % (len(chosen), b",".join(parts))

    async def _answer_end(self, body: bytes) -> bytes:
        """End a stream of this process; answer with what it was, in JSON."""
        request = _END_REQUEST.decode(body)
        stream = self._stream(request.id)
        if stream is None:
            return _ENCODE(_Ended())
        if stream.interest.wire.transport == _DESTINATION:
            return _ENCODE(_Ended(is_destination=True))
        row = self._row(stream)
        await self._store.record_later(
            other_change(
                "stream.ended", [key_urn(stream.key_id), f"stream:{row.id}"],
                by=request.by, at=self._clock.now(), reason=request.reason,
                operator=request.operator,
                data={
                    "key": row.key, "name": row.name, "stream": row.id, "transport": row.transport,
                    "replica": row.replica, "code": ENDED_BY_OPERATOR.code,
                    "cursor": row.cursor, "unsent_bytes": row.unsent_bytes,
                },
            )
        )  # fmt: skip
        self._hub.end(stream, ENDED_BY_OPERATOR)
        return _ENCODE(_Ended(row))

    def _stream(self, stream_id: str) -> Subscription | None:
        present: Iterable[Subscription] = self._hub.subscriptions
        return next((one for one in present if self._id(one) == stream_id), None)

    def _id(self, stream: Subscription) -> str:
        return f"{self._processes.own.tag}-{stream.number:x}"

    def _matches(self, stream: Subscription, query: LiveStreamQuery) -> bool:
        return (
            query.transport in (None, stream.interest.wire.transport)
            and (query.state is None or query.state == self._state(stream))
            and (query.tenant is None or _reaches(stream, query.tenant))
        )

    def _state(self, stream: Subscription) -> StreamState:
        if self._hub.stalls(stream):
            return "stalled"
        # Those with a pace or an end of their own read the store for ever.
        current = stream.state is State.LIVE or self._lag(stream) == 0
        return "live" if current else "replaying"

    def _lag(self, stream: Subscription) -> int:
        return distance(self._hub.offset_of(stream), self._log.head)

    def _rank(self, stream: Subscription, order: StreamOrder) -> float:
        if order == "opened":
            return stream.number
        return -self._lag(stream) if order == "lag" else -stream.delivered_bytes

    def _row(self, stream: Subscription) -> LiveStreamAnswer:
        opened, own = stream.opened, self._processes.own
        key = self._keyring.cached(stream.key_id) or (opened and opened.key)
        left = stream.ends_at - self._clock.monotonic()
        ends = min(self._clock.now() + left, key.ends_at if key else float("inf"))
        return LiveStreamAnswer(
            id=self._id(stream), key=stream.key_id, name=key.name if key else "",
            owner=key.owner if key else "", transport=stream.interest.wire.transport,
            address=stream.address or "", client=opened.client if opened else "",
            replica=own.replica, worker=own.worker,
            opened_at=format_time(opened.at) if opened else "", state=self._state(stream),
            cursor=format_cursor(self._log.epoch, self._hub.offset_of(stream)),
            lag_events=self._lag(stream), lag_seconds=0.0, sent_events=stream.delivered,
            sent_bytes=stream.delivered_bytes, unsent_bytes=stream.sink.unsent,
            parameters=msgspec.Raw((opened.parameters if opened else "").encode() or b"{}"),
            ends_at=None if ends == float("inf") else format_time(ends),
        )  # fmt: skip

    async def _measure(self, streams: Iterable[LiveStreamAnswer]) -> None:
        """Set the seconds of lag: from the event at each cursor to the newest one."""
        newest = await newest_recorded(self._log) / 1_000_000
        known: dict[int, float] = {}
        for stream in streams:
            if not stream.lag_events:
                continue
            _, offset = parse_cursor(stream.cursor)
            # Of events that are gone, or of the beginning, the first one that is there.
            position = later(advance(offset, -1), self._log.floor)
            if position not in known:
                recorded = await recorded_behind(self._log, position)
                known[position] = newest if recorded is None else recorded
            stream.lag_seconds = round(max(0.0, newest - known[position]), 3)


def _reaches(stream: Subscription, tenant: str) -> bool:
    """Whether the stream may be sent events of a tenant."""
    query, separator = stream.interest.query, SEPARATORS["tenant"]
    return one_overlaps(query.wanted.tenant or (ANY,), tenant, separator) and any(
        one_overlaps(rule.scope.tenant or (ANY,), tenant, separator) for rule in query.view.rules
    )


def _unknown() -> NotFound:
    return NotFound(
        "there is no open stream with this id; `GET /v1/streams` lists them", code="unknown_stream"
    )
