"""Destinations of the type `syslog`: framing, what counts as sent, and connections that break."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trustme

from gateway.delivery.connect.http_client import ClientOptions
from gateway.delivery.connect.lookup import ConnectRule, Lookups
from gateway.delivery.connect.stream_dialer import StreamDialer
from gateway.delivery.connect.tls import TlsOptions
from gateway.delivery.outlets.outlet import DeliveryResult, EncodedEvent, Outlet
from gateway.delivery.outlets.outlet_plan import NATIVE
from gateway.delivery.outlets.syslog import (
    SYSLOG,
    SyslogOutlet,
    framed_by_length,
    framed_by_newline,
)
from gateway.delivery.reduction import encode_within_limits
from gateway.errors import InvalidRequest
from gateway.formats.registry import make_formats
from tests.conftest import FakeClock
from tests.support.cases import every
from tests.support.machine_time import eventually
from tests.support.outbound_events import outbound_event
from tests.support.outlets import OWN, batch_of, new_outlet

SUCCESS, TRANSIENT, PERMANENT, CONFIG = DeliveryResult
RFC5424 = make_formats()["rfc5424"]
schemes = pytest.mark.parametrize("scheme", ["tcp", "tls"])


class TurningClock(FakeClock):
    """Clock whose sleepers are woken when the time has passed, which takes a `moment` at most: in
    that other tasks run, and systems acknowledge."""

    moment = 0.002

    async def sleep(self, seconds: float) -> None:
        self.tick(seconds)
        await asyncio.sleep(self.moment)


class Receiver:
    """Receiver over TCP, which has the bytes of each connection. It reads while `reading`, so much
    at once as `gulp`, and first says what nobody has asked for: `talk`. The next connections are
    hung up once so many bytes were read: `hangs_up`."""

    def __init__(self) -> None:
        self.talk = b""
        self.gulp = 65536
        self.hangs_up: list[int] = []
        self.received: list[bytearray] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self.port = 0
        self._open: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        mine = bytearray()
        self.received.append(mine)
        try:
            with suppress(OSError):
                writer.write(self.talk)
                await self.reading.wait()
                least = self.hangs_up.pop(0) if self.hangs_up else 1 << 40
                while len(mine) < least and (data := await reader.read(self.gulp)):
                    mine += data
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            del self._open[task]

    async def hang_up(self) -> None:
        """End all connections."""
        self.reading.set()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    def messages(self, connection: int = -1) -> list[bytes]:
        """Messages of a connection, told apart by their lengths."""
        data, found = bytes(self.received[connection]), []
        while data:
            length, _, rest = data.partition(b" ")
            found.append(rest[: int(length)])
            data = rest[int(length) :]
        return found

    async def has(self, count: int) -> list[bytes]:
        """Messages of the last connection, when there are so many."""
        await eventually(lambda: bool(self.received) and len(self.messages()) >= count)
        return self.messages()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def connected(
    scheme: str, authority: trustme.CA, *, buffer: int = 0, patience: float = 30.0, **settings: Any
) -> AsyncIterator[tuple[SyslogOutlet, Receiver, TurningClock]]:
    """Outlet, connected to a receiver whose system takes at most some bytes of `buffer`."""
    receiver, clock, lookups = Receiver(), TurningClock(), Lookups()
    tls = None
    if scheme == "tls":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(tls)
    listener = socket.create_server(("127.0.0.1", 0))
    if buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    server = await asyncio.start_server(receiver.serve, sock=listener, ssl=tls, limit=1024)
    receiver.port = listener.getsockname()[1]
    options = ClientOptions(
        OWN, TlsOptions(ca=authority.cert_pem.bytes().decode()), request_timeout=patience
    )
    made = {"url": f"{scheme}://localhost:{receiver.port}", **settings}
    outlet = new_outlet(
        SYSLOG, made, format=RFC5424, clock=clock, dialer=StreamDialer(options, lookups)
    )
    assert isinstance(outlet, SyslogOutlet)
    try:
        yield outlet, receiver, clock
    finally:
        await outlet.close()
        server.close()
        await receiver.hang_up()
        await server.wait_closed()
        lookups.close()


def big_batch(outlet: Outlet, count: int) -> list[EncodedEvent]:
    return batch_of(outlet, count, data={"x": "y" * 5000})


async def sent(outlet: Outlet, batch: list[EncodedEvent]) -> object:
    verdict = await outlet.send(batch)
    assert verdict.result is SUCCESS
    assert verdict.receipt is not None
    return verdict.receipt


@schemes
async def test_messages_of_rfc_5424_arrive_in_order_with_their_lengths(
    scheme: str, authority: trustme.CA
) -> None:
    async with connected(scheme, authority) as (outlet, receiver, _):
        batch = batch_of(outlet, 3, reason="ü \n]")
        await sent(outlet, batch)
        await sent(outlet, batch_of(outlet, 1))
        messages = await receiver.has(4)
        assert messages[:3] == [RFC5424.encode(one.outbound.json) for one in batch]
        assert messages[0].startswith(b"<110>1 2026-01-31T12:00:00.000000Z - audit-gateway - ")
        assert messages[0].endswith(batch[0].outbound.json)
        assert len(receiver.received) == 1


@schemes
async def test_events_count_as_sent_when_they_are_acknowledged_and_some_time_has_passed(
    scheme: str, authority: trustme.CA
) -> None:
    async with connected(scheme, authority) as (outlet, _, clock):
        assert outlet.confirmation == "sent"
        receipts = [await sent(outlet, batch_of(outlet)) for _ in range(2)]
        began = clock.monotonic()
        for receipt in receipts:
            assert (await outlet.confirm(receipt)).result is SUCCESS
            assert 5.0 <= clock.monotonic() - began < 6.0


@schemes
async def test_what_the_peer_has_not_acknowledged_is_never_confirmed(
    scheme: str, authority: trustme.CA
) -> None:
    async with connected(scheme, authority, buffer=4096) as (outlet, receiver, clock):
        receiver.reading.clear()
        clock.moment = 0.0
        # More than the receiver's TLS reads ahead.
        batch = big_batch(outlet, 20 if scheme == "tcp" else 150)
        receipt = await sent(outlet, batch)
        verdict = await outlet.confirm(receipt)
        assert (verdict.result, verdict.kind) == (TRANSIENT, "timeout")
        assert clock.monotonic() >= 30.0
        receiver.reading.set()
        await sent(outlet, batch_of(outlet, 1))
        await eventually(lambda: len(receiver.received) == 2)
        assert len(await receiver.has(1)) == 1


@schemes
async def test_much_that_is_sent_at_once_is_confirmed_when_it_is_read(
    scheme: str, authority: trustme.CA
) -> None:
    async with connected(scheme, authority, confirm_delay="0s") as (outlet, receiver, _):
        for _ in range(3):
            receipt = await sent(outlet, big_batch(outlet, 150))
            assert (await outlet.confirm(receipt)).result is SUCCESS
        assert len(await receiver.has(450)) == 450


async def test_a_receiver_that_takes_nothing_is_left(authority: trustme.CA) -> None:
    async with connected("tcp", authority, buffer=4096, patience=0.1) as (outlet, receiver, _):
        receiver.reading.clear()
        verdict = await outlet.send(big_batch(outlet, 2000))
        assert (verdict.result, verdict.kind) == (TRANSIENT, "timeout")


async def test_a_receiver_that_reads_nothing_of_what_was_sent_is_left_after_the_time_of_a_request(
    authority: trustme.CA,
) -> None:
    async with connected("tcp", authority, buffer=4096, patience=3.0) as (outlet, receiver, clock):
        receiver.reading.clear()
        receipt = await sent(outlet, big_batch(outlet, 10))
        began = clock.monotonic()
        verdict = await outlet.confirm(receipt)
        assert (verdict.result, verdict.kind) == (TRANSIENT, "timeout")
        assert 3 <= clock.monotonic() - began < 10


@schemes
async def test_what_was_not_confirmed_when_the_connection_ended_goes_first(
    scheme: str, authority: trustme.CA
) -> None:
    async with connected(scheme, authority) as (outlet, receiver, _):
        receipt = await sent(outlet, batch_of(outlet))
        await receiver.has(3)
        await receiver.hang_up()
        stream = outlet.stream
        await eventually(lambda: stream.lost)
        verdict = await outlet.send(batch_of(outlet, 1))
        assert (verdict.result, verdict.kind) == (TRANSIENT, "disconnected")
        assert (await outlet.confirm(receipt)).result is TRANSIENT
        again = await sent(outlet, batch_of(outlet))
        assert (await outlet.confirm(again)).result is SUCCESS
        assert len(await receiver.has(3)) == 3
        assert len(receiver.received) == 2


@schemes
async def test_a_receiver_that_hangs_up_in_the_middle_of_batches_has_them_all_in_the_end(
    scheme: str, authority: trustme.CA
) -> None:
    async with connected(scheme, authority, confirm_delay="0s") as (outlet, receiver, _):
        receiver.hangs_up = [0, 0, 1, 200_000]
        batch = big_batch(outlet, 150)
        failures = []
        while True:
            verdict = await outlet.send(batch)
            if verdict.result is SUCCESS:
                verdict = await outlet.confirm(verdict.receipt)
            if verdict.result is SUCCESS:
                break
            assert (verdict.result, verdict.kind) == (TRANSIENT, "disconnected")
            failures.append(verdict)
        assert len(failures) >= 4
        assert len(await receiver.has(150)) == 150


@schemes
@pytest.mark.parametrize("talk", [b"hello\n", b"<html>" * 50_000])
async def test_the_end_of_a_receiver_is_seen_whatever_it_has_said(
    scheme: str, talk: bytes, authority: trustme.CA
) -> None:
    async with connected(scheme, authority) as (outlet, receiver, _):
        receiver.talk = talk
        receipt = await sent(outlet, batch_of(outlet))
        await receiver.has(3)
        await receiver.hang_up()
        assert (await outlet.confirm(receipt)).kind == "disconnected"
        again = await sent(outlet, batch_of(outlet))
        assert (await outlet.confirm(again)).result is SUCCESS
        assert len(await receiver.has(3)) == 3


@schemes
async def test_a_receiver_that_talks_without_end_is_left(
    scheme: str, authority: trustme.CA
) -> None:
    async with connected(scheme, authority) as (outlet, receiver, _):
        receiver.talk = b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"<html>" * (1 << 20)
        receipt = await sent(outlet, batch_of(outlet))
        stream = outlet.stream
        await eventually(lambda: stream.lost)
        assert (await outlet.confirm(receipt)).kind == "disconnected"


async def test_what_is_read_slowly_is_confirmed_once_it_is_read(authority: trustme.CA) -> None:
    async with connected("tcp", authority, buffer=4096, confirm_delay="0s") as (
        outlet, receiver, _,
    ):  # fmt: skip
        receiver.gulp = 500
        receipt = await sent(outlet, big_batch(outlet, 20))
        assert (await outlet.confirm(receipt)).result is SUCCESS
        assert len(await receiver.has(20)) == 20


async def test_a_connection_that_ends_while_nothing_waits_is_opened_again(
    authority: trustme.CA,
) -> None:
    async with connected("tcp", authority) as (outlet, receiver, _):
        assert (await outlet.confirm(await sent(outlet, batch_of(outlet)))).result is SUCCESS
        await receiver.hang_up()
        stream = outlet.stream
        await eventually(lambda: stream.lost)
        await sent(outlet, batch_of(outlet, 1))
        assert len(await receiver.has(1)) == 1


async def test_a_connection_that_ends_while_it_is_confirmed_confirms_nothing(
    authority: trustme.CA,
) -> None:
    async with connected("tcp", authority) as (outlet, receiver, clock):
        receipt = await sent(outlet, batch_of(outlet))
        await receiver.has(3)
        await receiver.hang_up()
        verdict = await outlet.confirm(receipt)
        assert (verdict.result, verdict.kind) == (TRANSIENT, "disconnected")
        assert clock.monotonic() <= 5.0


async def test_a_cancelled_batch_leaves_no_half_of_a_message_before_the_next(
    authority: trustme.CA,
) -> None:
    async with connected("tcp", authority, buffer=4096) as (outlet, receiver, _):
        receiver.reading.clear()
        sending = asyncio.create_task(outlet.send(big_batch(outlet, 2000)))
        await eventually(lambda: bool(receiver.received))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        receiver.reading.set()
        assert (await outlet.send(batch_of(outlet, 1))).kind == "disconnected"
        await sent(outlet, batch_of(outlet, 1))
        await eventually(lambda: len(receiver.received) == 2)
        assert len(await receiver.has(1)) == 1


async def test_what_cannot_be_reached_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    lookups = Lookups()
    try:
        for rule, url, expected in (
            (OWN, f"tcp://127.0.0.1:{closed}", (TRANSIENT, "connect")),
            (ConnectRule(plaintext=True), "tcp://127.0.0.1:1", (CONFIG, "address")),
            (ConnectRule(), "tcp://siem.example.org", (CONFIG, "url")),
        ):
            dialer = StreamDialer(ClientOptions(rule), lookups)
            outlet = new_outlet(
                SYSLOG, {"url": url}, format=RFC5424, clock=TurningClock(), dialer=dialer
            )
            verdict = await outlet.send(batch_of(outlet, 1))
            assert (verdict.result, verdict.kind) == expected
    finally:
        lookups.close()


async def test_the_test_event_needs_no_delay(authority: trustme.CA) -> None:
    async with connected("tls", authority) as (outlet, receiver, clock):
        verdict = await outlet.test(batch_of(outlet, 1)[0])
        assert (verdict.result, verdict.receipt) == (SUCCESS, None)
        assert clock.monotonic() < 5.0
        assert len(await receiver.has(1)) == 1


async def test_old_receivers_get_one_line_each(authority: trustme.CA) -> None:
    async with connected("tcp", authority, framing="newline") as (outlet, receiver, _):
        batch = batch_of(outlet)
        await sent(outlet, batch)
        lines = b"".join(one.body + b"\n" for one in batch)
        await eventually(
            lambda: bool(receiver.received) and len(receiver.received[0]) >= len(lines)
        )
        assert receiver.received[0] == lines


def test_framings_are_those_of_rfc_6587() -> None:
    assert framed_by_length("aü".encode()) == "3 aü".encode()
    assert framed_by_newline(b"a\nb\n") == b"a b \n"


async def test_messages_that_are_too_long_are_reduced_and_say_so(authority: trustme.CA) -> None:
    async with connected("tcp", authority) as (outlet, _, _):
        encoded = encode_within_limits(outlet, outbound_event(data={"x": "y" * 8000}))
        assert encoded is not None
        assert encoded.outbound.reduced == ("data",)
        assert b' reduced="data"]' in encoded.body
        assert len(encoded.body) <= 8192


@every([
    {"max_message_bytes": 2047}, {"max_message_bytes": 1 << 21}, {"confirm_delay": "5"},
    {"confirm_delay": "2m"},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_with_their_path(settings: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        new_outlet(SYSLOG, {"url": "tls://siem.example.org", **settings}, format=RFC5424)
    assert refused.value.members["path"].split(".")[1] in settings


def test_another_format_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="rfc5424"):
        new_outlet(SYSLOG, {"url": "tls://siem.example.org"}, format=NATIVE)
