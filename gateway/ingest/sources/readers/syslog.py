"""Messages of syslog, one line of text: RFC 5424, RFC 3164 and what is usual beside it, and CEF.

Source: RFC 5424, section 6; RFC 3164, section 4; rsyslog documentation, RSYSLOG_FileFormat. What
follows no RFC but has a priority is a message without a time.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.ingest.sources.readers.cef import PREFIX, cef_members
from gateway.ingest.sources.readers.record_reader import LINE

_HIGHEST_PRIORITY = 191
# Behind the length of a message, which a transport puts before it.
_PRIORITY = re.compile(r"(?:\d{1,10} )?<(\d{1,3})>", re.ASCII)
_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_RFC_5424 = re.compile(rf"([1-9]\d?) (-|{_ISO}) (\S+) (\S+) (\S+) (\S+) ", re.ASCII)
_NAMES = ("version", "timestamp", "hostname", "app_name", "proc_id", "msg_id")
_ELEMENT = re.compile(r'\[([^\s=\]"]+)((?: +[^\s=\]"]+="(?:[^"\\\]]|\\.)*+")*+) *\]', re.DOTALL)
_PARAMETER = re.compile(r' +([^\s=\]"]+)="((?:[^"\\\]]|\\.)*+)"', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\\]])')
_TIME = re.compile(
    rf"[*.]?(?:((?:[A-Z][a-z][a-z]) [ \d]?\d(?: \d{{4}})? \d\d:\d\d:\d\d(?:\.\d{{1,9}})?)|({_ISO}))"
    r":?(?: |\Z)",
    re.ASCII,
)
_TAG = re.compile(
    r"(?:(\S{1,255}) )?([^\s\[\]:<>|=\"{}]{1,128})(?:\[([^\]\s]{0,128})\])?:(?: |\Z)(.*)", re.DOTALL
)
_HOST = re.compile(r"(\S{1,255}) (.*)", re.DOTALL)
_OBJECT = re.compile(r"(?:@cee:)?\s*(?=\{)")
_JSON_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)


def record(text: str) -> dict[str, Any] | None:
    """Parts of a message, and the text under `line`.

    These are `facility`, `severity`, `version`, `timestamp`, `hostname`, `app_name`, `proc_id`,
    `msg_id` and `structured_data` as far as there are any, and one of `json` (an object), `cef` and
    `message` (all other text).
    """
    found: dict[str, Any] = {LINE: text}
    rest = text
    priority = _PRIORITY.match(text)
    if priority is not None and int(priority[1]) <= _HIGHEST_PRIORITY:
        found["facility"], found["severity"] = divmod(int(priority[1]), 8)
        rest = text[priority.end() :]
        message = _rfc_5424(rest, found)
        if message is None:
            message = _rfc_3164(rest, found)
    elif text.startswith(PREFIX):
        message = text
        if cef_members(text) is None:
            return None
    elif _TIME.match(text) is not None:
        message = _rfc_3164(text, found)
        if "app_name" not in found and not message.startswith(PREFIX):
            return None
    else:
        return None
    found |= _content(message.removeprefix("\ufeff"))
    return found


def _rfc_5424(text: str, found: dict[str, Any]) -> str | None:
    """The message, with the header's parts in `found`; None if it is no RFC 5424."""
    header = _RFC_5424.match(text)
    if header is None:
        return None
    data = _structured_data(text, header.end())
    if data is None:
        return None
    elements, end = data
    found |= {
        name: value for name, value in zip(_NAMES, header.groups(), strict=True) if value != "-"
    }
    if elements:
        found["structured_data"] = elements
    return text[end + 1 :]


def _structured_data(text: str, at: int) -> tuple[dict[str, dict[str, str]], int] | None:
    """Elements and their end; None if they are broken."""
    elements: dict[str, dict[str, str]] = {}
    end = at
    if text.startswith("-", at):
        end = at + 1
    else:
        while (element := _ELEMENT.match(text, end)) is not None:
            elements.setdefault(element[1], {}).update(
                (name, _ESCAPED.sub(r"\1", value)) for name, value in _PARAMETER.findall(element[2])
            )
            end = element.end()
    if end == at or text[end : end + 1] not in ("", " "):
        return None
    return elements, end


def _rfc_3164(text: str, found: dict[str, Any]) -> str:
    """The message, with the parts before it in `found`."""
    time = _TIME.match(text)
    if time is None:
        return _behind_tag(text, found, hosted=False)
    found["timestamp"] = time[1] or time[2]
    return _behind_tag(text[time.end() :], found, hosted=True)


def _behind_tag(text: str, found: dict[str, Any], *, hosted: bool) -> str:
    host = _HOST.match(text) if hosted else None
    if text.startswith(PREFIX):
        return text
    if host is not None and host[2].startswith(PREFIX):
        found["hostname"] = host[1]
        return host[2]
    tag = _TAG.match(text)
    if tag is not None and (hosted or tag[1] is None):
        parts = {"hostname": tag[1], "app_name": tag[2], "proc_id": tag[3]}
        found |= {name: value for name, value in parts.items() if value}
        return tag[4]
    if host is None:
        return text
    found["hostname"] = host[1]
    return host[2]


def _content(message: str) -> dict[str, Any]:
    if message.startswith(PREFIX) and (cef := cef_members(message)) is not None:
        return {"cef": cef}
    if (begin := _OBJECT.match(message)) is not None:
        try:
            decoded = msgspec.json.decode(message[begin.end() :].encode())
        except _JSON_ERRORS:
            pass
        else:
            return {"json": decoded}
    return {"message": message}
