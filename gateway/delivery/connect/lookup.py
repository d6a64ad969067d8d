"""Look-ups of names for connections to outside systems, with every address checked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.delivery.connect.addresses import AddressRule, is_loopback, literal_address
from gateway.delivery.connect.endpoint import refusal_text
from gateway.delivery.connect.failures import RefusedAddress

# As `socket.getaddrinfo` gives it.
AddressInfo = tuple[Any, ...]
# A resolver that hangs keeps its thread; other threads of the gateway are not for that.
_THREADS = 8


class ConnectRule(NamedTuple):
    """What a destination may connect to. `plaintext`: whether unencrypted beyond the machine."""

    addresses: AddressRule = AddressRule()
    plaintext: bool = False

    def check(self, host: str, address: str, *, plain: bool) -> None:
        """Raise `RefusedAddress` unless that address of a host may be connected to."""
        found = literal_address(address)
        if found is None:
            raise RefusedAddress(f"{host}: {address} is no address")
        if kind := self.addresses.refusal(found):
            raise RefusedAddress(refusal_text(host, str(found), kind))
        if plain and not self.plaintext and not is_loopback(found):
            raise RefusedAddress(
                f'{host}: {found} is reached without TLS only with "plaintext":true'
            )


class Lookups:
    """Look-ups of names, in threads of their own. It is shared by all destinations."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "destination-names")
        self._under_way: dict[tuple[str, int], asyncio.Future[Sequence[AddressInfo]]] = {}

    async def resolve(self, host: str, port: int) -> Sequence[AddressInfo]:
        """Addresses of a name. Raises `OSError`. One that hangs takes one thread, however often it
        is asked for."""
        name = host, port
        found = self._under_way.get(name)
        if found is None:
            loop = asyncio.get_running_loop()
            found = loop.run_in_executor(self._threads, _look_up, host, port)
            self._under_way[name] = found
            found.add_done_callback(lambda done: self._ended(name, done))
        return await asyncio.shield(found)

    def _ended(self, name: tuple[str, int], done: asyncio.Future[Sequence[AddressInfo]]) -> None:
        del self._under_way[name]
        if not done.cancelled():
            # Perhaps nobody waits any more.
            done.exception()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> Sequence[AddressInfo]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "not a name that can be looked up") from None


class CheckedResolver(AbstractResolver):
    """Resolver of aiohttp that gives checked addresses, to which the connection then goes. If any
    address of a name is refused the name is, as somebody plays with it."""

    def __init__(self, lookups: Lookups, rule: ConnectRule, *, plain: bool) -> None:
        self._lookups, self._rule, self._plain = lookups, rule, plain

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._lookups.resolve(host, port)
        for *_, address in found:
            self._rule.check(host, address[0], plain=self._plain)
        numeric = socket.AI_NUMERICHOST
        return [
            ResolveResult(
                hostname=host, host=address[0], port=port, family=kind, proto=proto, flags=numeric
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        return None

    def new_socket(self, info: Any) -> socket.socket:
        """Socket for a connection to an address, which is checked: also addresses that stand in a
        URL, which are never looked up, come by here."""
        family, kind, protocol, _, address = info
        self._rule.check(address[0], address[0], plain=self._plain)
        return socket.socket(family, kind, protocol)
