"""Lines of a body while it comes: which are whole, and of one that is too long its beginning."""

from __future__ import annotations

from collections.abc import Iterator


class GrowingLines:
    """Whole lines, as soon as their ends are there. Of a line with more than `most` bytes only as
    many are kept; the rest is dropped up to its end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = bytearray()
        # Whether bytes of the present line were dropped, and how many ever were.
        self.is_long = False
        self.dropped = 0

    def add(self, piece: bytes) -> Iterator[tuple[bytes, bool]]:
        """Lines that a piece ends, joined; and whether they are the beginning of a long one, which
        stands alone."""
        if self.is_long:
            end = piece.find(b"\n")
            self.dropped += len(piece) if end < 0 else end
            if end < 0:
                return
            piece = piece[end:]
            yield self.last()
        end = piece.rfind(b"\n") + 1
        if end:
            yield bytes(self._rest) + piece[:end], False
            self._rest = bytearray(piece[end:])
        else:
            self._rest += piece
        if len(self._rest) > self._most:
            self.is_long = True
            self.dropped += len(self._rest) - self._most
            del self._rest[self._most :]

    def last(self) -> tuple[bytes, bool]:
        """The line without an end, and whether it is the beginning of a long one."""
        line, is_long = bytes(self._rest), self.is_long
        self._rest, self.is_long = bytearray(), False
        return line, is_long
