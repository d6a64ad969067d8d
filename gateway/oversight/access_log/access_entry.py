"""Entries of the access log before they are written: similar accesses, merged into one event."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.access.keys.change import key_urn
from gateway.access.usage.access import INGESTED, OPENED, Access, ExportedFile
from gateway.clock import format_time
from gateway.cursor import earlier, format_cursor, later
from gateway.event import Draft
from gateway.ingest.gateway_event import ACCESS, MOST_TARGETS, new_gateway_event
from gateway.sanitize import clean

_SEVERITY = {"success": 1, "failure": 2, "denied": 3}
# Most different values of a detail, as events are limited to 256 KiB.
_MOST_NAMED = MOST_TARGETS - 1
_MOST = {
    "parameters": 16, "about": 256, "clients": 8, "forbidden": 16, "out_of_scope": 16,
    "claimed": _MOST_NAMED, "pages": 16, "subjects": 16,
}  # fmt: skip
_MOST_RANGES = 16
# Most characters of all details, and of the parameters of one access.
_MOST_CHARACTERS = 40_000
MOST_PARAMETERS = 16_000


class AccessEntry:
    """Accesses that differ in their details only. `rest`: for how long the next entry merges
    repeats."""

    __slots__ = (
        "_bare", "_details", "_duplicates", "_events", "_first", "_last", "_omitted", "_ranges",
        "_seconds", "_whose", "count", "crowded", "early", "full", "rest", "rested", "size",
    )  # fmt: skip

    def __init__(self, rest: float) -> None:
        self.rest = rest
        # Whether it was written before, and how often because it was crowded.
        self.rested = False
        self.early = 0
        self.count = 0
        # Whether there may be no room for what the next access reads, or for its parameters.
        self.full = False
        self.crowded = False
        # Approximate characters of its details.
        self.size = 0
        self._first: Access | None = None
        self._last = 0.0
        self._events = 0
        self._duplicates = 0
        self._seconds = 0.0
        self._omitted = 0
        # Whether some accesses had no parameters.
        self._bare = False
        self._ranges: list[list[int]] = []
        self._details: dict[str, dict[str, None]] = {}
        # Keys and addresses: several if there are too many for entries of their own.
        self._whose: dict[tuple[str, str], None] = {}

    def successor(self) -> AccessEntry:
        """Empty entry that follows this one."""
        entry = AccessEntry(self.rest)
        entry.rested, entry.early = self.rested, self.early
        return entry

    def add(self, access: Access, *, details: bool = True) -> None:
        """Count an access; without `details`, only its figures."""
        if self._first is None:
            self._first = access
        self.count += access.times
        self._last = access.at
        self._events += access.events
        self._duplicates += access.duplicates
        self._seconds += access.seconds
        self._bare = self._bare or not access.parameters
        kept = details and self._add_whose(access)
        if access.end >= 0:
            kept = kept and self._add_range(access)
        if access.parameters:
            kept = kept and self._keep("parameters", access.parameters)
        if access.about:
            kept = kept and self._keep("about", access.about)
        if access.claimed:
            kept = kept and self._keep("claimed", access.claimed)
        if access.page:
            kept = kept and self._keep("pages", access.page)
        if access.subject:
            kept = kept and self._keep("subjects", access.subject)
        for category in access.forbidden:
            kept = kept and self._keep("forbidden", category)
        for selected in access.out_of_scope:
            kept = kept and self._keep("out_of_scope", selected)
        self._omitted += 0 if kept else access.times
        if access.client and details:
            self._keep("clients", access.client)

    def draft(self, event_id: str, epoch: str) -> Draft:
        """Event of the entry."""
        first = self._first
        assert first is not None
        several = len(self._whose) > 1
        return self._event(
            first,
            event_id,
            by_name="" if several or first.key is None else first.key.name,
            address="" if several else first.address,
            client=first.client,
            about=self._targets(),
            request_id=first.request_id if self.count == 1 else "",
            data=self._data(first, epoch),
        )

    def without_details(self, event_id: str) -> Draft:
        """Event of the entry without any text from a client."""
        assert self._first is not None
        data = {"count": self.count, "without_details": self.count}
        about = list(map(key_urn, self._key_ids()))
        return self._event(self._first, event_id, about=about, data=data)

    def _event(self, first: Access, event_id: str, **members: Any) -> Draft:
        return new_gateway_event(
            id=event_id,
            category=ACCESS,
            action=first.action,
            at=first.at,
            outcome=first.outcome,
            severity=_SEVERITY[first.outcome],
            by="" if len(self._whose) > 1 else first.key_id,
            person=None if len(self._whose) > 1 or first.key is None else first.key.person,
            reason=first.reason,
            **members,
        )

    def _targets(self) -> list[str]:
        """Targets of the entry: what was read or administered, as far as it fits, and the keys."""
        keys = list(map(key_urn, self._key_ids()))
        return [*list(self._details.get("about", {}))[: MOST_TARGETS - len(keys)], *keys]

    def _key_ids(self) -> list[str]:
        """Keys that the entry is about: those that were used, or that a client claimed to have."""
        used = {key_id: None for key_id, _ in self._whose if key_id}
        return list({**used, **self._details.get("claimed", {})})

    def _data(self, first: Access, epoch: str) -> dict[str, Any]:
        data: dict[str, Any] = {"count": self.count}
        if self.count > 1:
            data["until"] = format_time(self._last)
        for name in ("attempted", "route", "transport"):
            if getattr(first, name):
                data[name] = getattr(first, name)
        if self._ranges:
            data["events"] = self._events
            data["ranges"] = [
                {"after": format_cursor(epoch, begin), "to": format_cursor(epoch, end)}
                for begin, end in self._ranges
            ]
        if first.export is not None and self.count == 1:
            data.update(_exported(first.export, epoch))
        if self._duplicates:
            data["duplicates"] = self._duplicates
        if self._seconds:
            data["seconds"] = round(self._seconds, 3)
        if "parameters" in self._details:
            data["parameters"] = [
                msgspec.Raw(text.encode())
                for text in (*self._details["parameters"], *(["{}"] if self._bare else []))
            ]
        # A single one is the target, or in the source.
        for name in ("about", "clients", "forbidden", "out_of_scope", "claimed", "pages"):
            values = self._details.get(name, ())
            if len(values) >= (2 if name in ("about", "clients") else 1):
                data[name] = [clean(value, 1024) for value in values]
        subjects = list(self._details.get("subjects", ()))
        if len(subjects) == 1:
            data["subject"] = subjects[0]
        elif subjects:
            data["subjects"] = subjects
        if len(self._whose) > 1:
            data["whose"] = [
                {"key": key_id, "address": clean(address)} for key_id, address in self._whose
            ]
        if self._omitted:
            data["without_details"] = self._omitted
        return data

    def _add_whose(self, access: Access) -> bool:
        whose = (access.key_id, access.address)
        if whose in self._whose:
            return True
        if len(self._whose) >= _MOST_NAMED:
            return False
        self._whose[whose] = None
        self.full = self.full or len(self._whose) == _MOST_NAMED
        return True

    def _add_range(self, access: Access) -> bool:
        begin, end = access.begin, access.end
        # Opening and writing scan nothing: the range from the first offset to the last is enough.
        hull = access.action in (OPENED, INGESTED)
        for known in self._ranges:
            if hull or (begin <= known[1] and known[0] <= end):
                known[0], known[1] = earlier(known[0], begin), later(known[1], end)
                return True
        if len(self._ranges) >= _MOST_RANGES:
            return False
        self._ranges.append([begin, end])
        self.crowded = self.crowded or len(self._ranges) == _MOST_RANGES
        return True

    def _keep(self, name: str, value: str) -> bool:
        known = self._details.setdefault(name, {})
        if value in known:
            return True
        if len(known) >= _MOST[name]:
            return False
        asked = name == "parameters"
        if asked and self.size + len(value) > _MOST_CHARACTERS:
            return False
        known[value] = None
        self.size += len(value)
        last = len(known) == _MOST[name]
        self.full = self.full or (last and name == "about")
        cramped = self.size > _MOST_CHARACTERS - MOST_PARAMETERS
        self.crowded = self.crowded or (asked and (last or cramped))
        return True


def _exported(file: ExportedFile, epoch: str) -> dict[str, Any]:
    """What a record says of a file, by which it can be traced."""
    ends = {"first": file.first, "last": file.last} if file.first else {}
    return {
        **{name: format_cursor(epoch, offset) for name, offset in ends.items()},
        "bytes": file.size,
        "sha256": file.sha256,
        "complete": file.complete,
    }
