"""Tokens of provisioning keys: `alpk_<kid>_<secret><crc>`.

`kid` is 12 and `secret` 43 characters of base 62 (71 and 256 random bits); `crc` is the CRC-32 of
everything before it as 6 digits of base 62, so that scanners and the gateway drop junk without a
look-up. A regular expression for secret scanners: `alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from zlib import crc32

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "alpk_"
# End of the error for a whole key in a text that many see.
HOLDS_KEY = "which all who see keys, and their records, would see: name it by its id, and rotate it"
# Two digits at a time, as every request is checked.
_PAIRS = [one + other for one in ALPHABET for other in ALPHABET]
_TOKEN = re.compile(r"(alpk_([0-9A-Za-z]{12})_[0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)
_KEY_ID = re.compile(r"[0-9A-Za-z]{12}", re.ASCII)


def new_token() -> tuple[str, str]:
    """`(kid, token)` of a new random key."""
    kid = _random(12)
    body = f"{PREFIX}{kid}_{_random(43)}"
    return kid, body + _checksum(body)


def key_id_of(token: str) -> str | None:
    """Kid of a well-formed token, else None."""
    match = _TOKEN.fullmatch(token)
    if match is None or _checksum(match[1]) != match[3]:
        return None
    return match[2]


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a kid."""
    return _KEY_ID.fullmatch(text) is not None


def looks_like_token(text: str) -> bool:
    """Whether a text may be a key in the wrong place."""
    return PREFIX in text


def holds_token(text: str) -> bool:
    """Whether a text contains a whole key."""
    return PREFIX in text and _TOKEN.search(text) is not None


def digest(pepper: bytes, token: str) -> bytes:
    """Digest of a token as it is stored: HMAC-SHA-256 under the pepper."""
    return hmac.digest(pepper, token.encode(), hashlib.sha256)


def same(one: bytes, other: bytes) -> bool:
    """Compare digests in constant time."""
    return hmac.compare_digest(one, other)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    high, low = divmod(crc32(text.encode()), len(_PAIRS))
    first, middle = divmod(high, len(_PAIRS))
    return _PAIRS[first] + _PAIRS[middle] + _PAIRS[low]
