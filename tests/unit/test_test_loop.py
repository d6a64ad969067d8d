"""The loop of tests finds connections that a test has left open, and ends those that close."""

import asyncio
import gc
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.event_loop import EventLoop
from tests.system.deploy.proxies import Certificate


class _Dialled:
    """A connection of a loop to a peer that never says anything."""

    def __init__(self) -> None:
        self.loop = EventLoop()
        self.near, self.peer = socket.socketpair()

    def connect(self) -> asyncio.Transport:
        dialling = self.loop.create_connection(asyncio.Protocol, sock=self.near)
        transport, _ = self.loop.run_until_complete(dialling)
        return transport


def test_a_connection_that_nobody_closed_fails_the_test_that_opened_it() -> None:
    dialled = _Dialled()
    dialled.connect()
    with dialled.peer, pytest.raises(AssertionError, match="not closed"):
        dialled.loop.close()
    assert dialled.loop.is_closed()


def test_a_connection_that_waits_to_write_its_last_bytes_is_ended_with_the_loop() -> None:
    dialled = _Dialled()
    transport = dialled.connect()
    transport.write(b"x" * 10_000_000)
    transport.close()
    with dialled.peer:
        dialled.loop.close()
    del transport
    gc.collect()


def test_a_tls_session_whose_peer_does_not_answer_is_ended_with_the_loop(tmp_path: Path) -> None:
    dialled, certificate = _Dialled(), Certificate(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "tls.pem")
    with ThreadPoolExecutor(1) as thread:
        accepting = thread.submit(server.wrap_socket, dialled.peer, server_side=True)
        dialling = dialled.loop.create_connection(
            asyncio.Protocol, sock=dialled.near, ssl=certificate.context,
            server_hostname="127.0.0.1",
        )  # fmt: skip
        transport, _ = dialled.loop.run_until_complete(dialling)
        with accepting.result():
            transport.close()
            dialled.loop.run_until_complete(asyncio.sleep(0))
            dialled.loop.close()
    del transport
    gc.collect()


def test_a_closed_connection_leaves_nothing_to_end() -> None:
    dialled = _Dialled()
    transport = dialled.connect()
    with dialled.peer:
        transport.close()
        dialled.loop.run_until_complete(asyncio.sleep(0))
        dialled.loop.close()
        dialled.loop.close()
