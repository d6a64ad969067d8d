"""HTTP client of destinations, against a receiver that attacks it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
import trustme

from gateway import __version__
from gateway.clock import SystemClock
from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.http_client import ClientOptions, HttpClient
from gateway.delivery.connect.lookup import AddressInfo, ConnectRule, Lookups
from gateway.delivery.connect.tls import TlsOptions, tls_context
from gateway.delivery.connect.transport import MAX_ANSWER_BYTES, HttpRequest, NoAnswer, RemoteAnswer
from gateway.errors import InvalidRequest
from gateway.network import parse_network
from tests.support.cases import every
from tests.support.machine_time import eventually, patience
from tests.support.scripted_receiver import (
    TO_METADATA,
    Received,
    Reply,
    ScriptedReceiver,
    Step,
    cut_before_answer,
    cut_in_answer,
    cut_in_request,
    endless,
    gibberish,
    gzip_bomb,
    scripted_receiver,
)

OWN = ConnectRule(AddressRule(configured=True))
SECRET = "Sup3rS3cretT0ken"


class _Names(Lookups):
    """Look-ups that give the next of the addresses each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        self.asked.append(host)
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not addresses:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in addresses
        ]


@asynccontextmanager
async def client(lookups: Lookups | None = None, **options: Any) -> AsyncIterator[HttpClient]:
    lookups = lookups or Lookups()
    made = HttpClient(ClientOptions(**{"rule": OWN, **options}), lookups, SystemClock())
    try:
        yield made
    finally:
        await made.close()
        lookups.close()


def request_to(receiver: ScriptedReceiver, host: str = "127.0.0.1", **parts: Any) -> HttpRequest:
    scheme = parts.pop("scheme", "http")
    headers = {"Content-Type": "text/plain", **parts.pop("headers", {})}
    url = f"{scheme}://{host}:{receiver.port}/in"
    return HttpRequest(url, parts.pop("body", b"x" * 2000), headers, **parts)


async def failure(made: HttpClient, request: HttpRequest) -> NoAnswer:
    with pytest.raises(NoAnswer) as raised:
        await made.request(request)
    return raised.value


def echo(received: Received) -> Reply:
    return Reply(200, f"{received.method} {dict(received.headers)}".encode(), {"X-Id": "a"})


async def test_a_request_goes_out_compressed_with_our_name_and_comes_back_whole() -> None:
    async with scripted_receiver(echo) as receiver, client() as made:
        answer = await made.request(request_to(receiver))
        assert (answer.status, answer.whole) == (200, True)
        assert answer.headers["x-id"] == "a"
        [received] = receiver.received
        assert received.body == b"x" * 2000
        assert received.headers["content-encoding"] == "gzip"
        assert int(received.headers["content-length"]) < 200
        assert received.headers["user-agent"] == f"audit-gateway/{__version__}"


async def test_a_client_closes_while_a_body_waits_for_a_thread_and_that_is_not_compressed() -> None:
    loop, leave = asyncio.get_running_loop(), threading.Event()
    threads = ThreadPoolExecutor(1)
    loop.set_default_executor(threads)
    busy = loop.run_in_executor(None, leave.wait)
    made = HttpClient(ClientOptions(rule=OWN), Lookups(), SystemClock())
    packed = made.pack(b"x" * (1 << 20))
    assert packed is not None
    try:
        await asyncio.wait_for(made.close(), patience())
        with pytest.raises(asyncio.CancelledError):
            await packed
    finally:
        leave.set()
        await busy


async def test_large_bodies_are_compressed_beside_the_loop_and_others_as_asked() -> None:
    async with scripted_receiver() as receiver, client() as made:
        await made.request(request_to(receiver, body=b"y" * 300_000))
        await made.request(request_to(receiver, body=b"z", compress=False, method="PUT"))
        assert receiver.bodies == [b"y" * 300_000, b"z"]
        assert "content-encoding" not in receiver.received[1].headers
        assert receiver.received[1].method == "PUT"


async def test_connections_are_kept() -> None:
    async with scripted_receiver() as receiver, client() as made:
        for _ in range(5):
            await made.request(request_to(receiver))
        assert receiver.connections == 1


async def test_redirects_are_answers_and_not_followed() -> None:
    async with scripted_receiver() as receiver, client() as made:
        receiver.script.append(TO_METADATA)
        assert (await made.request(request_to(receiver))).status == 307
        assert len(receiver.received) == 1


async def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with scripted_receiver() as receiver, client() as made:
        assert (await made.request(request_to(receiver))).status == 200


async def test_a_name_that_is_rebound_to_a_refused_address_is_not_followed_there() -> None:
    """127.0.0.1 stands for a public address, as tests send nothing off the machine."""
    names = _Names(["127.0.0.1"], ["127.0.0.2"])
    rule = ConnectRule(AddressRule((parse_network("127.0.0.1"),)), plaintext=True)
    async with scripted_receiver() as receiver, client(names, rule=rule) as made:
        request = request_to(receiver, "rebinding.example.org")
        assert (await made.request(request)).status == 200
        receiver.script.append(cut_before_answer)
        await failure(made, request)
        refused = await failure(made, request)
        assert (refused.kind, refused.config) == ("address", True)
        assert "127.0.0.2 is a loopback address" in refused.message
        assert len(names.asked) == 2


async def test_a_name_with_one_address_that_is_refused_is_refused() -> None:
    names = _Names(["203.0.113.7", "10.0.0.1"])
    rule = ConnectRule(AddressRule(), plaintext=True)
    async with scripted_receiver() as receiver, client(names, rule=rule) as made:
        refused = await failure(made, request_to(receiver, "both.example.org"))
        assert (refused.kind, refused.config) == ("address", True)


async def test_the_connection_goes_to_the_checked_address_without_another_look_up() -> None:
    names = _Names(["127.0.0.1"], ["127.0.0.2"])
    rule = ConnectRule(AddressRule(configured=True), plaintext=True)
    async with scripted_receiver() as receiver, client(names, rule=rule) as made:
        await made.request(request_to(receiver, "once.example.org"))
        assert names.asked == ["once.example.org"]
        assert receiver.received[0].headers["host"] == f"once.example.org:{receiver.port}"


@every(
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "127.1", "2130706433", "0x7f000001"]
)
def test_no_spelling_of_this_machine_is_reached(host: str) -> None:
    async def attempt() -> None:
        rule = ConnectRule(AddressRule(), plaintext=True)
        async with scripted_receiver() as receiver, client(rule=rule) as made:
            refused = await failure(made, request_to(receiver, host))
            assert refused.config
            assert receiver.connections == 0

    asyncio.run(attempt())


async def test_networks_that_the_settings_allow_are_reached() -> None:
    rule = ConnectRule(AddressRule((parse_network("127.0.0.0/8"),)))
    async with scripted_receiver() as receiver, client(rule=rule) as made:
        assert (await made.request(request_to(receiver))).status == 200


async def test_names_are_not_reached_without_tls_unless_asked_for() -> None:
    async with scripted_receiver() as receiver, client(_Names(["127.0.0.1"])) as made:
        refused = await failure(made, request_to(receiver, "siem.example.org"))
        assert (refused.kind, refused.config) == ("url", True)
        assert '"plaintext":true' in refused.message


async def test_a_localhost_that_is_another_machine_is_not_reached_without_tls() -> None:
    async with scripted_receiver() as receiver, client(_Names(["10.0.0.1"])) as made:
        refused = await failure(made, request_to(receiver, "localhost"))
        assert (refused.kind, refused.config) == ("address", True)


async def test_a_name_that_does_not_exist_is_tried_again() -> None:
    async with scripted_receiver() as receiver, client(_Names([])) as made:
        missing = await failure(made, request_to(receiver, "localhost"))
        assert (missing.kind, missing.config) == ("dns", False)


async def test_a_closed_port_is_tried_again() -> None:
    async with scripted_receiver() as receiver:
        request = request_to(receiver)
    async with client() as made:
        closed = await failure(made, request)
        assert (closed.kind, closed.config) == ("connect", False)


async def test_no_whole_answer_in_time_is_tried_again() -> None:
    async with scripted_receiver() as receiver:
        for step in (receiver.hang, receiver.trickle(Reply(200, b"x" * 500))):
            async with client(request_timeout=0.2) as made:
                receiver.script.append(step)
                late = await failure(made, request_to(receiver))
                assert (late.kind, late.config) == ("timeout", False)


async def test_connections_that_break_are_tried_again_and_the_next_is_a_new_one() -> None:
    steps: list[Step] = [cut_in_request, cut_before_answer, cut_in_answer(Reply(200, b"y" * 99))]
    async with scripted_receiver() as receiver, client() as made:
        for step in steps:
            receiver.script.append(step)
            broken = await failure(made, request_to(receiver, body=bytes(1 << 21), compress=False))
            assert (broken.kind, broken.config) == ("disconnected", False)
            assert (await made.request(request_to(receiver))).status == 200


async def test_what_is_not_http_is_tried_again() -> None:
    async with scripted_receiver() as receiver, client() as made:
        receiver.script.append(gibberish)
        assert (await failure(made, request_to(receiver))).kind == "protocol"


@contextmanager
def most_memory(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


async def test_a_gibibyte_of_answer_is_not_read() -> None:
    async with scripted_receiver() as receiver, client() as made:
        receiver.script.append(endless())
        with most_memory(16 << 20):
            answer = await made.request(request_to(receiver))
        assert (len(answer.body), answer.whole) == (MAX_ANSWER_BYTES, False)
        assert (await made.request(request_to(receiver))).status == 200
        assert receiver.connections == 2


async def test_a_gzip_bomb_is_not_unpacked() -> None:
    async with scripted_receiver() as receiver, client() as made:
        receiver.script.append(gzip_bomb(size=64 << 20))
        with most_memory(16 << 20):
            answer = await made.request(request_to(receiver))
        assert (len(answer.body), answer.whole) == (MAX_ANSWER_BYTES, False)


async def test_a_head_without_end_is_not_read() -> None:
    async with scripted_receiver() as receiver, client() as made:
        receiver.script.append(Reply(200, headers={"X-Much": "a" * 100_000}))
        assert (await failure(made, request_to(receiver))).kind == "protocol"


async def test_secrets_are_in_no_answer_and_no_failure() -> None:
    async with scripted_receiver(echo) as receiver, client() as made:
        headers = {"Authorization": f"Bearer {SECRET}"}
        answer = await made.request(request_to(receiver, headers=headers))
        assert SECRET.encode() not in answer.body
        assert b"Bearer ***" in answer.body
        broken = await failure(made, request_to(receiver, headers={"X-Token": f"{SECRET}\r\nX: y"}))
        assert (broken.kind, broken.config) == ("url", True)
        assert SECRET not in repr(broken)
        assert broken.__suppress_context__ or broken.__context__ is None


async def test_a_cancelled_request_ends_at_once_and_leaves_no_connection() -> None:
    async with scripted_receiver() as receiver, client() as made:
        receiver.script.append(receiver.hang)
        task = asyncio.create_task(made.request(request_to(receiver)))
        await eventually(lambda: bool(receiver.received), "the request is there")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await made.request(request_to(receiver))).status == 200
        assert receiver.connections == 2


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


async def over_tls(context: ssl.SSLContext, **tls: str) -> RemoteAnswer:
    async with (
        scripted_receiver(tls=context) as receiver,
        client(tls=TlsOptions(**tls)) as made,
    ):
        return await made.request(request_to(receiver, "localhost", scheme="https"))


async def test_certificates_of_an_own_authority_are_verified(authority: trustme.CA) -> None:
    answer = await over_tls(server_side(authority, "localhost"), ca=pem(authority))
    assert answer.status == 200


@pytest.mark.parametrize("own", [False, True])
async def test_certificates_of_others_are_refused(authority: trustme.CA, own: bool) -> None:
    other = {"ca": pem(trustme.CA())} if own else {}
    with pytest.raises(NoAnswer) as refused:
        await over_tls(server_side(authority, "localhost"), **other)
    assert (refused.value.kind, refused.value.config) == ("certificate", True)


async def test_names_are_verified_and_can_be_given(authority: trustme.CA) -> None:
    context = server_side(authority, "siem.example.org")
    with pytest.raises(NoAnswer) as refused:
        await over_tls(context, ca=pem(authority))
    assert refused.value.kind == "certificate"
    assert (
        await over_tls(context, ca=pem(authority), server_name="siem.example.org")
    ).status == 200


async def refused_handshake(context: ssl.SSLContext, authority: trustme.CA) -> NoAnswer:
    """Failure of a request to a receiver that refuses it in the handshake, and says why."""

    def refuse() -> None:
        peer, _ = listener.accept()
        tls = context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(ssl.SSLError):
            tls.do_handshake()
        with socket.socket(fileno=tls.detach()) as plain:
            plain.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while plain.recv(65536):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse))
        async with client(tls=TlsOptions(ca=pem(authority))) as made:
            url = f"https://localhost:{listener.getsockname()[1]}/"
            failed = await failure(made, HttpRequest(url, b"x", {}))
        await refusing
    return failed


async def test_client_certificates_are_shown_to_who_asks(authority: trustme.CA) -> None:
    context = server_side(authority, "localhost")
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("gateway@example.org")
    cert = b"".join(blob.bytes() for blob in mine.cert_chain_pems).decode()
    key = mine.private_key_pem.bytes().decode()
    assert (await over_tls(context, ca=pem(authority), cert=cert, key=key)).status == 200


async def test_a_receiver_that_misses_our_certificate_is_told_as_configuration(
    authority: trustme.CA,
) -> None:
    context = server_side(authority, "localhost")
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    failed = await refused_handshake(context, authority)
    assert (failed.kind, failed.config) == ("certificate", True)


async def test_tls_before_1_2_is_refused(authority: trustme.CA) -> None:
    context = server_side(authority, "localhost")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    failed = await refused_handshake(context, authority)
    assert (failed.kind, failed.config) == ("tls", False)


def test_contexts_always_verify(authority: trustme.CA) -> None:
    for options in (TlsOptions(), TlsOptions(ca=pem(authority))):
        context = tls_context(options)
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@every([{"ca": "nonsense"}, {"cert": "x", "key": SECRET}, {"cert": "", "ca": "-----BEGIN"}])
def test_certificates_that_are_none_are_told_without_the_key(tls: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match=r"^tls\.c") as refused:
        tls_context(TlsOptions(**tls))
    assert SECRET not in repr(refused.value) + repr(TlsOptions(**tls))
    assert refused.value.__suppress_context__


async def test_a_proxy_is_asked_for_a_tunnel_and_only_its_own_address_is_looked_up(
    authority: trustme.CA,
) -> None:
    names = _Names(["127.0.0.1"])
    context = server_side(authority, "siem.example.org")
    async with scripted_receiver(tls=context) as receiver, scripted_receiver() as proxy:
        asked: list[tuple[str, str]] = []

        async def tunnel(exchange: Any) -> None:
            asked.append((exchange.target, exchange.headers["proxy-authorization"]))
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            exchange.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            pumps = [_pump(exchange.reader, writer), _pump(reader, exchange.writer)]
            await asyncio.gather(*pumps)

        proxy.script.append(tunnel)
        options = {"proxy": f"http://ann:pw@proxy.example.org:{proxy.port}", "rule": ConnectRule()}
        async with client(names, tls=TlsOptions(ca=pem(authority)), **options) as made:
            request = HttpRequest("https://siem.example.org/in", b"x", {})
            assert (await made.request(request)).status == 200
        assert names.asked == ["proxy.example.org"]
        assert asked == [("siem.example.org:443", "Basic YW5uOnB3")]
        assert receiver.bodies == [b"x"]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@every([(407, True), (403, True), (502, False), (503, False)])
def test_a_proxy_that_refuses_is_told_from_one_that_fails(case: tuple[int, bool]) -> None:
    async def attempt() -> None:
        async with scripted_receiver() as proxy:
            proxy.script.append(Reply(case[0]))
            async with client(proxy=f"http://127.0.0.1:{proxy.port}", rule=ConnectRule()) as made:
                refused = await failure(made, HttpRequest("https://siem.example.org/", b"x", {}))
                assert (refused.kind, refused.config) == ("proxy", case[1])

    asyncio.run(attempt())


async def test_addresses_in_urls_are_checked_before_a_proxy_is_asked() -> None:
    async with scripted_receiver() as proxy:
        options = {"proxy": f"http://127.0.0.1:{proxy.port}", "rule": ConnectRule()}
        async with client(**options) as made:
            for host in ("169.254.169.254", "localhost", "LOCALHOST.", "x.localhost"):
                refused = await failure(made, HttpRequest(f"https://{host}/", b"x", {}))
                assert (refused.kind, refused.config) == ("address", True), host
        assert proxy.connections == 0


async def test_nothing_on_the_way_to_a_proxy_is_this_machine() -> None:
    async with scripted_receiver() as proxy:
        options = {"proxy": f"http://127.0.0.1:{proxy.port}"}
        # As the configuration may: the loopback that is meant is that of the proxy.
        own = ConnectRule(AddressRule(configured=True))
        async with client(rule=own, **options) as made:
            for host in ("localhost", "127.0.0.1"):
                refused = await failure(made, HttpRequest(f"http://{host}/", b"x", {}))
                assert (refused.kind, refused.config) == ("url", True), host
                assert "everybody on the way" in refused.message
        assert proxy.connections == 0


async def test_cookies_are_kept_only_where_they_are_asked_for() -> None:
    for cookies in (False, True):
        async with scripted_receiver() as receiver, client(cookies=cookies) as made:
            receiver.script.append(Reply(200, headers={"Set-Cookie": "node=7; Path=/"}))
            await made.request(request_to(receiver))
            await made.request(request_to(receiver))
            assert receiver.received[1].headers.get("cookie") == ("node=7" if cookies else None)
