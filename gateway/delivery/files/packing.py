"""Lines of a file, compressed piece by piece: there is no second copy of them in memory. Pure."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Sequence
from typing import NamedTuple

_GZIP = zlib.MAX_WBITS | 16
# Lines that are compressed together.
_AT_ONCE = 1000


class PackedLines(NamedTuple):
    """A compressed file, its SHA-256, and SHA-256 and size of its content."""

    body: bytes
    sha256: str
    content_sha256: str
    size: int


def packed_lines(lines: Sequence[bytes]) -> PackedLines:
    """File of these lines, each with a line break behind it: the same bytes each time."""
    packing, content, size = zlib.compressobj(1, wbits=_GZIP), hashlib.sha256(), 0
    packed = io.BytesIO()
    for number in range(0, len(lines), _AT_ONCE):
        piece = b"\n".join([*lines[number : number + _AT_ONCE], b""])
        content.update(piece)
        size += len(piece)
        packed.write(packing.compress(piece))
    packed.write(packing.flush())
    body = packed.getvalue()
    return PackedLines(body, hashlib.sha256(body).hexdigest(), content.hexdigest(), size)
