"""Parameters of streams, pages and other requests, from a query string or a JSON body.

An unknown parameter is refused by name, since a typo must never widen a stream: in URLs by the
dispatch, before a handler calls these functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from gateway.clock import parse_duration
from gateway.cursor import parse_cursor
from gateway.errors import InvalidRequest
from gateway.filters.expression import Filter, compile_filter
from gateway.filters.scope import Scope
from gateway.formats.csv import CsvOptions
from gateway.formats.names import FORMAT_NAMES
from gateway.http.query.csv_query import CSV, csv_options
from gateway.http.query.range import OPEN, Ending, ending_of
from gateway.http.query.values import (
    POSITION,
    Pairs,
    Position,
    Values,
    collect,
    flag,
    number,
    one,
    position_of,
    until_of,
)
from gateway.looking.condition import Condition, condition_of
from gateway.looking.text import TextQuery, parse_text
from gateway.oversight.detection.finding import SIGNALS, STATES
from gateway.streaming.consumers.options import ACK_MODES

SELECTORS = ("tenant", "category", "action", "outcome", "actor", "resource")
RESUME = ("last_event_id", "lastEventId")
_BOTH = (
    *SELECTORS, *POSITION, "until", "min_severity", "filter", "text", "text_in", "format", "limit",
    "on_gap",
)  # fmt: skip
_CONSUMER = ("consumer", "ack", "takeover", "selection")
STREAM = (*_BOTH, *RESUME, "follow", *_CONSUMER, *CSV)
PAGE = (*_BOTH, "order", "before", "follow", *_CONSUMER, *CSV, "wait")
CONSUMER = ("key",)
BY_ID = ("tenant", "format", "around")
INGEST = ("content", "on_invalid")
# kube-apiserver adds `timeout` to the address of its webhook.
OF_SOURCES = ("on_invalid", "cluster", "timeout")
OF_CLUSTERS = ("on_invalid", "timeout")
OF_LOGS = ("source",)
CONTENTS = ("event", "data")
ON_INVALID = ("fail", "skip")
HISTORY = ("after", "limit")
DEAD_LETTERS = ("after", "limit")
FINDINGS = ("key", "signal", "state", "limit")
USAGE = ("window", "step")
MAX_LIMIT_PAGE = 10_000
MAX_WAIT = 60
MAX_AROUND = 50
_CLUSTER = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_CONSUMER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)

_Value = str | int | bool
# The parameters of a stream in a JSON body, as `pairs_of_body` checks them.
StreamParameters = dict[str, _Value | Annotated[list[_Value], Meta(min_length=1)]]


class IngestQuery(msgspec.Struct, frozen=True):
    """Handling of sent events. `mapped`: the records under their `data` are their content; `skips`:
    skip invalid ones (None: not given)."""

    mapped: bool = False
    skips: bool | None = None


AS_USUAL = IngestQuery()


class ConsumerQuery(msgspec.Struct, frozen=True):
    """Durable consumer to read as. `resumed`: the position is of a `Last-Event-ID`."""

    name: str
    ack: str | None = None
    takeover: bool = False
    updates_selection: bool = False
    resumed: bool = False


class Query(msgspec.Struct, frozen=True):
    """Parsed parameters. `limit` is None for no limit, `format` and `csv` where none was named."""

    position: Position
    wanted: Scope
    filter: Filter | None
    skip_gaps: bool
    follow: bool
    limit: int | None
    wait: int
    format: str | None = None
    consumer: ConsumerQuery | None = None
    text: TextQuery | None = None
    ending: Ending = OPEN
    csv: CsvOptions | None = None

    @property
    def condition(self) -> Condition | None:
        """Condition on the content of events."""
        return condition_of(self.filter, self.text)


def parse_stream(pairs: Pairs, last_event_id: str | None, now: float) -> Query:
    """Query of a stream; `Last-Event-ID` overrides the begin in the URL.

    The parameters may come from a body, or from a ticket of another version.
    """
    pairs = list(pairs)
    refuse_unknown([name for name, _ in pairs], STREAM)
    values = collect(pairs)
    # Checked even if overridden: the begin must not depend on whether the stream is resumed.
    position = begin = position_of(values, now, default="now")
    resumes = [text for name in RESUME if (text := one(values, name))]
    if len(resumes) > 1:
        raise InvalidRequest(f"send only one of {' and '.join(RESUME)}", parameter=RESUME[1])
    resume = last_event_id or "".join(resumes)
    if resume:
        position = Position(after=parse_cursor(resume))
    limit = number(values, "limit", 1, 2**53)
    follow = flag(values, "follow", True)
    until = until_of(values, begin, now, follow=follow)
    query = _query(values, position, limit, follow=follow, wait=0)
    return msgspec.structs.replace(
        query,
        consumer=_consumer(values, resumed=bool(resume)),
        ending=Ending(until),
    )


def parse_page(pairs: Pairs, now: float) -> Query:
    values = collect(pairs)
    if flag(values, "follow", False):
        raise InvalidRequest(
            "follow: a page has an end; open a stream to follow the log", parameter="follow"
        )
    position = position_of(values, now, default="start")
    limit = number(values, "limit", 1, MAX_LIMIT_PAGE)
    wait = number(values, "wait", 0, MAX_WAIT) or 0
    query = _query(values, position, 100 if limit is None else limit, follow=False, wait=wait)
    ending = ending_of(values, position, now)
    return msgspec.structs.replace(query, consumer=_consumer(values), ending=ending)


def parse_range(values: Values, position: Position, now: float) -> Query:
    """Query of what gives no events, of all that it selects in a range."""
    query = _query(values, position, None, follow=False, wait=0)
    return msgspec.structs.replace(query, ending=ending_of(values, position, now))


def parse_by_id(pairs: Pairs) -> tuple[str | None, str | None, int | None]:
    """Tenant and format of a request for one event, and how many are wanted on both sides of it."""
    values = collect(pairs)
    return one(values, "tenant"), _format(values), number(values, "around", 0, MAX_AROUND)


def parse_ingest(pairs: Pairs) -> IngestQuery:
    """Handling of sent events."""
    values = collect(pairs)
    content, on_invalid = one(values, "content"), one(values, "on_invalid")
    if content not in (None, *CONTENTS):
        raise InvalidRequest(f"content: one of {', '.join(CONTENTS)}", parameter="content")
    if on_invalid not in (None, *ON_INVALID):
        raise InvalidRequest(f"on_invalid: one of {', '.join(ON_INVALID)}", parameter="on_invalid")
    return IngestQuery(content == "data", None if on_invalid is None else on_invalid == "skip")


def parse_of_source(pairs: Pairs, cluster: str | None = None) -> tuple[bool, str | None]:
    """Whether invalid records are skipped, which is the default here, and the name of a cluster,
    which may be `cluster` of the path instead."""
    values = collect(pairs)
    on_invalid = one(values, "on_invalid")
    cluster = cluster or one(values, "cluster")
    if on_invalid not in (None, *ON_INVALID):
        raise InvalidRequest(f"on_invalid: one of {', '.join(ON_INVALID)}", parameter="on_invalid")
    if cluster is not None and not _CLUSTER.fullmatch(cluster):
        raise InvalidRequest(
            "cluster: 1 to 64 letters, digits, dots, underscores and hyphens are needed",
            parameter="cluster",
        )
    return on_invalid != "fail", cluster


def parse_of_logs(pairs: Pairs) -> str | None:
    """The name of the source of all records of a request."""
    return one(collect(pairs), "source")


def parse_findings(pairs: Pairs) -> tuple[dict[str, str], int]:
    """Members that findings must have, and the most findings wanted."""
    values = collect(pairs)
    wanted = {name: text for name in FINDINGS[:-1] if (text := one(values, name)) is not None}
    if wanted.get("key") == "":
        raise InvalidRequest("key: the id of a key is needed", parameter="key")
    # A typo must not look as if nothing was found.
    for name, known in (("signal", SIGNALS), ("state", STATES)):
        if wanted.get(name, known[0]) not in known:
            raise InvalidRequest(f"{name}: one of {', '.join(known)}", parameter=name)
    return wanted, number(values, "limit", 1, MAX_LIMIT_PAGE) or 100


def parse_history(pairs: Pairs) -> Query:
    """Query of a page of a key's history: begin and limit only."""
    values = collect(pairs)
    position = position_of(values, 0.0, default="start")
    limit = number(values, "limit", 1, MAX_LIMIT_PAGE)
    return _query(values, position, 100 if limit is None else limit, follow=False, wait=0)


def parse_dead_letters(pairs: Pairs) -> tuple[str, int]:
    """The dead letter behind which others are wanted, and the most of them."""
    values = collect(pairs)
    after = one(values, "after")
    if after is not None:
        parse_cursor(after)
    return after or "", number(values, "limit", 1, MAX_LIMIT_PAGE) or 100


def parse_usage(pairs: Pairs) -> tuple[int, int]:
    """Window and step of a usage report, in seconds."""
    values = collect(pairs)
    window, step = one(values, "window"), one(values, "step")
    return (
        parse_duration("24h" if window is None else window),
        parse_duration("1h" if step is None else step),
    )


def refuse_unknown(names: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise `InvalidRequest` for the first unknown name of a parameter."""
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            there_are = f"there are {', '.join(known)}" if known else "there are none here"
            raise InvalidRequest(
                f"unknown parameter {name[:64]!r}{hint or '; ' + there_are}",
                code="unknown_parameter",
                parameter=name[:64],
                allowed=known,
            )


def pairs_of_body(body: Any) -> list[tuple[str, str]]:
    """Parameters in a JSON body: strings, numbers, booleans, or lists of them."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object of stream parameters")
    pairs = []
    for name, value in body.items():
        if value == []:
            # It would mean no restriction, which is never the intention.
            raise InvalidRequest(
                f"{name}: an empty list selects nothing; leave it out for no restriction",
                parameter=name,
            )
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, bool):
                pairs.append((name, "true" if item else "false"))
            elif isinstance(item, str | int):
                pairs.append((name, str(item)))
            else:
                raise InvalidRequest(
                    f"{name}: a string, a number, true, false or a list of them is needed",
                    parameter=name,
                )
    return pairs


def _query(
    values: dict[str, list[str]], position: Position, limit: int | None, *, follow: bool, wait: int
) -> Query:
    on_gap = one(values, "on_gap")
    if on_gap not in (None, "fail", "skip"):
        raise InvalidRequest("on_gap: fail or skip", parameter="on_gap")
    source = one(values, "filter")
    return Query(
        position=position,
        wanted=_scope(values),
        filter=compile_filter(source) if source is not None else None,
        skip_gaps=on_gap == "skip",
        follow=follow,
        limit=limit,
        wait=wait,
        format=_format(values),
        text=parse_text(one(values, "text"), one(values, "text_in")),
        csv=None if values.keys().isdisjoint(CSV) else csv_options(values),
    )


def _format(values: dict[str, list[str]]) -> str | None:
    chosen = one(values, "format")
    if chosen is not None and chosen not in FORMAT_NAMES:
        raise InvalidRequest(
            f"format: {chosen[:64]!r} is none of {', '.join(FORMAT_NAMES)}",
            code="unsupported_format",
            parameter="format",
        )
    return chosen


def _consumer(values: dict[str, list[str]], *, resumed: bool = False) -> ConsumerQuery | None:
    name = one(values, "consumer")
    if name is None:
        for other in _CONSUMER[1:]:
            if other in values:
                raise InvalidRequest(
                    f"{other}: this is about a consumer; send consumer= with it", parameter=other
                )
        return None
    if "text" in values:
        raise InvalidRequest(
            "text: what a consumer selects is kept, and text is not; select with filter",
            parameter="text",
        )
    check_consumer_name(name)
    ack, selection = one(values, "ack"), one(values, "selection")
    if ack not in (None, *ACK_MODES):
        raise InvalidRequest(f"ack: one of {', '.join(ACK_MODES)}", parameter="ack")
    if selection not in (None, "update"):
        raise InvalidRequest("selection: update, or leave it out", parameter="selection")
    takeover = flag(values, "takeover", False)
    return ConsumerQuery(name, ack, takeover, selection is not None, resumed)


def check_consumer_name(name: str) -> None:
    """Raise `InvalidRequest` if no consumer can have this name."""
    if not _CONSUMER_NAME.fullmatch(name):
        raise InvalidRequest(
            "consumer: a name of at most 64 lower-case letters, digits, `.`, `_` and `-`, that "
            "begins with a letter or digit",
            code="invalid_consumer",
            parameter="consumer",
        )


def _scope(values: dict[str, list[str]]) -> Scope:
    chosen: dict[str, Any] = {
        name: tuple(sorted(set(values[name]))) for name in SELECTORS if name in values
    }
    scope = Scope(**chosen, min_severity=number(values, "min_severity", 1, 6) or 1)
    scope.check()
    return scope
