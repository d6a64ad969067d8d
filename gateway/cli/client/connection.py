"""A gateway's address, the key and the errors of answers, for commands that are its clients."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gateway.errors import Forbidden, GatewayError, InvalidRequest, Unauthorized
from gateway.settings.kinds import masked

DEFAULT_URL = "http://127.0.0.1:8080"
_MOST_KEY_BYTES = 4096
KEY_VARIABLE = "AUDIT_GATEWAY_KEY"


def read_key(key_file: Path | None) -> str:
    """The key from the file, else from the environment. Never from a flag: flags can be seen."""
    if key_file is not None:
        try:
            # What is no key, such as a device, may have no end.
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
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidRequest(f"what {origin} holds is not a key: it has spaces or odd characters")
    return key


def split_url(url: str) -> SplitResult:
    """The parts of a gateway's address, checked."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(
            f"not the address of a gateway: {masked(url)!r}; write it like {DEFAULT_URL}"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("the address must not hold credentials; the key is sent as a header")
    if parts.query or parts.fragment:
        raise InvalidRequest("the address of a gateway has no ? or # part")
    return parts


def error_of(status: int, problem: dict[str, Any], url: str) -> GatewayError:
    """The error for an answer that another try would not change."""
    detail = problem.get("detail") or problem.get("title")
    said = str(detail) if detail else f"status {status}, no reason given"
    if status == 401:
        return Unauthorized(f"{url} does not accept the key: {said}")
    if status == 403:
        return Forbidden(f"the key does not allow this at {url}: {said}")
    return InvalidRequest(f"{url} answered {status}: {said}")
