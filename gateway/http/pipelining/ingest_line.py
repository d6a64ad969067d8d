"""Pipelined requests of one connection, cut into those that are taken at once and those of aiohttp.

Sans I/O: bytes come in by `receive`, requests with known heads go to an `Intake`, all else goes to
aiohttp through the `Connection`, in the order in which it came.

    state      bytes that come                                  left when
    direct     known heads: the events are queued, and their    another head comes, and nothing is
               answers come later, in order                     in flight: to aiohttp
    held       are kept                                         answers are out, a turn has come, or
                                                                the message is whole
    aiohttp    rest of its message: to aiohttp; behind it: kept aiohttp has answered: direct
    given up   all to aiohttp                                   never

aiohttp gets one message of `POST /v1/events` at a time, so that what follows it is direct again.
It is given up where nobody knows where a message ends: a head in parts, chunks, another protocol.
"""

from __future__ import annotations

from typing import Protocol

from gateway.http.pipelining.known_heads import (
    END_OF_HEAD,
    MOST_BODY,
    MOST_HEAD,
    REQUEST_LINE,
    KnownHead,
)

# Requests, and bytes of them, that are taken before others have their turn.
_AT_ONCE = 32
_BYTES_AT_ONCE = 32 * 1024
# Requests of one connection that wait for their answers.
MOST_IN_FLIGHT = 1024
# Rounds of the event loop that aiohttp may take to be ready for the next request.
_ROUNDS = 3


class Connection(Protocol):
    """Part of a connection that its line needs."""

    @property
    def parsed(self) -> int:
        """Number of heads that aiohttp has parsed."""

    @property
    def at_rest(self) -> bool:
        """Whether aiohttp has answered all that it has parsed, and holds no part of a message."""

    @property
    def answering(self) -> bool:
        """Whether aiohttp has a request that it has not answered."""

    @property
    def closing(self) -> bool:
        """Whether nothing more is read or answered."""

    def feed(self, data: bytes) -> None:
        """Give bytes to aiohttp."""

    def declared(self) -> int | None:
        """Length of the body of the newest request; None where only its end tells it."""

    def write(self, data: bytes) -> None:
        """Send bytes."""

    def pause(self) -> None:
        """Read nothing for now."""

    def read_on(self) -> None:
        """Read again."""

    @property
    def stalled(self) -> bool:
        """Whether the peer does not take what is written."""

    def soon(self, line: IngestLine) -> None:
        """Call `line.resume` in the next round of the event loop."""

    def turn(self, line: IngestLine) -> None:
        """Call `line.take_turn` in a round of the event loop, one line in each."""

    def finish(self) -> None:
        """Close behind what was written."""


class Intake(Protocol):
    """Where requests with known heads go."""

    def find(self, peer: bytes, head: bytes) -> tuple[KnownHead | None, int]:
        """What is known of a head, and the length that it declares; 0 where it is not known."""

    def take(self, line: IngestLine, head: KnownHead, bodies: list[bytes]) -> int:
        """Queue requests; how many of them: aiohttp shall have the next one. Their answers come by
        `line.answer`."""

    def await_rest(self, line: IngestLine) -> None:
        """Call `line.give_way` in a moment."""


class IngestLine:
    """The line of one connection. Of the requests `taken` from it, some are `in_flight`: they wait
    for their answers."""

    __slots__ = (
        "_at_end", "_connection", "_diverted", "_expected", "_given_up", "_head", "_held",
        "_intake", "_left", "_peer", "_rounds", "_turn_asked", "_waits", "_with_aiohttp",
        "in_flight", "stopped", "subject", "taken",
    )  # fmt: skip

    def __init__(self, connection: Connection, intake: Intake, peer: bytes) -> None:
        self.in_flight = 0
        self.taken = 0
        # The client that a trusted proxy named for those in flight; "" without one.
        self.subject = ""
        # Nothing more is taken, as the connection is to be closed.
        self.stopped = False
        self._connection = connection
        self._intake = intake
        self._peer = peer
        self._held = bytearray()
        # Whether what is held waits for something else than more bytes.
        self._waits = False
        # The next request is for aiohttp, whatever is known of its head.
        self._diverted = False
        self._given_up = False
        # The peer sends nothing more.
        self._at_end = False
        # Of what aiohttp has: whether it has something, its head if it may be learned, the bytes
        # that it has not got yet, and the number of heads parsed with it.
        self._with_aiohttp = False
        self._head = b""
        self._left = 0
        self._expected = 0
        self._rounds = 0
        self._turn_asked = False

    @property
    def head(self) -> tuple[bytes, bytes]:
        """The peer, and the head of the one request that aiohttp has; b"" if it cannot be known."""
        whose = not self._given_up and self._connection.parsed == self._expected
        return self._peer, self._head if whose else b""

    @property
    def waits(self) -> bool:
        """Whether nothing is to be read before `resume`."""
        return self._waits

    @property
    def busy(self) -> bool:
        """Whether requests are in flight or held."""
        return self.in_flight > 0 or bool(self._held)

    def receive(self, data: bytes) -> bool:
        """Take bytes; False if they are for aiohttp, as all that follow."""
        if self._given_up:
            return False
        if self.stopped:
            return True
        if self._held:
            self._held += data
            if self._waits:
                self._connection.pause()
                return True
            data = self._unheld()
        self._go_on(data)
        return True

    def resume(self) -> None:
        """Go on with what is held."""
        if not self._waits or self.stopped or self._connection.closing:
            return
        self._waits = False
        self._go_on(self._unheld())
        if not self._waits:
            self._connection.read_on()

    def take_turn(self) -> None:
        """Go on with what is held, in a turn that was asked for."""
        self._turn_asked = False
        self.resume()

    def ask_turn(self) -> None:
        """Go on with what is held, if anything, when others have had their turn."""
        if self._waits and not self._turn_asked:
            self._turn_asked = True
            self._connection.turn(self)

    def give_way(self) -> None:
        """The rest of a message has not come in time: aiohttp waits for it, and knows how long."""
        if self._held and not (self._waits or self.stopped or self._connection.closing):
            self._diverted = True
            self._go_on(self._unheld())

    def answer(self, count: int, data: bytes) -> None:
        """Send the answers to the `count` requests that were taken first."""
        self.in_flight -= count
        if self._connection.closing:
            return
        self._connection.write(data)
        self.ask_turn()
        if self._at_end and not self._waits:
            self._close_at_end()

    def abandon(self) -> None:
        """Close without the answers that are still to be sent."""
        self._held.clear()
        self._connection.finish()

    def answered(self) -> None:
        """aiohttp has sent an answer."""
        self._rounds = _ROUNDS
        if self._waits:
            self._connection.soon(self)

    def end(self) -> bool:
        """The peer sends nothing more; whether answers are still to be sent to it."""
        self._at_end = True
        if not self._waits:
            self.give_way()
        return self.busy

    def _unheld(self) -> bytes:
        data = bytes(self._held)
        self._held.clear()
        return data

    def _hold(self, data: bytes) -> None:
        """Keep bytes until more of them come, or it has lasted too long."""
        self._held += data
        self._intake.await_rest(self)

    def _hold_back(self, data: bytes) -> None:
        """Keep bytes until `resume`."""
        self._held += data
        self._waits = True

    def _wait(self, data: bytes) -> None:
        """Keep bytes until answers are out, and read nothing meanwhile."""
        self._hold_back(data)
        self._connection.pause()

    def _give_up(self, data: bytes) -> None:
        # What is answered from now on has another head.
        self._given_up, self._head = True, b""
        if data:
            self._connection.feed(data)

    def _go_on(self, data: bytes) -> None:
        at = 0
        if self._left:
            at = min(self._left, len(data))
            self._left -= at
            self._connection.feed(data[:at])
        if at < len(data) and (not self._with_aiohttp or self._leaves_aiohttp(data[at:])):
            self._cut(data, at)
        if self._at_end:
            self._close_at_end()

    def _leaves_aiohttp(self, data: bytes) -> bool:
        """Whether what follows the message of aiohttp may be direct; else it was dealt with."""
        connection = self._connection
        if connection.at_rest:
            self._with_aiohttp = False
            self._head = b""
            if connection.parsed == self._expected:
                return True
            self._give_up(data)
        elif not self._head:
            # Perhaps what follows is of another protocol.
            self._give_up(data)
        elif connection.answering:
            self._wait(data)
        elif self._rounds:
            # It is about to begin with its request, or to wait for the next.
            self._rounds -= 1
            self._hold_back(data)
            connection.soon(self)
        else:
            self._give_up(data)
        return False

    def _cut(self, data: bytes, at: int) -> None:
        """Take what is known, up to what is not."""
        head: KnownHead | None = None
        bodies: list[bytes] = []
        begins: list[int] = []
        size, first = len(data), at
        while at < size:
            known, body_at, length = self._look(data, at)
            end = body_at + length
            if known is None or self._diverted or length > MOST_BODY:
                break
            if end > size or (head is not None and known is not head):
                break
            if len(bodies) == _AT_ONCE or at - first > _BYTES_AT_ONCE:
                break
            head = known
            bodies.append(data[body_at:end])
            begins.append(at)
            at = end
        if head is not None:
            if self.in_flight + len(bodies) > MOST_IN_FLIGHT or self._connection.stalled:
                self._wait(data[first:])
                return
            taken = self._intake.take(self, head, bodies)
            self.in_flight += taken
            self.taken += taken
            if taken < len(bodies):
                self._diverted = True
                at = begins[taken]
            if at < size:
                self._hold_back(data[at:])
                self.ask_turn()
        elif at < size:
            self._cut_other(data[at:])

    def _look(self, data: bytes, at: int) -> tuple[KnownHead | None, int, int]:
        """What is known of the head of the next message, where its body begins and how long that
        is."""
        if data.startswith(REQUEST_LINE, at):
            end = data.find(END_OF_HEAD, at, at + MOST_HEAD)
            if end >= 0:
                known, length = self._intake.find(self._peer, data[at : end + 2])
                return known, end + len(END_OF_HEAD), length
        return None, at, 0

    def _cut_other(self, data: bytes) -> None:
        """Wait for the rest of a message, or give it to aiohttp, behind all answers."""
        known, body_at, length = self._look(data, 0)
        whole = len(data) - body_at >= length
        if not self._diverted and not whole and known is not None and length <= MOST_BODY:
            self._hold(data)
            return
        if not self._diverted and self.taken and body_at == 0 and _may_begin(data):
            self._hold(data)
            return
        if self.in_flight:
            self._wait(data)
            return
        self._diverted = False
        connection = self._connection
        self._with_aiohttp = True
        self._expected = connection.parsed + 1
        self._rounds = _ROUNDS
        if length:
            end = body_at + length
            self._head = data[: body_at - 2]
            self._left = max(0, end - len(data))
            connection.feed(data[:end])
            if end < len(data):
                self._wait(data[end:])
            return
        self._head = b""
        connection.feed(data)
        self._measure(data)

    def _measure(self, data: bytes) -> None:
        """Find where the message ends that aiohttp has got, or the beginning of it."""
        connection = self._connection
        end, declared = data.find(END_OF_HEAD), connection.declared()
        if connection.closing or end < 0 or declared is None:
            self._given_up = True
            return
        self._left = end + len(END_OF_HEAD) + declared - len(data)
        self._given_up = self._left < 0 or connection.parsed != self._expected

    def _close_at_end(self) -> None:
        """Close behind the last answer, unless aiohttp will."""
        connection = self._connection
        if self.busy:
            return
        done = (self._given_up or not self._with_aiohttp) and not connection.answering
        if done or self._left:
            connection.finish()


def _may_begin(data: bytes) -> bool:
    """Whether these bytes may be the beginning of a head that is known."""
    if len(data) < len(REQUEST_LINE):
        return REQUEST_LINE.startswith(data)
    return data.startswith(REQUEST_LINE) and len(data) < MOST_HEAD
