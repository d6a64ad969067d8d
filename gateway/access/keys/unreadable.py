"""Keys, roles and changes whose stored form cannot be read, perhaps of a newer version. Pure.

Such a key may do nothing; such a role grants nothing and denies everything to its keys. Neither can
be changed, as that would lose its content. Others are not affected.
"""

from __future__ import annotations

import hashlib
import logging
from functools import lru_cache
from typing import Any

import msgspec

from gateway.access.grants.grant import Grant
from gateway.access.grants.grant_check import ACTIONS
from gateway.access.grants.role import Role
from gateway.access.keys.change import Change
from gateway.access.keys.key import Key
from gateway.access.keys.stored_grant import decode_key, decode_role
from gateway.errors import Conflict
from gateway.filters.pattern import ANY

_CHANGE = msgspec.json.Decoder(Change)
_MOST_CHARACTERS = 65536
_MOMENTS = (
    "created_at", "expires_at", "revoked_at", "suspended_at", "suspended_until", "throttled_until",
    "drains_until", "changed_at", "reviewed_at", "confirm_by",
)  # fmt: skip
# The year 10000.
_END_OF_TIME = 253_402_300_800.0
_LOGGER = logging.getLogger(__name__)


class UnreadableKey(Key, frozen=True, kw_only=True):
    """Key of which only the columns beside its document are certain."""

    why: str

    @property
    def unreadable(self) -> str:
        return self.why


class UnreadableRole(Role, frozen=True, kw_only=True):
    """Role of which only the name is certain."""

    why: str

    @property
    def unreadable(self) -> str:
        return self.why


class UnreadableGrant(Grant, frozen=True, kw_only=True):
    """Grant in place of those of an unreadable role."""

    @property
    def unreadable(self) -> bool:
        return True


_DENIES_ALL = UnreadableGrant(id="unreadable", effect="deny", actions=ACTIONS, categories=(ANY,))


def read_key(key_id: str, document: bytes, digest: bytes, revision: int) -> Key:
    """Key from its row, unreadable or not."""
    try:
        key = decode_key(document, digest, revision)
        _check_moments(key)
        return key
    except Exception as error:  # Whatever it is, it concerns this key alone.
        known = _members(document)
        _warn("the key %s cannot be read, and may do nothing: %s", key_id, error, document)
        return UnreadableKey(
            id=key_id,
            digest=digest,
            revision=revision,
            why=_why(error),
            pepper=_text(known.get("pepper")),
            name=_text(known.get("name")),
            purpose=_text(known.get("purpose")),
            owner=_text(known.get("owner")),
            created_at=_moment(known.get("created_at")),
            expires_at=_moment(known.get("expires_at")),
            created_by=_text(known.get("created_by")),
            predecessor=_text(known.get("predecessor")),
            successor=_text(known.get("successor")),
            managed_by=_text(known.get("managed_by")),
        )


def read_role(name: str, document: bytes) -> Role:
    """Role from its row, unreadable or not."""
    try:
        return decode_role(document)
    except Exception as error:  # Whatever it is, it concerns this role alone.
        _warn("the role %s cannot be read; its keys may do nothing: %s", name, error, document)
        return UnreadableRole(name=name, grants=(_DENIES_ALL,), why=_why(error))


def read_change(document: bytes) -> Change:
    """Change that waits to be recorded; an unreadable one is recorded with its document."""
    try:
        return _CHANGE.decode(document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        return Change(
            # The same in every process.
            id=f"change-{hashlib.sha256(document).hexdigest()[:32]}",
            action="change.unreadable",
            about=(),
            data={
                "why": _why(error),
                "document": document.decode("utf-8", "replace")[:_MOST_CHARACTERS],
            },
        )


def check_readable(found: Key | Role) -> None:
    """Raise `Conflict` if a change would lose unreadable content."""
    if found.unreadable:
        kind, name = ("role", found.name) if isinstance(found, Role) else ("key", found.id)
        raise Conflict(
            f"the stored form of the {kind} {name} cannot be read by this version, and is left as "
            f"it is: change it with the version that wrote it ({found.unreadable})",
            code=f"{kind}_unreadable",
        )


def _warn(text: str, name: str, error: Exception, document: bytes) -> None:
    """Warn once for each version of a row, as rows are read repeatedly."""
    _warn_of_version(text, name, _why(error), hashlib.sha256(document).digest())


@lru_cache(1024)
def _warn_of_version(text: str, name: str, why: str, version: bytes) -> None:
    _LOGGER.warning(text, name, why)


def _why(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


def _members(document: bytes) -> dict[str, Any]:
    try:
        members = msgspec.json.decode(document)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def _text(raw: Any) -> str:
    return raw if isinstance(raw, str) else ""


def _check_moments(key: Key) -> None:
    """Raise for times that cannot be shown or compared."""
    for name in _MOMENTS:
        moment = getattr(key, name)
        if moment is not None and not 0 <= moment < _END_OF_TIME:
            raise ValueError(f"{name}: {moment:g} is no moment between the years 1970 and 9999")


def _moment(raw: Any) -> float:
    return float(raw) if isinstance(raw, int | float) and 0 <= raw < _END_OF_TIME else 0.0
