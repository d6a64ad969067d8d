"""Tokens that were checked and found right, so that a client costs one such check and not one for
each of its requests.

No token stays in memory: what is held of one is a value keyed with a secret of this process, as
long as the digest in the store. Nothing is held of a token that was wrong.
"""

from __future__ import annotations

import hashlib
import secrets

from gateway.access.keys.key import Key

_MOST = 10_000
_BYTES = 32


class ProvenTokens:
    """The key of each, as it was when the token was checked.

    Whoever asks has to look whether that is still how the key is known.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._keyed = hashlib.blake2b(digest_size=_BYTES, key=secrets.token_bytes(_BYTES))
        # Ordered: the one that was checked first is forgotten first.
        self._keys: dict[bytes, Key] = {}

    def key_of(self, token: str) -> Key | None:
        """The key that the token was found to be the token of; None if it was not checked."""
        return self._keys.get(self._value(token))

    def add(self, token: str, key: Key) -> None:
        """The token is that of the key."""
        value = self._value(token)
        if value not in self._keys and len(self._keys) >= self._most:
            del self._keys[next(iter(self._keys))]
        self._keys[value] = key

    def clear(self) -> None:
        """Forget all tokens, as one that was right need not be right any more."""
        self._keys.clear()

    def _value(self, token: str) -> bytes:
        keyed = self._keyed.copy()
        # What is no text cannot be right either, and has a value like any other.
        keyed.update(token.encode(errors="surrogatepass"))
        return keyed.digest()
