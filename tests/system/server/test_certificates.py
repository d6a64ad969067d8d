"""The certificate of the listener is replaced, half replaced and broken while streams are open."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from itertools import groupby
from pathlib import Path

import over_tls
import pytest
from failing import Broken
from gateway_client import event, eventually
from gateways import Gateway, Program, Start, StartProgram, finish_program
from open_streams import Stream, open_stream

from gateway.clock import SystemClock
from gateway.runtime.compose import running
from tests.support.certificates import PairFiles, authority, client_context, issue
from tests.support.machine_time import patience

session, start = over_tls.session, over_tls.start
STREAMS = 100
MIXED = ("audit.v1", "sse", "ndjson", "websocket")


def der(pem: str) -> bytes:
    """The first certificate of a chain, as peers show it."""
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(pem[: pem.index(end) + len(end)])


async def shown(host: str, port: int) -> bytes:
    """The certificate that a new handshake gets, which must succeed."""
    async with asyncio.timeout(patience()):
        _, writer = await asyncio.open_connection(
            host, port, ssl=client_context(), server_hostname="localhost"
        )
    certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return certificate


class Visitor:
    """Shakes hands again and again; `seen` are the certificates in the order they came."""

    def __init__(self, gateway: Gateway) -> None:
        self.seen: list[bytes] = []
        self._gateway = gateway
        self._task = asyncio.create_task(self._visit())

    async def _visit(self) -> None:
        while True:
            self.seen.append(await shown(self._gateway.host, self._gateway.port))

    async def sees(self, certificate: bytes) -> None:
        await eventually(lambda: self.seen[-1:] == [certificate] or self._task.done())
        assert not self._task.done(), "a handshake has failed"

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_a_pair_replaced_half_replaced_and_broken_ends_no_stream_and_fails_no_handshake(
    start: Start, tmp_path: Path
) -> None:
    gateway = await start()
    certificates = gateway.context.certificates
    assert certificates is not None
    pair = PairFiles(tmp_path / "tls")
    first, second, third = pair.certificate.read_text(), issue(), issue()
    streams = [await open_stream(gateway, MIXED[n % 4]) for n in range(STREAMS)]
    visitor = Visitor(gateway)
    await visitor.sees(der(first))

    async def delivered(number: int) -> None:
        await gateway.send(event(data={"n": number}))
        for stream in streams:
            assert (await stream.event())["data"] == {"n": number}

    await delivered(1)
    pair.write(*second)
    await visitor.sees(der(second[0]))
    await delivered(2)
    # The certificate is there, its key not yet.
    pair.certificate.write_text(third[0])
    await eventually(lambda: [*certificates.warnings()] != [], "it is refused")
    count = len(visitor.seen)
    await eventually(lambda: len(visitor.seen) > count + 2)
    assert visitor.seen[-1] == der(second[0])
    await delivered(3)
    assert "refused (key_mismatch)" in (await gateway.get("/readyz", key=None)).body.decode()
    assert (await gateway.get("/readyz", key=None)).status == 200
    assert "certificate_refused" in await gateway.reasons()
    pair.key.write_text(third[1])
    await visitor.sees(der(third[0]))
    assert [*certificates.warnings()] == []
    # Broken, gone, and back.
    for number, broken in enumerate(("no PEM", None), 4):
        if broken is None:
            pair.certificate.unlink()
        else:
            pair.certificate.write_text(broken)
        await eventually(lambda: [*certificates.warnings()] != [], "it is refused")
        await delivered(number)
        assert visitor.seen[-1] == der(third[0])
    pair.write(*second)
    await visitor.sees(der(second[0]))
    await delivered(6)
    order = [certificate for certificate, _ in groupby(visitor.seen)]
    assert order == [der(first), der(second[0]), der(third[0]), der(second[0])]
    await visitor.leave()
    found = (await gateway.get("/v1/findings", key=gateway.admin)).json()["findings"]
    assert "certificate_refused" in {one["signal"] for one in found}
    assert [stream.others[-1].kind for stream in streams if ended(stream)] == []


def ended(stream: Stream) -> bool:
    return any(said.kind == "end" for said in stream.others)


async def test_certificates_are_followed_on_after_a_failure_of_their_task(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(monkeypatch)
    gateway = await start()
    errors = gateway.context.tasks.errors
    broken.once("certificates")
    await eventually(lambda: errors["certificates"] == 1)
    second = issue()
    PairFiles(tmp_path / "tls").write(*second)
    certificates = gateway.context.certificates
    assert certificates is not None
    before = certificates.context
    await eventually(lambda: certificates.context is not before)
    assert await shown(gateway.host, gateway.port) == der(second[0])
    assert (await gateway.get("/readyz", key=None)).status == 200


async def test_workers_take_a_new_pair_on_sighup_and_the_gateway_goes_on(
    start_program: StartProgram, tmp_path: Path
) -> None:
    pair = PairFiles(tmp_path / "tls")
    program = await start_program_over_tls(start_program, pair, server__workers="2")
    first = der(pair.certificate.read_text())
    assert {await shown(program.host, program.port) for _ in range(8)} == {first}
    second = issue()
    pair.write(*second)
    program.process.send_signal(signal.SIGHUP)
    wanted = {der(second[0])}
    async with asyncio.timeout(patience()):
        while {await shown(program.host, program.port) for _ in range(8)} != wanted:
            pass
    code, errors = await program.stop()
    assert code == 0, errors
    assert errors.count("new connections get the certificate") >= 2, errors


async def start_program_over_tls(
    start_program: StartProgram, pair: PairFiles, **settings: str
) -> Program:
    """A program with the pair, and a client that trusts it."""
    named = {f"server__tls__{name}": value for name, value in pair.settings.items()}
    return await start_program(**named, **settings)


async def test_clients_need_a_certificate_of_the_named_authority(tmp_path: Path) -> None:
    file = tmp_path / "clients.pem"
    authority().cert_pem.write_to_path(str(file))
    async with running(over_tls.over_tls(tmp_path, {"tls": {"client_ca": str(file)}})) as started:
        port = int(started.url.rpartition(":")[2])
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await asked(port, client_context())
        known = client_context()
        authority().issue_cert("client.example").configure_cert(known)
        assert (await asked(port, known)).startswith(b"HTTP/1.1 200")


async def asked(port: int, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(patience()):
            return await reader.readuntil(b"\r\n")
    finally:
        writer.close()


async def test_a_client_without_tls_is_told_to_use_https(start: Start) -> None:
    gateway = await start()
    reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(patience()):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"tls_required"' in answer


async def test_the_metric_tells_when_the_certificate_expires(start: Start, tmp_path: Path) -> None:
    pair = PairFiles(tmp_path / "tls")
    until = (SystemClock().now() + 3 * 86400) // 1
    pair.write(*issue(expires=until))
    gateway = await start()
    assert (await gateway.metrics())["tls_expires_timestamp_seconds"] == until


async def test_a_start_without_a_usable_pair_names_the_setting(tmp_path: Path) -> None:
    pair = PairFiles(tmp_path / "tls")
    os.unlink(pair.key)
    code, _, errors = await finish_program(
        "serve", "--data", str(tmp_path / "data"), "--port", "0",
        **{f"server__tls__{name}": value for name, value in pair.settings.items()},
    )  # fmt: skip
    assert code == 2
    assert f"server.tls.key: {pair.key} cannot be read" in errors
    assert "Traceback" not in errors


async def test_a_public_address_without_tls_is_warned_of_and_refused_where_tls_is_required(
    start_program: StartProgram, tmp_path: Path
) -> None:
    program = await start_program(server__host="0.0.0.0")
    ready = (await program.get("/readyz", key=None)).body.decode()
    assert "in plain text" in ready
    code, errors = await program.stop()
    assert (code, errors.count("in plain text")) == (0, 1)
    code, _, errors = await finish_program(
        "serve", "--data", str(tmp_path / "other"), "--port", "0",
        server__host="0.0.0.0", server__tls__required="true",
    )  # fmt: skip
    assert code == 2
    assert "server.tls.required: others can reach 0.0.0.0" in errors
    assert "server.trusted_proxies" in errors
