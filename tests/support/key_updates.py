"""A TLS client that has keys updated as often as it likes, which Python's own does not offer."""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import ctypes.util
import socket

from tests.support.machine_time import patience

_PIECE = 1 << 20
_POINTERS = ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_new", "BIO_s_mem")
_TAKES_POINTER = (
    "SSL_CTX_new", "SSL_new", "BIO_new", "SSL_do_handshake", "SSL_set_connect_state", "SSL_free",
    "SSL_CTX_free",
)  # fmt: skip
NOT_REQUESTED, REQUESTED = 0, 1


def _openssl() -> ctypes.CDLL | None:
    """OpenSSL as Python has it, or else as the machine has it."""
    for path in (getattr(_ssl, "__file__", None), ctypes.util.find_library("ssl")):
        library = ctypes.CDLL(path) if path else None
        if library is not None and hasattr(library, "SSL_key_update"):
            return library
    return None


# None where neither can be found.
OPENSSL = _openssl()


class KeyUpdater:
    """Client on a connected socket that does not block."""

    def __init__(self, sock: socket.socket) -> None:
        assert OPENSSL is not None
        self.sock = sock
        library = self._library = OPENSSL
        for name in _POINTERS:
            getattr(library, name).restype = ctypes.c_void_p
        for name in _TAKES_POINTER:
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.SSL_set_bio.argtypes = [ctypes.c_void_p] * 3
        library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
        for name in ("SSL_write", "BIO_write"):
            getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        library.BIO_read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        self._context = library.SSL_CTX_new(library.TLS_client_method())
        self._tls = library.SSL_new(self._context)
        self._incoming = library.BIO_new(library.BIO_s_mem())
        self._outgoing = library.BIO_new(library.BIO_s_mem())
        library.SSL_set_bio(self._tls, self._incoming, self._outgoing)
        library.SSL_set_connect_state(self._tls)

    async def shake(self) -> None:
        """Do the handshake."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(patience()):
            while self._library.SSL_do_handshake(self._tls) != 1:
                await loop.sock_sendall(self.sock, self._made())
                data = await loop.sock_recv(self.sock, 1 << 16)
                assert data, "the handshake failed"
                self._library.BIO_write(self._incoming, data, len(data))
            await loop.sock_sendall(self.sock, self._made())

    def updates(self, count: int, asked: int) -> bytes:
        """Records that have its keys updated so often and, if it is asked, those of the peer."""
        for _ in range(count):
            assert self._library.SSL_key_update(self._tls, asked) == 1
            self._library.SSL_do_handshake(self._tls)
        return self._made()

    def written(self, data: bytes) -> bytes:
        """Records of data."""
        assert self._library.SSL_write(self._tls, data, len(data)) == len(data)
        return self._made()

    def close(self) -> None:
        """Give back what OpenSSL holds."""
        self._library.SSL_free(self._tls)
        self._library.SSL_CTX_free(self._context)

    def _made(self) -> bytes:
        piece = ctypes.create_string_buffer(_PIECE)
        made = b""
        while (size := self._library.BIO_read(self._outgoing, piece, _PIECE)) > 0:
            made += piece.raw[:size]
        return made
