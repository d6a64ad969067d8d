"""Common parts of OpenAPI operations: parameters, bodies, responses."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.clock import Duration
from gateway.cursor import Cursor
from gateway.event import OUTCOMES
from gateway.formats.names import FORMAT_NAMES
from gateway.http.openapi.schemas import TEXT, Schema, listed
from gateway.http.query.query import MAX_AROUND, MAX_LIMIT_PAGE, MAX_WAIT
from gateway.log.counts import COUNTED_MEMBERS
from gateway.looking.text import MOST_CHARACTERS

JSON, NDJSON = "application/json", "application/x-ndjson"
CURSOR, DURATION = msgspec.json.schema(Cursor), msgspec.json.schema(Duration)


def _many(about: str, **schema: Any) -> Schema:
    """Repeatable selector."""
    return {"schema": listed({**TEXT, **schema}), "explode": True, "description": about}


_PATTERN = "`*` is one segment, `**` any number and only last. May repeat: one of them holds."
_PARAMETERS: dict[str, Schema] = {
    "content": {
        "description": "What tells a repeat from another event with the same id: the whole event "
        "as it was sent, or the record under `data` alone, for who maps records of others.",
        "schema": {"enum": ["event", "data"], "default": "event"},
    },
    "on_invalid": {
        "description": "`skip`: store the good ones, and say in the answer which were refused; "
        "each of those is kept as an event of category `gateway.rejected`.",
        "schema": {"enum": ["fail", "skip"], "default": "fail"},
    },
    "cluster": {
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "description": "Name of the Kubernetes cluster, for resource paths.",
    },
    "source": {"schema": TEXT, "description": "The source of all records, whatever they name."},
    "timeout": {"schema": TEXT, "description": "Passed over: kube-apiserver sends it."},
    "tenant": _many(f"Tenants; {_PATTERN}"),
    "category": _many(f"Categories, such as `auth.*`; {_PATTERN}"),
    "action": _many(f"Actions, such as `user.*`; {_PATTERN}"),
    "outcome": _many("Outcomes. May repeat: one of them holds.", enum=list(OUTCOMES)),
    "actor": _many(f"Ids of actors; {_PATTERN}"),
    "resource": _many(f"Urns of targets, such as `k8s:prod/**`; {_PATTERN}"),
    "after": {"schema": CURSOR, "description": "Begin behind this cursor."},
    "since": {"schema": TEXT, "description": "Begin at a time (RFC 3339) or so long ago (`15m`)."},
    "until": {
        "schema": TEXT,
        "description": "Only events recorded before a time (RFC 3339), which may be still to come, "
        "or so long ago (`15m`); later than `since`. A stream needs `follow=false` with it.",
    },
    "order": {
        "schema": {"enum": ["asc", "desc"], "default": "asc"},
        "description": "`desc`: the newest first, from the head or `until` or `before` on.",
    },
    "before": {
        "schema": CURSOR,
        "description": "Only events before this cursor; that of a page in the order `desc` asks "
        "for the next one.",
    },
    "text": {
        "schema": {"type": "string", "maxLength": MOST_CHARACTERS},
        "description": "Words that must occur in values of the event, whatever their case: "
        '`ann "two words" -never`; at most 8.',
    },
    "text_in": {
        "schema": TEXT,
        "description": "Members in which `text` is looked for, such as `actor,data.note`.",
    },
    "around": {
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_AROUND},
        "description": "Answer with so many events before it and behind it, too.",
    },
    "from": {
        "schema": {"enum": ["start", "now"]},
        "description": "Begin at an end of the log; without a position a stream begins `now`, "
        "a page at the `start`.",
    },
    "min_severity": {"schema": {"type": "integer", "minimum": 1, "maximum": 6}},
    "filter": {
        "schema": {"type": "string", "maxLength": 4096},
        "description": "A CEL expression over one event: `outcome == \"denied\" && severity >= 4`.",
    },
    "format": {
        "schema": {"enum": [*FORMAT_NAMES], "default": "native"},
        "description": "What events are written as.",
    },
    "limit": {"schema": {"type": "integer", "minimum": 1}},
    "on_gap": {
        "schema": {"enum": ["fail", "skip"], "default": "fail"},
        "description": "With `skip` a cursor that is gone is no 410: the first message is a `gap`.",
    },
    "last_event_id": {"schema": CURSOR, "description": "As the header `Last-Event-ID`."},
    "lastEventId": {"schema": CURSOR, "description": "As the header `Last-Event-ID`."},
    "follow": {
        "schema": {"enum": ["true", "false", "1", "0"], "default": "true"},
        "description": "With `false` the stream ends at the head as of the request.",
    },
    "consumer": {
        "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"},
        "description": "Read as this durable consumer, whose position the gateway keeps; the begin "
        "in the other parameters counts when it is made.",
    },
    "ack": {
        "schema": {"enum": ["explicit", "pong", "next"]},
        "description": "How the consumer's reader acknowledges what it has; see "
        "deploy/consumers.md.",
    },
    "takeover": {
        "schema": {"enum": ["true", "false", "1", "0"], "default": "false"},
        "description": "End the reader that the consumer has now.",
    },
    "selection": {
        "schema": {"enum": ["update"]},
        "description": "Take this selection for the consumer from now on.",
    },
    "wait": {
        "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": 0},
        "description": "Long poll: wait so many seconds for the first event.",
    },
    "columns": {
        "schema": TEXT,
        "description": "Of CSV: members, separated by commas (`time,actor.id,data.bytes`).",
    },
    "bom": {
        "schema": {"enum": ["true", "false", "1", "0"], "default": "false"},
        "description": "Of CSV: begin with the mark of UTF-8, which some spreadsheets look for.",
    },
    "raw": {
        "schema": {"enum": ["true", "false", "1", "0"], "default": "false"},
        "description": "Of CSV: no `'` in front of texts that a spreadsheet takes for formulas.",
    },
    "by": {
        "schema": listed({"enum": [*COUNTED_MEMBERS]}, maxItems=3),
        "explode": True,
        "description": "Members whose values are counted, at most 3: repeated, or joined by "
        "commas.",
    },
    "top": {
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
        "description": "How many values of each member are told, the most frequent first.",
    },
    "key": {"schema": TEXT, "description": "The id of a key."},
    "signal": {"schema": TEXT, "description": "What kind of thing was found."},
    "state": {"schema": {"enum": ["open", "expected"]}},
    "window": {"schema": {**DURATION, "default": "24h"}},
    "step": {"schema": {**DURATION, "default": "1h"}},
}  # fmt: skip
PAGE_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT_PAGE, "default": 100}
TICKET = {
    "name": "ticket",
    "in": "query",
    "schema": TEXT,
    "description": "A ticket instead of a key, for browsers; of the other parameters only "
    "`last_event_id` and `lastEventId` may stand beside it, where its cookie comes along.",
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": CURSOR,
    "description": "Begin behind this cursor, whatever the parameters say.",
}


def query(names: tuple[str, ...], **instead: Schema) -> tuple[Schema, ...]:
    return tuple(
        {"name": name, "in": "query", **_PARAMETERS[name], **instead.get(name, {})}
        for name in names
    )


def content(schema: Schema, *kinds: str) -> Schema:
    return {"content": {kind: {"schema": schema} for kind in kinds or (JSON,)}}


def says(about: str, schema: Schema | None = None, *kinds: str, **more: Any) -> Schema:
    return {"description": about, **(content(schema, *kinds) if schema else {}), **more}


def headers(**headers: str) -> Schema:
    return {
        name.replace("_", "-"): {"schema": TEXT, "description": about}
        for name, about in headers.items()
    }
