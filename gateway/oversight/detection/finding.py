"""Findings: signals, counted per key and window of time. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from gateway.access.keys.change import Change, key_urn, other_change
from gateway.access.keys.operator import Operator
from gateway.clock import Moment, format_time
from gateway.event import Severity
from gateway.json_members import about
from gateway.oversight.detection.signals import Signal

# Signals beside the certain ones of `gateway.oversight.detection.signals`: those of the
# baseline.
VOLUME = "volume"
REQUEST_VOLUME = "request_volume"
# Stored grants that would be refused today.
INVALID_GRANT = "invalid_grant"
# A key or a role of it that cannot be read, so that the key may do nothing.
UNREADABLE = "unreadable"
# Of no key: the wall clock of the gateway was set.
CLOCK_JUMP = "clock_jump"
# Of no key: the files of the listener's certificate have changed to ones that cannot be used.
CERTIFICATE_REFUSED = "certificate_refused"
# An event could not be delivered to a key.
EVENT_FAILED = "event_failed"
# Nothing was delivered to a destination for minutes; or its receiver refuses events.
DESTINATION_FAILING = "destination_failing"
DESTINATION_REJECTING = "destination_rejecting"
# A key was made for an emergency.
BREAK_GLASS = "break_glass"
# The person who made a key has not signed in for long.
MAKER_ABSENT = "maker_absent"
# A new secret was not where it is used in time, and was revoked; the key works on.
ROTATION_FAILED = "rotation_failed"
# Of a durable consumer: readers begin at one position again and again. Of one or a destination:
# retention comes near to its position.
CONSUMER_STUCK, POSITION_AT_RISK = "consumer_stuck", "position_at_risk"
SIGNALS = (
    "denials", "forbidden_categories", "probing", "out_of_scope", "rate_limited", "wrong_secret",
    "dormant_woke", "new_network", "revoked_presented", "drained_presented", "deep_replay",
    "silent_consumer", "new_operator", "odd_hour", "id_conflict", VOLUME, REQUEST_VOLUME,
    INVALID_GRANT, UNREADABLE, CLOCK_JUMP, EVENT_FAILED, DESTINATION_FAILING, DESTINATION_REJECTING,
    CONSUMER_STUCK, POSITION_AT_RISK, CERTIFICATE_REFUSED, BREAK_GLASS,
    MAKER_ABSENT, ROTATION_FAILED,
)  # fmt: skip
STATES = ("open", "expected")
_HOUR = 3600
_HOURLY = (
    "denials", "forbidden_categories", "probing", "out_of_scope", "rate_limited", "wrong_secret",
    "deep_replay",
)  # fmt: skip
_WINDOW = 6 * _HOUR
_SEVERITY = {
    BREAK_GLASS: 5, "forbidden_categories": 4, "probing": 4, "wrong_secret": 4,
    "drained_presented": 2, "silent_consumer": 2, "rate_limited": 2, "id_conflict": 2,
    REQUEST_VOLUME: 2, MAKER_ABSENT: 2,
}  # fmt: skip
_OFTEN_SECONDS = 60


class Finding(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Finding about a `key`; without one about an `address`, or about an `operator` of the command
    line. Times are seconds since 1970. `told` is the count in its newest event in the log, written
    at `told_at`."""

    id: str
    signal: str
    key: str = ""
    address: str = ""
    operator: str = ""
    count: int = 0
    first_seen: float
    last_seen: float
    state: Literal["open", "expected"] = "open"
    reason: str = ""
    by: str = ""
    data: dict[str, Any] = {}
    told: int = 0
    told_at: float = 0.0

    @property
    def severity(self) -> int:
        return _SEVERITY.get(self.signal, 3)

    @property
    def silence(self) -> str:
        """Name of the note that silences the signal of its key, address or operator."""
        return silence(self.signal, self.key, self.address or self.operator)

    def with_signal(self, signal: Signal) -> Finding:
        """The finding with another signal counted."""
        return msgspec.structs.replace(
            self,
            count=self.count + signal.count,
            first_seen=min(self.first_seen, signal.at),
            last_seen=max(self.last_seen, signal.at),
            data=signal.data,
        )

    def is_news(self, now: float) -> bool:
        """Whether another event is due: at first, when the count doubles, or after a minute."""
        if self.count <= self.told:
            return False
        return self.count >= 2 * self.told or now - self.told_at >= _OFTEN_SECONDS

    def public(self) -> FindingAnswer:
        return FindingAnswer(
            id=self.id, key=self.key or None, signal=self.signal, address=self.address,
            operator=self.operator, count=self.count, severity=self.severity,
            first_seen=format_time(self.first_seen), last_seen=format_time(self.last_seen),
            state=self.state, data=self.data, reason=self.reason, by=self.by,
        )  # fmt: skip


class FindingAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A finding in an answer."""

    id: str
    key: Annotated[str | None, about("The id of the key, if it is about one.")]
    signal: str
    address: Annotated[str, about("What it is about, if it is about no key.")] = ""
    operator: Annotated[str, about("Or whom, about the command line: `cli:` and a user.")] = ""
    count: int
    severity: Severity
    first_seen: Moment
    last_seen: Moment
    state: Literal["open", "expected"]
    data: dict[str, Any]
    reason: str = ""
    by: str = ""


def new_finding(signal: Signal, key_id: str, address: str = "") -> Finding:
    """Finding for a signal, with nothing counted yet. Its id follows from that."""
    window = int(signal.at // (_HOUR if signal.name in _HOURLY else _WINDOW))
    about = key_id or (signal.operator or address).replace("/", "_")
    return Finding(
        id=f"{signal.name}-{about}-{window}",
        signal=signal.name,
        key=key_id,
        address="" if key_id else address,
        operator=signal.operator,
        first_seen=signal.at,
        last_seen=signal.at,
    )


def mark_change(finding: Finding, at: float, operator: Operator | None = None) -> Change:
    """Change record of the mark of a finding, by an operator if one made it."""
    about = [key_urn(finding.key)] if finding.key else []
    data: dict[str, Any] = {"finding": finding.id, "signal": finding.signal}
    if finding.key:
        data["key"] = finding.key
    elif finding.operator:
        data["operator"] = finding.operator
    else:
        data["address"] = finding.address
    return other_change(
        f"finding.{'expected' if finding.state == 'expected' else 'reopened'}",
        about,
        by=finding.by,
        at=at,
        reason=finding.reason,
        data=data,
        operator=operator,
    )


def silence(signal: str, key_id: str, other: str) -> str:
    """Name of the note that silences a signal of a key, address or operator."""
    return f"{signal}:{key_id or other}"
