"""Rows of an access review, and their cells: the same texts in every format. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from typing import Annotated, Any

import msgspec

from gateway.clock import Moment
from gateway.cursor import Cursor
from gateway.json_members import about
from gateway.oversight.review.document_text import visible

_NOT_SHOWN = "`null` where the asking key may not see it."
_CELL_NONE, _CELL_UNKNOWN = "none", "not known"
# Members whose absence means something else.
_ABSENT = {
    "last_used": "never", "reviewed_at": "never", "rotate_by": "none",
    "changed_since_review": "not reviewed",
}  # fmt: skip


class ReviewHead(msgspec.Struct, kw_only=True):
    """What the report is of, and its cut."""

    made_at: Moment
    asked_by: Annotated[str, about("The id of a key, or `cli:` and a user.")]
    asked_by_name: str
    log_head: Annotated[Cursor, about("Newest event of the log when it was made.")]
    since: Annotated[Moment, about("Begin of the period of usage, changes and looks.")]
    conditions: Annotated[list[str], about("That keys had to meet to be in it.")]
    keys: Annotated[int, about("Number of rows of keys and people.")]
    not_shown: Annotated[list[str], about("Sentences: what whoever asked could not see.")]
    rows_sha256: Annotated[
        str, about("SHA-256 of the cells of all rows but this one; see deploy/access-review.md.")
    ]
    says: str = (
        "This report supports the controls that it names; whether they are met is judged by people."
    )


class KeyRow(msgspec.Struct, kw_only=True):
    """One key or person."""

    kind: Annotated[str, about(enum=["key", "person"])]
    id: str
    name: str
    owner: str
    purpose: str
    state: str
    roles: list[str]
    made_at: Moment | None
    made_by: Annotated[str, about("Id and name of a key, `cli:` and a user, or a program.")]
    ends_at: Moment | None
    managed_by: Annotated[str, about("Its declaration, as `<set>/<name>`.")]
    scope: Annotated[list[str], about("What it can do, in sentences.")]
    masks: Annotated[list[str], about("Members of events that it does not see as they are.")]
    networks: Annotated[list[str], about("From where grants of it count, where that is bounded.")]
    last_used: Annotated[Moment | None, about("`null`: as far as is known never.")]
    last_used_from: Annotated[str, about("Address, as far as the asking key sees it.")]
    unused_grants: Annotated[list[str] | None, about("Certainly of no use for 30 days.")]
    grants_not_known: Annotated[list[str], about("Of which it is not known whether they were.")]
    events: Annotated[int | None, about(f"Sent to it in the period. {_NOT_SHOWN}")]
    bytes: Annotated[int | None, about(f"Sent to it in the period. {_NOT_SHOWN}")]
    findings_open: Annotated[int | None, about(_NOT_SHOWN)]
    rotations: Annotated[int, about("How often its secret was replaced.")]
    rotate_by: Annotated[Moment | None, about("`null`: it has no schedule.")]
    changed_at: Moment | None
    change: str
    reviewed_at: Annotated[Moment | None, about("`null`: never.")]
    reviewed_by: str
    changed_since_review: Annotated[bool | None, about("`null`: there was no review.")]


class RoleRow(msgspec.Struct, kw_only=True):
    """One role."""

    name: str
    description: str
    scope: list[str]
    masks: list[str]
    keys: Annotated[int, about("Keys that have not ended and have it.")]


class ChangeRow(msgspec.Struct, kw_only=True):
    """One change of a key or role, as far as the asking key may pull its record."""

    at: Moment
    action: str
    about: Annotated[list[str], about("URNs, such as `key:` and an id.")]
    by: str
    reason: str


class LookRow(msgspec.Struct, kw_only=True):
    """Uses of one key that asked for the same, as far as the asking key may pull their records."""

    who: str
    name: str
    action: str
    asked: Annotated[str, about("Parameters, or the route of what was looked at.")]
    uses: int
    events: Annotated[int, about("That were sent.")]
    last: Moment


class ControlRow(msgspec.Struct, kw_only=True):
    """One control of standards, and what of this report and of the gateway supports it."""

    control: str
    soc2: str
    iso27001: str
    nist80053: str
    supports: str


class AccessReview(msgspec.Struct, kw_only=True):
    """The report."""

    review: ReviewHead
    keys: list[KeyRow]
    roles: list[RoleRow]
    changes: list[ChangeRow]
    looks: list[LookRow]
    controls: Sequence[ControlRow]


class Section(msgspec.Struct, frozen=True):
    """Rows of one kind. `names` are the members of its rows, `labels` stand for them for people."""

    name: str
    title: str
    names: tuple[str, ...]
    rows: Sequence[msgspec.Struct]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(_label(name) for name in self.names)


_TITLES: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "review": ("About this review", ReviewHead),
    "keys": ("Keys and people", KeyRow),
    "roles": ("Roles", RoleRow),
    "changes": ("Changes of keys and roles", ChangeRow),
    "looks": ("Who looked at what", LookRow),
    "controls": ("Controls", ControlRow),
}
_WORDS = {
    "rows_sha256": "SHA-256 of the rows", "soc2": "SOC 2", "iso27001": "ISO/IEC 27001:2022",
    "nist80053": "NIST SP 800-53 r5", "id": "Id",
}  # fmt: skip


def _label(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " ").capitalize())


def sections(review: AccessReview) -> Iterator[Section]:
    """The report in the order in which it is read."""
    for name, (title, of) in _TITLES.items():
        rows = getattr(review, name)
        yield Section(name, title, of.__struct_fields__, [rows] if name == "review" else rows)


def cells(row: msgspec.Struct) -> list[str]:
    """Texts of a row, in the order of its members."""
    return [_cell(name, getattr(row, name)) for name in row.__struct_fields__]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return _ABSENT.get(name, _CELL_UNKNOWN)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        value = (" " if all(one.endswith(".") for one in value) else "; ").join(value)
    return visible(str(value)) or _CELL_NONE


def rows_sha256(review: AccessReview) -> Generator[None, None, str]:
    """Digest over the cells of all rows but the first section's, in steps: of each row a line with
    the name of its section and its cells, as a JSON list without escapes that are not needed."""
    digest = hashlib.sha256()
    for section in sections(review):
        if section.name == "review":
            continue
        for row in section.rows:
            line = json.dumps([section.name, *cells(row)], ensure_ascii=False)
            digest.update(f"{line}\n".encode())
            yield
    return digest.hexdigest()
