"""CloudEvents in binary mode of HTTP, made structured: attributes are headers, data the body. Pure.

HTTP Protocol Binding 1.0.2, section 3.1.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from gateway.errors import InvalidRequest
from gateway.ingest.split import one_line

_PREFIX = "ce-"
_REQUIRED = ("specversion", "id", "source", "type")
_NAME = re.compile(r"[a-z0-9]{1,64}", re.ASCII)
# The body has these.
_NOT_HEADERS = ("data", "data_base64", "datacontenttype")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_JSON = re.compile(r"(?:application|text)/json|[^/]+/[^/]+\+json", re.ASCII)
_ANY_JSON = msgspec.json.Decoder(msgspec.Raw)
_ENCODE = msgspec.json.Encoder().encode


def structured(headers: Iterable[tuple[str, str]], content_type: str | None, body: bytes) -> bytes:
    """Event of a request in the JSON format. `content_type` is None if none was sent.

    Raises `InvalidRequest`.
    """
    event: dict[str, Any] = {}
    for header, value in headers:
        header = header.lower()
        if not header.startswith(_PREFIX):
            continue
        name = header.removeprefix(_PREFIX)
        if not _NAME.fullmatch(name) or name in _NOT_HEADERS:
            raise _wrong(header, "no attribute of CloudEvents has this name")
        if name in event:
            raise _wrong(header, "sent twice")
        event[name] = _decoded(header, value)
    missing = [f"`{_PREFIX}{name}`" for name in _REQUIRED if not event.get(name)]
    if missing:
        raise InvalidRequest(
            f"a CloudEvent in binary mode needs {', '.join(missing)}", code="invalid_cloudevent"
        )
    if content_type is not None:
        event["datacontenttype"] = content_type
    if body:
        event |= _data(content_type, body)
    return _ENCODE(event)


def _decoded(header: str, value: str) -> str:
    """Value of an attribute: a header may be quoted, and is percent-encoded."""
    plain = _QUOTED.sub(lambda quoted: _ESCAPED.sub(r"\1", quoted[1]), value)
    try:
        text = unquote_to_bytes(plain).decode()
    except UnicodeError:
        raise _wrong(header, "not UTF-8 where it is percent-encoded") from None
    if _CONTROL.search(text):
        raise _wrong(header, "attributes have no control characters")
    return text


def _data(content_type: str | None, body: bytes) -> dict[str, Any]:
    kind = (content_type or "").partition(";")[0].strip().lower()
    if not kind or _JSON.fullmatch(kind):
        try:
            _ANY_JSON.decode(body)
            return {"data": msgspec.Raw(one_line(body))}
        except (msgspec.DecodeError, RecursionError) as error:
            if kind:
                raise InvalidRequest(
                    f"the body is not JSON, as {kind} says: {error}", code="malformed_json"
                ) from None
    if kind.startswith("text/"):
        try:
            return {"data": body.decode()}
        except UnicodeDecodeError:
            pass
    return {"data_base64": base64.b64encode(body).decode()}


def _wrong(header: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"the header {header[:64]!r}: {reason}", code="invalid_cloudevent")
