"""Results of changes to keys, and how they are answered."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import structs

from gateway.access.keys.key import Key, KeyAnswer
from gateway.json_members import about

_SECRET = about(
    "The key itself, in this answer only.", pattern="^alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$"
)
_LIVING = about("The ids of keys that came of it and live on.")
_REVOKED = about("The ids of those revoked with it.")


class MintedKey(KeyAnswer, kw_only=True, omit_defaults=True):
    """Answer with a new key."""

    key: Annotated[str, _SECRET]
    expires_with: Annotated[str, about("The id of its maker, to whose life its own was cut.")] = ""


class IssuedKey(msgspec.Struct, frozen=True):
    """An issued key. `token` is shown only here; `cut` says that its life was shortened to that of
    its issuer, as it can issue keys itself."""

    key: Key
    token: str
    cut: bool

    def public(self) -> MintedKey:
        """Answer for the caller."""
        shown, cut = self.key.public(self.key.created_at), self.key.created_by if self.cut else ""
        return MintedKey(**structs.asdict(shown), key=self.token, expires_with=cut)


class RevokedKey(KeyAnswer, kw_only=True, omit_defaults=True):
    """Answer with a revoked key."""

    living_descendants: Annotated[tuple[str, ...] | None, _LIVING] = None
    revoked_descendants: Annotated[tuple[str, ...] | None, _REVOKED] = None


class Revocation(msgspec.Struct, frozen=True):
    """A key that was revoked at `at`, the ids of the descendants that were revoked with it (None if
    that was not asked for), and of those that are still living."""

    key: Key
    at: float
    descendants: tuple[str, ...] | None
    living: tuple[str, ...]

    def public(self) -> RevokedKey:
        """Answer for the caller."""
        # After a revocation of all, those that cannot be read or were issued meanwhile.
        living = self.living if self.living or self.descendants is None else None
        shown, ended = structs.asdict(self.key.public(self.at)), self.descendants
        return RevokedKey(**shown, living_descendants=living, revoked_descendants=ended)
