"""Options of commands that are clients of a gateway: its address, and the key."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.errors import InvalidRequest

DEFAULT_URL = "http://127.0.0.1:8080"
_MOST_KEY_BYTES = 4096
KEY_VARIABLE = "AUDIT_GATEWAY_KEY"


def read_key(key_file: Path | None) -> str:
    """Key from the file, or else the environment; never from a flag, which others can see."""
    if key_file is not None:
        try:
            # Bounded: something else, such as a device, may have no end.
            with key_file.open("rb") as file:
                key, origin = file.read(_MOST_KEY_BYTES).decode("utf-8-sig").strip(), str(key_file)
        except OSError as error:
            raise InvalidRequest(
                f"the key file {key_file} cannot be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise InvalidRequest(f"the key file {key_file} holds no key: it is no text") from None
    else:
        key, origin = os.environ.get(KEY_VARIABLE, "").strip(), KEY_VARIABLE
    if not key:
        raise InvalidRequest(f"a key is needed: set {KEY_VARIABLE} or give --key-file FILE")
    return check_key(key, f"what {origin} holds")


def check_key(key: str, origin: str) -> str:
    """The key, if it can be one. No error repeats it."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidRequest(f"{origin} is not a key: it is empty, or has spaces or odd characters")
    return key
