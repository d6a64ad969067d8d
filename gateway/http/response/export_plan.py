"""What an export is sent as."""

from __future__ import annotations

import msgspec


class ExportPlan(msgspec.Struct, frozen=True):
    """Transport of an export as records name it, suffix of its file, and how its body is sent.

    `says_end`: its content tells whether it is whole; if not, only the end of the body does, which
    a body that was cut must not have.
    """

    transport: str
    suffix: str
    chunked: bool
    coding: str | None
    says_end: bool

    def headers(self) -> list[str]:
        """Headers of the body."""
        made = ["Vary: Accept, Accept-Encoding"]
        if self.coding is not None:
            made.append(f"Content-Encoding: {self.coding}")
        return made


def attachment(key_id: str, begin: str, end: str, suffix: str) -> str:
    """`Content-Disposition` (RFC 6266) of events behind the cursor `begin` up to `end`, as a key
    sees them."""
    # Cursors and ids of keys hold nothing that a file name may not.
    return f'attachment; filename="events_{begin}_{end}_{key_id}.{suffix}"'
