"""CloudEvents: ids that are unique over sources.

Source: CloudEvents 1.0.2, "id": producers ensure that `source` and `id` are unique together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from gateway.ingest.mapping.values import text


def event_id(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """The id with a mark of its source."""
    own, source = text(record.get("id"), 1024), text(record.get("source"), 4096)
    if own is None or source is None:
        return None
    mark = hashlib.sha256(source.encode()).hexdigest()[:16]
    return f"{own}~{mark}"
