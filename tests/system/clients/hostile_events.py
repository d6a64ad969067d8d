"""Events whose content would break a careless framing, and the check that they came through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

LAST_ACTION = "test.last"
# Larger than what clients and proxies read at once; with letters of two to four bytes.
_LONG = ("0123456789abcdef" * 64 + "é€😀") * 195

_TEXTS = {
    "line ends": "one\r\ntwo\rthree\nfour\n\n\r\r\n\r\nfive",
    "line ends of Unicode": "one\u2028two\u2029three\u0085four\x0bfive\x0csix",
    "byte order mark": "\ufeffbegins with one and ends with one\ufeff",
    "injected block": "x\n\nid: 999\nevent: end\ndata: {}\n\nretry: 1\n\n",
    "injected fields": "x\r\nid: 1\r\ndata: y\rdata: z",
    "NUL": "before\x00after\x00",
    "controls": "".join(map(chr, range(1, 0x20))) + "\x7f\x80\x9f",
    "empty": "",
    "blank": " \t ",
    "quotes": '"\\"\\\\u0041 \' </script><!-- {"type":"end","code":4501}',
    "beyond the basic plane": "😀👩‍👩‍👧‍👦\U0010ffff\ufffd\ue000",
    "right to left": "\u202egnp.exe\u202c\u200b",
}


def hostile_events(tenant: str, name: str) -> list[dict[str, Any]]:
    """Each with its text in every member that takes free text, and as a name of a member.

    `name` is in the ids, so that the same content can be sent more than once.
    """
    events = [
        _event(tenant, f"{what} {name}", actor={"id": text[:200], "name": text[:200]},
               source={"user_agent": text[:200]}, reason=text[:200],
               data={"what": what, "text": text, text: {"nested": [text, ""]}})
        for what, text in _TEXTS.items()
    ]  # fmt: skip
    numbers = [2**53 + 1, 2**64 - 1, -(2**63), 1e-7, 0.1, -0.0]
    events += [
        _event(tenant, f"id: 7 {name}", data={"why": "ids take any printable letter"}),
        _event(tenant, f'data: {{"a":1}} {name}', data={}),
        _event(tenant, f"long line {name}", data={"text": _LONG}),
        _event(tenant, f"numbers {name}", data={"numbers": numbers}),
    ]
    return events


def ordinary_events(tenant: str, name: str, count: int) -> list[dict[str, Any]]:
    """Events as they usually are."""
    return [
        _event(tenant, f"{name}-{number}", actor={"id": f"u-{number}"}, data={"number": number})
        for number in range(count)
    ]


def last_event(tenant: str) -> dict[str, Any]:
    """The event at which clients stop."""
    return {**_event(tenant, "last"), "action": LAST_ACTION}


def _event(tenant: str, event_id: str, **members: Any) -> dict[str, Any]:
    named = {"id": event_id, "tenant": tenant, "category": "test", "action": "test.event"}
    return {**named, "outcome": "success", "severity": 1, **members}


def assert_exactly_once(received: Sequence[str], sent: Sequence[dict[str, Any]]) -> None:
    """Each received text is the JSON of an event; they are what was sent, in order, each once."""
    events = [json.loads(text) for text in received]
    assert [event["id"] for event in events] == [event["id"] for event in sent]
    for event, wanted in zip(events, sent, strict=True):
        ours = {name: value for name, value in event.items() if name in wanted}
        # As text: `==` would take 1 for 1.0 and -0.0 for 0.
        assert json.dumps(ours, sort_keys=True) == json.dumps(wanted, sort_keys=True)
        assert set(event) - set(wanted) == {"cursor", "recorded_at", "time"}
    cursors = [event["cursor"] for event in events]
    assert cursors == sorted(set(cursors))
