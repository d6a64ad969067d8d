"""Requests are cut at their ends and stay in order, whatever comes in which pieces and when."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from gateway.http.pipelining.ingest_line import MOST_IN_FLIGHT, IngestLine
from gateway.http.pipelining.known_heads import MOST_BODY, KnownHead, KnownHeads
from tests.support.watched import key

PEER = b"192.0.2.7"
START = b"POST /v1/events HTTP/1.1\r\nHost: a\r\n"


def post(body: bytes, more: bytes = b"") -> bytes:
    return START + more + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def known_head() -> KnownHead:
    return KnownHead(key("k"), None, "192.0.2.7", "", "", lines=False)


class Aiohttp:
    """A connection whose aiohttp parses whole messages, and answers one when it is told to."""

    def __init__(self) -> None:
        self.parsed = 0
        self.closing = False
        self.closed = False
        self.stalled = False
        self.paused = False
        self.written = b""
        self.fed = b""
        self.waiting: list[bytes] = []
        self.events: list[bytes] = []
        self.calls: list[IngestLine] = []
        self.turns: list[IngestLine] = []
        self._rest = b""
        self._length: int | None = 0

    @property
    def at_rest(self) -> bool:
        return not self.waiting and not self._rest

    @property
    def answering(self) -> bool:
        return bool(self.waiting)

    def feed(self, data: bytes) -> None:
        self.fed += data
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, behind = self._rest.partition(b"\r\n\r\n")
            length = 0
            for line in head.split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            new = not self.waiting or self.waiting[-1] != b"..."
            if new:
                self.parsed += 1
                self._length = length
            if len(behind) < length:
                if new:
                    self.waiting.append(b"...")
                return
            if not new:
                self.waiting.pop()
            self.waiting.append(head)
            self.events.append(head + b"\r\n\r\n" + behind[:length])
            self._rest = behind[length:]

    def declared(self) -> int | None:
        return self._length

    def write(self, data: bytes) -> None:
        self.written += data

    def pause(self) -> None:
        self.paused = True

    def read_on(self) -> None:
        self.paused = False

    def soon(self, line: IngestLine) -> None:
        self.calls.append(line)

    def turn(self, line: IngestLine) -> None:
        self.turns.append(line)

    def finish(self) -> None:
        self.closed = self.closing = True

    def round(self) -> None:
        calls, self.calls = self.calls, []
        for line in calls:
            line.resume()
        turns, self.turns = self.turns, []
        assert len(turns) <= 1, "one turn is asked for at a time"
        for line in turns:
            line.take_turn()


class Taking:
    """An intake that takes all but what contains `refused`, and answers when it is told to."""

    def __init__(self, connection: Aiohttp, heads: KnownHeads) -> None:
        self.connection = connection
        self.heads = heads
        self.waiting: list[int] = []
        self.restless: list[IngestLine] = []

    def find(self, peer: bytes, head: bytes) -> tuple[KnownHead | None, int]:
        return self.heads.find(peer, head)

    def take(self, line: IngestLine, head: KnownHead, bodies: list[bytes]) -> int:
        assert not self.connection.answering
        count = 0
        for body in bodies:
            if b"refused" in body:
                break
            self.connection.events.append(post(body))
            count += 1
        if count:
            self.waiting.append(count)
        return count

    def await_rest(self, line: IngestLine) -> None:
        self.restless.append(line)


class World:
    def __init__(self, *, known: bool = True) -> None:
        heads = KnownHeads()
        if known:
            heads.learn(PEER, post(b"x").partition(b"\r\n\r\n")[0] + b"\r\n", known_head())
        self.aiohttp = Aiohttp()
        self.intake = Taking(self.aiohttp, heads)
        self.line = IngestLine(self.aiohttp, self.intake, PEER)

    def receive(self, data: bytes) -> None:
        if not self.line.receive(data):
            self.aiohttp.feed(data)

    def answer(self) -> None:
        if self.intake.waiting:
            count = self.intake.waiting.pop(0)
            self.line.answer(count, b"." * count)
        elif self.aiohttp.waiting and self.aiohttp.waiting[0] != b"...":
            self.aiohttp.waiting.pop(0)
            self.aiohttp.written += b"a"
            self.line.answered()

    def turn(self, line: IngestLine) -> None:
        self.turns.append(line)

    def finish(self) -> None:
        for _ in range(1000):
            for line in self.intake.restless:
                line.give_way()
            self.intake.restless = []
            self.answer()
            self.aiohttp.round()


MESSAGES = st.one_of(
    st.binary(min_size=1, max_size=40).map(post),
    st.just(post(b'{"refused":1}')),
    st.binary(min_size=1, max_size=9).map(lambda body: post(body, b"X-Other: 1\r\n")),
    st.just(b"GET /v1/keys HTTP/1.1\r\nHost: a\r\n\r\n"),
    st.just(post(b"a" * (MOST_BODY + 1))),
)


@given(st.lists(MESSAGES, max_size=12), st.data())
def test_every_message_arrives_once_in_order_however_it_is_cut(
    messages: list[bytes], data: st.DataObject
) -> None:
    world = World()
    whole = b"".join(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        if begin < end:
            world.receive(whole[begin:end])
        step = data.draw(st.sampled_from(["nothing", "answer", "round", "late"]))
        if step == "answer":
            world.answer()
        elif step == "round":
            world.aiohttp.round()
        elif step == "late":
            for line in world.intake.restless:
                line.give_way()
            world.intake.restless = []
    world.finish()
    assert world.aiohttp.events == messages
    assert len(world.aiohttp.written) == len(messages)
    assert not world.line.busy
    assert not world.aiohttp.paused


def test_requests_with_a_known_head_never_reach_aiohttp() -> None:
    world = World()
    world.receive(post(b"1") + post(b"22") + post(b"333")[:-1])
    world.aiohttp.round()
    world.receive(b"3")
    world.finish()
    assert world.aiohttp.events == [post(b"1"), post(b"22"), post(b"333")]
    assert world.aiohttp.fed == b""


def test_aiohttp_gets_one_message_at_a_time_so_that_the_next_is_direct() -> None:
    world = World(known=False)
    world.receive(post(b"1") + post(b"2"))
    assert world.aiohttp.fed == post(b"1")
    assert world.aiohttp.paused
    peer, head = world.line.head
    world.intake.heads.learn(peer, head, known_head())
    world.finish()
    assert world.aiohttp.fed == post(b"1")
    assert world.aiohttp.events == [post(b"1"), post(b"2")]


def test_what_is_refused_goes_to_aiohttp_behind_the_answers_before_it() -> None:
    world = World()
    world.receive(post(b"1") + post(b"refused") + post(b"3"))
    world.aiohttp.round()
    assert world.aiohttp.fed == b""
    world.finish()
    assert world.aiohttp.fed == post(b"refused")
    assert world.aiohttp.written == b".a."


@pytest.mark.parametrize("length", [b"0", b"01", b"+1", b"1 ", b"1, 1", b"0x1", b"999999"])
def test_a_length_that_is_not_plain_is_for_aiohttp(length: bytes) -> None:
    world = World()
    message = START + b"Content-Length: " + length + b"\r\n\r\n"
    assert world.intake.find(PEER, message[:-2])[0] is None


def test_another_peer_or_another_byte_is_another_head() -> None:
    heads = KnownHeads()
    head = START + b"Authorization: Bearer a\r\nContent-Length: 7\r\n"
    heads.learn(PEER, head, known := known_head())
    assert heads.find(PEER, head.replace(b": 7", b": 123")) == (known, 123)
    assert heads.find(b"192.0.2.8", head)[0] is None
    assert heads.find(PEER, head.replace(b"Bearer a", b"Bearer b"))[0] is None
    assert heads.find(PEER, head + b"X: 1\r\n")[0] is None


def test_a_head_with_two_lengths_is_never_known() -> None:
    heads = KnownHeads()
    head = START + b"Content-Length: 7\r\nContent-Length: 7\r\n"
    heads.learn(PEER, head, known_head())
    assert heads.find(PEER, head)[0] is None


def test_heads_are_forgotten_in_the_order_in_which_they_were_learned() -> None:
    heads = KnownHeads(most=2)
    lines = [START + b"X: %d\r\nContent-Length: 1\r\n" % n for n in range(3)]
    for head in lines:
        heads.learn(PEER, head, known_head())
    assert [heads.find(PEER, head)[0] is not None for head in lines] == [False, True, True]


def test_a_connection_has_so_many_requests_in_flight_and_is_not_read_meanwhile() -> None:
    world = World()
    world.receive(post(b"1") * (MOST_IN_FLIGHT + 40))
    for _ in range(100):
        world.aiohttp.round()
    assert world.line.in_flight == MOST_IN_FLIGHT
    assert world.aiohttp.paused
    world.finish()
    assert len(world.aiohttp.events) == MOST_IN_FLIGHT + 40
    assert not world.aiohttp.paused


def test_a_peer_that_does_not_take_its_answers_is_not_read() -> None:
    world = World()
    world.aiohttp.stalled = True
    world.receive(post(b"1"))
    assert world.aiohttp.events == []
    assert world.aiohttp.paused
    assert world.line.waits
    world.aiohttp.stalled = False
    world.line.ask_turn()
    world.finish()
    assert world.aiohttp.events == [post(b"1")]


def test_a_head_is_forgotten_once_nobody_knows_whose_the_next_answer_is() -> None:
    world = World(known=False)
    world.receive(post(b"1") + post(b"2"))
    assert world.line.head == (PEER, post(b"1").partition(b"\r\n\r\n")[0] + b"\r\n")
    # aiohttp has answered, and has not read to the end.
    world.aiohttp.waiting.clear()
    world.aiohttp._rest = b"a part"
    world.line.answered()
    for _ in range(10):
        world.aiohttp.round()
    assert not world.line.receive(post(b"3"))
    assert world.line.head == (PEER, b"")


def test_a_head_is_nobodys_while_aiohttp_has_parsed_another() -> None:
    world = World(known=False)
    world.receive(post(b"1"))
    assert world.line.head[1]
    world.aiohttp.parsed += 1
    assert world.line.head == (PEER, b"")


def test_a_connection_that_is_to_be_closed_takes_nothing_more() -> None:
    world = World()
    world.receive(post(b"1"))
    world.line.stopped = True
    assert world.line.receive(post(b"2"))
    world.finish()
    assert world.aiohttp.events == [post(b"1")]
    assert world.line.in_flight == 0


def test_a_peer_that_closes_its_side_gets_its_answers_and_then_the_end() -> None:
    world = World()
    world.receive(post(b"1"))
    assert world.line.end()
    assert not world.aiohttp.closed
    world.answer()
    assert world.aiohttp.written == b"."
    assert world.aiohttp.closed


def test_a_peer_that_closes_amid_a_message_is_not_waited_for() -> None:
    world = World()
    world.receive(post(b"1") + post(b"22")[:-1])
    world.aiohttp.round()
    assert world.line.end()
    world.answer()
    world.aiohttp.round()
    assert world.aiohttp.closed
