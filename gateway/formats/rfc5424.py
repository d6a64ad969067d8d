"""Syslog messages of RFC 5424, one line of text, without the framing of a transport.

Lossless: the message is the native event, byte for byte. Structured data repeats what receivers
look at; control characters become spaces there.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gateway.formats.format import FormatOptions
from gateway.formats.shown_event import ShownActor, shown_event

# Facility "log audit" with the severities informational to alert.
_FACILITY = 13 * 8
_SEVERITIES = {1: 6, 2: 5, 3: 4, 4: 3, 5: 2, 6: 1}
_LONGEST_MSGID = 32
_LONGEST_HOSTNAME = 255
_SPECIAL = re.compile(r'["\\\]\x00-\x1f\x7f-\x9f]')


def rfc5424_encoder(options: FormatOptions) -> Callable[[bytes], bytes]:
    """Encoder of single events."""
    hostname = re.sub(r"[^!-~]", "", options.hostname)[:_LONGEST_HOSTNAME] or "-"
    data_id = f"audit@{options.enterprise_id}"

    def encode(native: bytes) -> bytes:
        event = shown_event(native)
        source, actor = event.source, event.actor or ShownActor()
        parameters = [
            ("id", event.id),
            ("tenant", event.tenant),
            ("recorded", event.recorded_at),
            ("cursor", event.cursor),
            ("action", event.action),
            ("outcome", event.outcome),
            ("actor", actor.id),
            ("ip", source.address()),
            ("service", source.service),
            ("target", event.first_urn()),
            ("request", event.request.id),
            ("reason", event.reason),
            ("reduced", ",".join(event.reduced)),
        ]
        # One search for all, as most events have nothing to escape.
        if _SPECIAL.search("".join([value for _, value in parameters])):
            parameters = [(name, _escaped(value)) for name, value in parameters]
        data = " ".join([f'{name}="{value}"' for name, value in parameters if value])
        message_id = f"{event.category}.{event.action}"[:_LONGEST_MSGID]
        head = (
            f"<{_FACILITY + _SEVERITIES[event.severity]}>1 {event.time} {hostname} audit-gateway - "
            f"{message_id} [{data_id} {data}] "
        )
        return head.encode() + native

    return encode


def _escaped(value: str) -> str:
    return _SPECIAL.sub(lambda found: "\\" + found[0] if found[0] in '"\\]' else " ", value)
