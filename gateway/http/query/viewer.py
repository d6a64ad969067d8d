"""What an embedded viewer may ask for: what its ticket has, and what narrows that. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from gateway.access.credentials.viewer import EXPORT, MAX_LENGTH, TEXT, Viewer
from gateway.access.policy.subsumption import scope_covers
from gateway.clock import Duration
from gateway.errors import Forbidden, InvalidRequest
from gateway.filters.scope import Scope
from gateway.formats.csv import parse_columns
from gateway.http.query.query import SELECTORS, parse_page, refuse_unknown
from gateway.http.query.values import Pairs, collect, number
from gateway.json_members import Body, about

# Of a ticket; `filter` only there.
OF_TICKETS = (*SELECTORS, "min_severity", "filter")
_TEXTS = ("text", "text_in")
_FILES = ("columns", "bom")
_ASKED = (
    *SELECTORS, "min_severity", *_TEXTS, *_FILES, "since", "until", "from", "after", "before",
    "order", "limit", "on_gap", "follow", "step", "by", "top",
)  # fmt: skip
DEFAULT_COLUMNS = ("time", "category", "action", "actor.id", "outcome")
MOST_COLUMNS = 8


class ViewerOptionsBody(Body, frozen=True):
    """Options of an embedded viewer. Origin, columns and duration are parsed elsewhere."""

    origin: Annotated[
        str, about("Of the page around it; may be left out if `server.allowed_origins` has one.")
    ] = ""
    columns: (
        Annotated[
            tuple[str, ...],
            Meta(min_length=1, max_length=MOST_COLUMNS),
            about("Members as in `columns` of CSV: what is shown first of an event, and in files."),
        ]
        | UnsetType
    ) = UNSET
    may: (
        Annotated[
            tuple[Literal["text", "export", "live"], ...],
            about("Search text, save files, follow live; nothing of it where it is left out."),
        ]
        | UnsetType
    ) = UNSET
    since: Annotated[Duration, about("How far back it looks at most.")] | UnsetType = UNSET
    theme: Annotated[Literal["plain", "slate", "sand", "contrast"], about("Its colours.")] = "plain"


class ViewerTicketBody(Body, frozen=True):
    """Ticket of an embedded viewer."""

    ticket: Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH), about("Of a viewer.")]


def check_selection(pairs: list[tuple[str, str]], now: float) -> None:
    """Raise `InvalidRequest` for parameters that no ticket of a viewer has."""
    refuse_unknown([name for name, _ in pairs], OF_TICKETS)
    parse_page(pairs, now)


def check_columns(columns: tuple[str, ...] | UnsetType) -> tuple[str, ...]:
    """Columns of a viewer. Raises `InvalidRequest`."""
    if columns is UNSET:
        return DEFAULT_COLUMNS
    if any("," in column for column in columns):
        raise InvalidRequest("columns: a list with one name in each place", parameter="columns")
    return parse_columns(",".join(columns))


def asked_by(viewer: Viewer | None, pairs: Pairs) -> list[tuple[str, str]]:
    """Parameters of a request: as they are for keys; for a viewer within those of its ticket.

    A selector of the request has to lie within that of the ticket, and stands in its place then;
    filters are the ticket's alone. Raises `Forbidden` for what would widen the ticket.
    """
    asked = list(pairs)
    if viewer is None:
        return asked
    for name, _ in asked:
        if name not in _ASKED:
            raise Forbidden(
                f"{name[:64]}: an embedded viewer may not ask for this", code="not_for_viewers"
            )
        if name in _TEXTS:
            refuse_unless(viewer, TEXT)
        if name in _FILES:
            refuse_unless(viewer, EXPORT)
    values, given = collect(asked), collect(viewer.parameters)
    for name in SELECTORS:
        if name in values and name in given and not _lies_within(name, values[name], given[name]):
            raise Forbidden(
                f"{name}: the ticket of this viewer has chosen "
                f"{', '.join(one[:64] for one in given[name][:3])}; ask for that, or less",
                code="outside_ticket",
                parameter=name,
            )
    least = number(values, "min_severity", 1, 6) or 1
    bound = number(given, "min_severity", 1, 6) or 1
    kept = [pair for pair in asked if pair[0] != "min_severity"]
    if max(least, bound) > 1:
        kept.append(("min_severity", str(max(least, bound))))
    chosen = [
        pair for pair in viewer.parameters if pair[0] != "min_severity" and pair[0] not in values
    ]
    return [*kept, *chosen]


def refuse_unless(viewer: Viewer | None, what: str) -> None:
    """Raise `Forbidden` for a viewer that may not do this; keys may."""
    if viewer is not None and what not in viewer.may:
        raise Forbidden(
            f"the ticket of this viewer does not say that it may: {what}", code="not_for_viewers"
        )


def _lies_within(name: str, asked: list[str], given: list[str]) -> bool:
    """Whether all that the values of a selector select is selected by others."""
    if name == "outcome":
        return set(asked) <= set(given)
    inner, outer = (
        Scope(**{name: tuple(values)})  # type: ignore[arg-type]
        for values in (asked, given)
    )
    return scope_covers(outer, inner)
