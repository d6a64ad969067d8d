"""JSON bodies of answers about the console's sessions, saved views and embedded viewers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Struct

from gateway.clock import Moment
from gateway.json_members import about


class SessionAnswer(Struct):
    id: str
    key: Annotated[str, about("Id of the key, under whose rights the session is.")]
    created_at: Moment
    ends_at: Annotated[Moment, about("Unless a person does something before.")]
    csrf: Annotated[str, about("Sent as `X-Audit-CSRF` with each change.")]


class ViewerSession(Struct):
    token: Annotated[str, about("Sent as `Authorization: Bearer`, and kept in memory alone.")]
    expires_at: Moment
    origin: Annotated[str, about("Of the page around it, which is asked for the next ticket.")]
    may: Annotated[Sequence[str], about("Of `text`, `export`, `live`.")]
    columns: Sequence[str]
    theme: str
    since: Annotated[int, about("Seconds that it looks back at most; 0: all.")]


class ListedSession(Struct):
    id: Annotated[str, about("Public; it signs nobody in.")]
    key: Annotated[str, about("Id of the key, under whose rights the session is.")]
    name: Annotated[str, about("Of the key.")]
    created_at: Moment
    used_at: Annotated[Moment, about("When a person did something last, to the minute.")]
    ends_at: Annotated[Moment, about("Unless a person does something before.")]
    address: Annotated[str | None, about("Where it was signed in from; `null`: hidden.")]
    client: str | None
    current: Annotated[bool, about("Whether it is the session that asks.")]


class SessionList(Struct):
    sessions: list[ListedSession]
    total: Annotated[int, about("Of which the most recently used are listed.")]


class SavedView(Struct, omit_defaults=True):
    name: str
    query: Annotated[dict[str, str | list[str]], about("As the parameters of a page.")]
    saved_at: Moment
    since: Annotated[str | None, about("RFC 3339, or a duration before now.")] = None
    until: Annotated[str | None, about("RFC 3339, or a duration before now.")] = None


class SavedViewList(Struct):
    views: list[SavedView]


CONSOLE_ANSWERS: tuple[type[Struct], ...] = (
    SessionAnswer, ViewerSession, SessionList, SavedView, SavedViewList,
)  # fmt: skip
