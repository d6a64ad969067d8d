"""Cleaning of text from clients before it is stored or logged."""

from __future__ import annotations

import re

_SHORT = 256
_SECRET = re.compile(r"al(pk|pt|pv)_[0-9A-Za-z_.-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def clean(text: str, limit: int = _SHORT) -> str:
    """Text of a client, made printable and short, without keys and tickets."""
    if not text.isprintable():
        text = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return without_keys(text)[:limit]


def without_keys(text: str) -> str:
    """Text without anything that may be a key or a ticket."""
    return _SECRET.sub(r"al\1_***", text) if "alp" in text else text
