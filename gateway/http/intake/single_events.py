"""Ingest of requests of one event each whose heads are known: without request, task and response.

    IngestLine -> take: key, decision, decoding, the budget of bytes -> Writer.put
               <- one write of answers for the requests of a connection, once they are durable
    Writer.on_store -> one access for all that a head has sent in a group: log, usage, metrics

Only what will be stored is taken. Whatever is to be refused, waited for or divided goes to aiohttp
and its handler, which says why: there is one place for each refusal.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import lru_cache

import msgspec
from aiohttp import web

from gateway.access.keys.key import Key
from gateway.access.policy.decision import Allowed, Denied, compiled
from gateway.access.usage.access import DENIED, INGESTED, Access
from gateway.cursor import advance, format_cursor
from gateway.errors import GatewayError
from gateway.event import Draft
from gateway.http.pipelining.ingest_line import IngestLine
from gateway.http.pipelining.known_heads import KnownHead, KnownHeads, MayWrite
from gateway.http.request.access_logging import note_refusal
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.response.answer import encoded
from gateway.http.response.answers import Ingested
from gateway.http.response.problem import internal_error, problem
from gateway.log.ports import Appended
from gateway.oversight.detection.signals import id_conflict

SINGLE_EVENTS: web.AppKey[SingleEvents] = web.AppKey("single_events")
_ENCODE = msgspec.json.Encoder().encode
_ROUTE = "POST /v1/events"
# How long the rest of a message may take before aiohttp waits for it.
_REST_SECONDS = 0.05
# Headers by which a request is more than its event.
_SPECIAL = (
    "Content-Encoding", "Expect", "Origin", "Prefer", "Sec-WebSocket-Protocol",
    "traceparent", "Transfer-Encoding", "Upgrade",
)  # fmt: skip


class _InFlight:
    """Requests of one connection on their way into the log. The completion of their batches."""

    __slots__ = ("began", "count", "head", "line", "owner", "size")

    def __init__(
        self, owner: SingleEvents, line: IngestLine, head: KnownHead, count: int, size: int
    ) -> None:
        self.owner = owner
        self.line = line
        self.head = head
        self.count = count
        self.size = size
        self.began = owner.context.clock.monotonic()

    def done(self) -> bool:
        return False

    def set_result(self, result: list[Appended], /) -> None:
        # The writer has other requests to answer.
        try:
            self.owner.stored(self, result)
        except Exception as error:
            self.owner.report(self.line, error)

    def set_exception(self, exception: BaseException, /) -> None:
        try:
            self.owner.failed(self, exception)
        except Exception as error:
            self.owner.report(self.line, error)


class SingleEvents:
    """The intake of one process."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._heads = KnownHeads()
        # What became of the requests since the last commit, by head.
        self._stored: dict[KnownHead, list[Appended]] = {}
        # The connections that wait for the rest of a message, and those that did so at the last
        # look, each with the number of requests that were taken from it before.
        self._waiting: dict[IngestLine, int] = {}
        self._waited: dict[IngestLine, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        context.writer.on_store(self._log)

    def find(self, peer: bytes, head: bytes) -> tuple[KnownHead | None, int]:
        """What is known of a head, and the length that it declares; 0 where it is not known."""
        return self._heads.find(peer, head)

    def learn(self, request: web.Request, admission: Admission, *, lines: bool) -> None:
        """Keep what the head of a request means, whose single event was stored."""
        line: IngestLine | None = getattr(request.protocol, "line", None)
        peer, head = (b"", b"") if line is None else line.head
        if not head or not self._may_be_known(request, admission.key):
            return
        access, connections = admission.access, self.context.connections
        self._heads.learn(
            peer,
            head,
            KnownHead(
                key=admission.key,
                secrets=admission.peppers,
                address=access.address,
                client=access.client,
                subject=connections.forwarded_subject(request),
                lines=lines,
            ),
        )

    def _may_be_known(self, request: web.Request, key: Key) -> bool:
        """Whether all other requests with this head are like this one."""
        limits = self.context.limits
        return (
            request.version >= (1, 1)
            and request.keep_alive
            and not request.query_string
            and not any(name in request.headers for name in _SPECIAL)
            # They are counted by all replicas, which may have to be waited for.
            and not (limits.limits_addresses or limits.limits_requests(key))
            # CORS adds headers of its own.
            and not request.app.on_response_prepare
        )

    def take(self, line: IngestLine, head: KnownHead, bodies: list[bytes]) -> int:
        """Queue requests; how many of them: aiohttp shall have the next one."""
        try:
            return self._take(line, head, bodies)
        except Exception as error:
            self.report(line, error)
            return 0

    def _take(self, line: IngestLine, head: KnownHead, bodies: list[bytes]) -> int:
        context, key_id = self.context, head.key.id
        may_write = self._admit(head)
        if may_write is None or not self._may_open(line, head.subject):
            return 0
        in_flight, followed = context.in_flight, context.followed
        batches: list[list[Draft]] = []
        size = 0
        for body in bodies:
            draft = context.decoder.decode_one(body, lines=head.lines)
            if draft is None or not may_write(draft):
                break
            if followed is not None and draft.id.startswith(followed.prefix):
                break
            if not in_flight.fits(key_id, size + len(body)):
                break
            batches.append([draft])
            size += len(body)
        if not batches:
            return 0
        taken = _InFlight(self, line, head, len(batches), size)
        try:
            context.writer.put(batches, taken)
        except GatewayError:
            # It is full, or closed: the handler says so.
            return 0
        in_flight.take(key_id, size)
        if head.subject and not line.subject:
            line.subject = head.subject
            context.connections.count(head.subject)
        return len(batches)

    def _admit(self, head: KnownHead) -> MayWrite | None:
        """What the key of a head may write now; None if the handler has to look."""
        context, key = self.context, head.key
        keyring = context.keyring
        if keyring.cached(key.id) is not key or keyring.peppers is not head.secrets:
            return None
        if key.throttled_until is not None or not context.admission.knowledge.fresh:
            return None
        decision = keyring.decide(key, "ingest", head.address or None)
        if decision is not head.decision:
            head.decision, head.may_write = decision, _test_of(decision)
        return head.may_write

    def _may_open(self, line: IngestLine, subject: str) -> bool:
        """Whether the client that a proxy named may have this connection, too."""
        if not subject or subject == line.subject:
            return True
        return not line.in_flight and not self.context.connections.is_full(subject)

    def report(self, line: IngestLine, error: Exception) -> None:
        """Report a bug, and close its connection without an answer."""
        self.context.tasks.report("request", error)
        line.abandon()

    def stored(self, taken: _InFlight, stored: list[Appended]) -> None:
        """Answer requests whose events are durable."""
        self._release(taken)
        epoch, now = self.context.log.epoch, int(time.time())
        answers = [
            format_cursor(epoch, one.first).encode().join(_answer(epoch, one.accepted, now))
            for one in stored
        ]
        self._stored.setdefault(taken.head, []).extend(stored)
        self._end(taken, answers, 201, "")

    def failed(self, taken: _InFlight, exception: BaseException) -> None:
        """Answer requests whose events were not stored, or perhaps."""
        self._release(taken)
        context, head = self.context, taken.head
        answers = []
        for _ in range(taken.count):
            access = self._new_access(head)
            if isinstance(exception, GatewayError):
                error = exception
            else:
                error = internal_error(access.request_id)
            note_refusal(access, error)
            context.access_log.log(access)
            if error is exception:
                denials = int(access.action == DENIED)
                context.usage.count(head.key.id, requests=1, denials=denials)
            answers.append(problem(error, access.request_id).encoded())
        if isinstance(exception, GatewayError):
            self._end(taken, answers, exception.status, exception.code)
        else:
            context.tasks.report("request", exception)
            self._end(taken, answers, 500, "")

    def _release(self, taken: _InFlight) -> None:
        """Give back what the requests held."""
        line, context = taken.line, self.context
        context.in_flight.give_back(taken.head.key.id, taken.size)
        if line.subject and line.in_flight == taken.count:
            context.connections.forget(line.subject)
            line.subject = ""

    def _end(self, taken: _InFlight, answers: list[bytes], status: int, code: str) -> None:
        context = self.context
        seconds = context.clock.monotonic() - taken.began
        context.requests.observe(_ROUTE, status, code, seconds, taken.count)
        taken.line.answer(taken.count, b"".join(answers))

    def _new_access(self, head: KnownHead) -> Access:
        return Access(
            at=self.context.clock.now(),
            action=INGESTED,
            key=head.key,
            attempted="ingest",
            route=_ROUTE,
            address=head.address,
            client=head.client,
            request_id=f"{random.getrandbits(64):016x}",
        )

    def _log(self) -> None:
        """Log and count what was stored with one commit."""
        stored_by, self._stored = self._stored, {}
        for head, stored in stored_by.items():
            access = self._new_access(head)
            access.times = len(stored)
            access.events = sum([one.accepted for one in stored])
            access.duplicates = access.times - access.events
            access.begin = advance(min([one.first for one in stored]), -1)
            access.end = max([one.last for one in stored])
            note_conflicts(self.context, access, sum([one.conflicts for one in stored]))
            self.context.requests.accepted += access.events
            self.context.requests.duplicates += access.duplicates
            self.context.access_log.log(access)
            self.context.usage.count(access.key_id, requests=access.times)

    def await_rest(self, line: IngestLine) -> None:
        """Call `line.give_way` in a moment."""
        self._waiting[line] = line.taken
        if self._timer is None:
            self._look_later()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_REST_SECONDS, self._look)

    def _look(self) -> None:
        """Let aiohttp have what has waited through a whole pause."""
        waited, self._waited, self._waiting = self._waited, self._waiting, {}
        self._timer = None
        for line, taken in waited.items():
            if line.taken == taken:
                line.give_way()
        if self._waited or self._waiting:
            self._look_later()


@lru_cache(4)
def _answer(epoch: str, accepted: int, now: int) -> list[bytes]:
    """Answer to a request of one event in the second `now`, cut where its cursor stands."""
    cursor = format_cursor(epoch, 0)
    body = _ENCODE(Ingested(accepted, 1 - accepted, cursor, cursor))
    return encoded(body, "application/json", 201, "Created").split(cursor.encode())


def answer_members(epoch: str, appended: Appended) -> tuple[int, int, str, str]:
    """The members of `Ingested`."""
    first, last = format_cursor(epoch, appended.first), format_cursor(epoch, appended.last)
    return appended.accepted, appended.duplicates, first, last


def _test_of(decision: Allowed | Denied) -> MayWrite:
    """Whether a draft may be written; what is denied is never taken."""
    return compiled(decision.view) if isinstance(decision, Allowed) else lambda draft: False


def note_conflicts(context: Context, access: Access, conflicts: int) -> None:
    """Its sender is told nothing: the other event may be one that it may not see."""
    if conflicts and access.key is not None:
        signal = id_conflict(access, conflicts)
        context.detector.profiles.add_signal(access.key.id, signal)
