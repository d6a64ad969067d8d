"""What the last words of an action say, for formats that sort events by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

Found = TypeVar("Found")

LOGON, LOGOFF = ("login", "logon", "signin"), ("logout", "logoff", "signout")
CREATE = ("create", "add")
READ = ("get", "read", "list", "view", "export")
UPDATE = ("update", "edit", "patch", "set")
DELETE = ("delete", "remove")

_AUTHENTICATION = re.compile(r"auth(?:n|z|entication|orization)?(?![a-z])")
_IDENTITY = re.compile(r"(?:iam|users?|accounts?)(?![a-z])")


def by_action(action: str, table: Mapping[str, Found]) -> Found | None:
    """What a table has for the last two words of an action, or else for its last one."""
    words = action.lower().split(".")
    found = table.get(".".join(words[-2:]))
    return table.get(words[-1]) if found is None else found


def about_authentication(category: str) -> bool:
    return _AUTHENTICATION.match(category) is not None


def about_identities(category: str) -> bool:
    """Whether accounts, users or groups are managed."""
    return _IDENTITY.match(category) is not None
