"""ArcSight Common Event Format, CEF:0, one line of text.

Lost: `data`, targets beyond the first, microseconds, `actor.key_id`, and what is beyond the lengths
of the dictionary. Control characters but line breaks become spaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.formats.format import FormatOptions
from gateway.formats.shown_event import (
    ShownActor,
    ShownEvent,
    ShownTarget,
    milliseconds,
    shown_event,
)

_HEAD = "CEF:0|audit-gateway|audit-gateway|1"
_SEVERITIES = {1: 1, 2: 3, 3: 5, 4: 7, 5: 9, 6: 10}
# Lengths in the dictionary.
_LONGEST_ID, _LONGEST_ACTION, _LONGEST = 40, 63, 1023
_SPECIAL = re.compile(r"[\\=\x00-\x1f\x7f-\x9f]")
_ESCAPED = {"\\": r"\\", "=": r"\=", "\n": r"\n", "\r": r"\r"}


def cef_encoder(options: FormatOptions) -> Callable[[bytes], bytes]:
    """Encoder of single events."""
    return _encode


def _encode(native: bytes) -> bytes:
    event = shown_event(native)
    # Categories and actions hold nothing that would be escaped here.
    header = "|".join(
        (
            _HEAD,
            f"{event.category}.{event.action}",
            event.action,
            str(_SEVERITIES[event.severity]),
        )
    )
    return f"{header}|{' '.join(_extension(event))}".encode()


def _extension(event: ShownEvent) -> list[str]:
    source, actor = event.source, event.actor or ShownActor()
    target = event.targets[0] if event.targets else ShownTarget()
    port, address = source.port_number(), source.address()
    long_id = len(event.id) > _LONGEST_ID
    fields = [
        ("externalId", "" if long_id else event.id),
        ("start", str(milliseconds(event.time))),
        ("rt", str(milliseconds(event.recorded_at))),
        ("cat", event.category),
        ("act", event.action[:_LONGEST_ACTION]),
        ("outcome", event.outcome),
        ("suid", actor.id),
        ("suser", actor.name),
        ("spriv", actor.type),
        *_address(address),
        ("spt", "" if port is None else str(port)),
        ("sourceServiceName", source.service),
        ("requestClientApplication", source.user_agent[:_LONGEST]),
        ("duid", target.id),
        ("duser", target.name),
        ("reason", event.reason[:_LONGEST]),
        *_labelled("cs1", "tenant", event.tenant),
        *_labelled("cs2", "eventId", event.id if long_id else ""),
        *_labelled("cs3", "cursor", event.cursor),
        *_labelled("cs4", "target", target.urn),
        *_labelled("cs5", "requestId", event.request.id),
        *_labelled("cs6", "masked", ",".join(event.masked)[:4000]),
        *_labelled("flexString1", "pseudonymized", ",".join(event.pseudonymized)[:_LONGEST]),
    ]
    fields = [(name, value) for name, value in fields if value.strip()]
    # One search for all, as most events have nothing to escape.
    if _SPECIAL.search("".join([value for _, value in fields])):
        fields = [(name, _escaped(value)) for name, value in fields]
    return [f"{name}={value}" for name, value in fields]


def _address(address: str) -> list[tuple[str, str]]:
    if ":" in address:
        return _labelled("c6a2", "Source IPv6 Address", address)
    return [("src", address)]


def _labelled(name: str, label: str, value: str) -> list[tuple[str, str]]:
    return [(f"{name}Label", label), (name, value)] if value.strip() else []


def _escaped(value: str) -> str:
    return _SPECIAL.sub(lambda found: _ESCAPED.get(found[0], " "), value)
