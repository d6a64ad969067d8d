"""Events as a client gets them, and what it may select."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import msgspec

from gateway.errors import InvalidRequest

Patterns = str | Sequence[str]
FormatName = Literal["native", "cloudevents", "ocsf", "ecs", "cef", "rfc5424"]


class ReceivedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event: its native JSON as it came, and the cursor behind it.

    Where another `format` was asked for, `json` holds the line in that format.

    Members are those of the event schema, without those that the key may not see: `event["id"]`,
    `event.get("actor")`.
    """

    json: bytes
    cursor: str | None

    @property
    def members(self) -> dict[str, Any]:
        """The decoded JSON; decoded anew at each call."""
        return msgspec.json.decode(self.json, type=dict[str, Any])

    def __getitem__(self, name: str) -> Any:
        return self.members[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.members.get(name, default)


class Selection(TypedDict, total=False):
    """Which events, and from where on: the parameters of `/v1/stream` and `GET /v1/events`.

    Patterns may be one or several. `from_` is the parameter `from`; a stream begins `now` and pages
    at the `start` where nothing else is said. A stream with `until` needs `follow=False`.
    """

    tenant: Patterns
    category: Patterns
    action: Patterns
    outcome: Patterns
    actor: Patterns
    resource: Patterns
    min_severity: int
    filter: str
    text: str
    text_in: str
    since: str
    until: str
    after: str
    from_: Literal["start", "now"]
    on_gap: Literal["fail", "skip"]
    limit: int
    format: FormatName


class PageSelection(Selection, total=False):
    """`order="desc"` has the newest first; `before` is a cursor that all events lie before."""

    order: Literal["asc", "desc"]
    before: str


class StreamSelection(Selection, total=False):
    """`follow=False` ends at the newest event; `limit` counts the events of the whole stream.
    `selection="update"` has a consumer take another selection than it was made with."""

    follow: bool
    consumer: str
    selection: Literal["update"]


def parameters_of(selection: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a request, without those that say nothing. Raises `InvalidRequest` for what
    cannot be sent as it is meant."""
    given = {name.rstrip("_"): value for name, value in selection.items()}
    for name, value in given.items():
        _check(name, value)
    return {name: value for name, value in given.items() if value is not None}


def _check(name: str, value: object) -> None:
    several = value if isinstance(value, list | tuple) else (value,)
    if not several:
        raise InvalidRequest(f"{name}: an empty list selects nothing; leave it out to select all")
    for one in several:
        if not isinstance(one, str | int | None):
            raise InvalidRequest(
                f"{name}: a text, a number, or a list of them is needed, not {type(one).__name__}"
            )


def check_text(name: str, value: object) -> None:
    """Raise `InvalidRequest` for an argument that is no text, or an empty one."""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{name}: a text is needed, not {value!r:.64}")
