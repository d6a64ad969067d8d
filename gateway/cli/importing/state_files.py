"""Where an import keeps what it writes for itself: never beside its input."""

from __future__ import annotations

import os
from pathlib import Path


def state_file(data: Path | None, name: str) -> Path:
    """File `<data folder>.NAME`; of imports over HTTP, whose gateway may be anywhere, one in the
    user's folder for state: `$XDG_STATE_HOME/audit-gateway`, else
    `~/.local/state/audit-gateway`."""
    if data is not None:
        folder = data.resolve()
        return folder.with_name(f"{folder.name}.{name}")
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = os.path.expanduser("~/.local/state")
    return Path(state, "audit-gateway", name)
