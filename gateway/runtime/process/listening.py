"""Listening sockets of several processes on one address; the kernel spreads the connections."""

from __future__ import annotations

import socket

from gateway.errors import GatewayError, Unavailable


class SharedAddress:
    """An address that several processes listen on, each with its own sockets (SO_REUSEPORT).

    Port 0 becomes a free port at the first call of `bind`.
    """

    def __init__(self, host: str, port: int, chosen_by: str = "--host and --port") -> None:
        """`chosen_by` names what the operator chooses the address with."""
        self._host = host
        self._port = port
        self._chosen_by = chosen_by
        self._infos: list[tuple[socket.AddressFamily, tuple[str | int, ...]]] = []

    def bind(self) -> list[socket.socket]:
        """Sockets of one process, one per address of the host, not yet listening.

        Raises `GatewayError` if the address is in use.
        """
        try:
            if not self._infos:
                self._resolve()
            return [self._bound(family, address) for family, address in self._infos]
        except OSError as error:
            raise self.unusable(error) from None

    def listen(self) -> list[socket.socket]:
        """Sockets as of `bind` that listen: the address is taken from now on."""
        sockets = self.bind()
        try:
            for sock in sockets:
                sock.listen()
        except OSError as error:
            raise self.unusable(error) from None
        return sockets

    def unusable(self, error: OSError) -> GatewayError:
        """Error of a failure to listen, for the operator."""
        return Unavailable(
            f"cannot listen on {self._host}:{self._port}: {error.strerror or error}; "
            f"choose another address with {self._chosen_by}",
            code="address_unusable",
        )

    def _resolve(self) -> None:
        infos = []
        for family, _, _, _, address in socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            # Without SO_REUSEPORT, which would hide that another gateway uses this port.
            with self._socket(family) as alone:
                alone.bind((address[0], self._port, *address[2:]))
                self._port = alone.getsockname()[1]
            infos.append((family, (address[0], self._port, *address[2:])))
        self._infos = list(dict.fromkeys(infos))

    def _bound(self, family: socket.AddressFamily, address: tuple[str | int, ...]) -> socket.socket:
        sock = self._socket(family)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
        return sock

    def _socket(self, family: socket.AddressFamily) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        # Lingering connections of an earlier process must not prevent the start.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `::` covers IPv4 too, as elsewhere; a name gets separate sockets for IPv4.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self._host != "::"))
        return sock
