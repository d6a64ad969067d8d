"""Who looked at what, and changes of keys and roles: from records that the reader sees. Pure."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from gateway.access.keys.change import REQUESTED
from gateway.access.usage.access import REVIEWED
from gateway.event import Event
from gateway.ingest.gateway_event import KEYS
from gateway.oversight.report.rows import ChangeRow, LookRow

MOST_LOOKS = 5_000
MOST_CHANGES = 5_000
_LOOKS = (REQUESTED, REVIEWED)
_MOST_CHARACTERS = 300
_OTHERS = ("other keys", "", "various", "beyond the most rows of a report")
_SEVERAL = "several keys"


class RecordedActs:
    """Rows of records, which are added newest first, under the masks of the reader. `cut` says that
    there are more changes than rows."""

    def __init__(self) -> None:
        self.cut = False
        self._changes: list[ChangeRow] = []
        self._looks: dict[tuple[str, str, str, str], LookRow] = {}

    def add(self, record: Event) -> None:
        """Take in a record of the category `gateway.access` or `gateway.keys`."""
        members = record.members()
        if record.category == KEYS and members["action"] not in _LOOKS:
            self._add_change(members)
        else:
            self._add_look(members)

    def changes(self) -> list[ChangeRow]:
        """Oldest first."""
        return self._changes[::-1]

    def looks(self) -> Generator[None, None, list[LookRow]]:
        """By who it was and what was asked for, in steps."""
        yield
        return [self._looks[one] for one in sorted(self._looks)]

    def _add_change(self, members: Mapping[str, Any]) -> None:
        if len(self._changes) >= MOST_CHANGES:
            self.cut = True
            return
        self._changes.append(
            ChangeRow(
                at=members.get("time", ""), action=members["action"],
                about=[str(one.get("urn", "")) for one in members.get("targets", ())],
                by=_text(members.get("actor"), "id"), reason=str(members.get("reason", "")),
            )
        )  # fmt: skip

    def _add_look(self, members: Mapping[str, Any]) -> None:
        data = members.get("data")
        data = data if isinstance(data, dict) else {}
        who = _SEVERAL if "whose" in data else _text(members.get("actor"), "id")
        name = "" if "whose" in data else _text(members.get("actor"), "name")
        place = (who, name, members["action"], _asked(data))
        if place not in self._looks and len(self._looks) >= MOST_LOOKS:
            place = _OTHERS
        row = self._looks.get(place)
        if row is None:
            row = self._looks[place] = LookRow(
                who=place[0], name=place[1], action=place[2], asked=place[3], uses=0, events=0,
                last="",
            )  # fmt: skip
        row.uses += _number(data.get("count", 1))
        row.events += _number(data.get("events", 0))
        row.last = max(row.last, str(data.get("until") or members.get("time", "")))


def _asked(data: Mapping[str, Any]) -> str:
    parameters = data.get("parameters")
    if isinstance(parameters, list):
        told = sorted({_parameters(one) for one in parameters if isinstance(one, dict)} - {""})
        if told:
            return " or ".join(told)[:_MOST_CHARACTERS]
    elif parameters:
        return str(parameters)
    return str(data.get("route", ""))


def _parameters(one: Mapping[str, Any]) -> str:
    """Such as `category=auth.**, tenant=acme or globex`."""
    return ", ".join(
        f"{name}={' or '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in sorted(one.items())
    )


def _text(of: Any, name: str) -> str:
    return str(of.get(name, "")) if isinstance(of, dict) else str(of or "")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
