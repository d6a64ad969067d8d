"""Cache of verified tokens, so that a client costs one verification and not one per request.

It holds no token, but a hash of each that is keyed with a secret of this process, as long as the
digest in the store; and nothing of a wrong token.
"""

from __future__ import annotations

import hashlib
import secrets

from gateway.access.keys.key import Key

_MOST = 10_000
_BYTES = 32


class VerifiedTokens:
    """Keys by verified token, as they were then; callers compare them with the current ones."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._keyed = hashlib.blake2b(digest_size=_BYTES, key=secrets.token_bytes(_BYTES))
        # In the order of verification: the oldest is forgotten first.
        self._keys: dict[bytes, Key] = {}

    def key_of(self, token: str) -> Key | None:
        """Key of a verified token; None if it was not verified."""
        return self._keys.get(self._value(token))

    def add(self, token: str, key: Key) -> None:
        """Remember that the token is that of the key."""
        value = self._value(token)
        if value not in self._keys and len(self._keys) >= self._most:
            del self._keys[next(iter(self._keys))]
        self._keys[value] = key

    def clear(self) -> None:
        """Forget all tokens, as some may have become invalid."""
        self._keys.clear()

    def _value(self, token: str) -> bytes:
        keyed = self._keyed.copy()
        # Text that is not valid Unicode has a hash like any other, and is never found.
        keyed.update(token.encode(errors="surrogatepass"))
        return keyed.digest()
