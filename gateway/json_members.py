"""Members of JSON objects that stand twice: one of the two would be passed over in silence."""

from __future__ import annotations

from typing import Any

from gateway.errors import InvalidRequest


def refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    """For `json.loads(.., object_pairs_hook=refuse_repeated)`; what that gives is not used."""
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise InvalidRequest(f"the member {name[:64]!r} stands twice; send it once")
        seen.add(name)
