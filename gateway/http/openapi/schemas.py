"""The schemas of the OpenAPI document: JSON Schema 2020-12, as OpenAPI 3.1 has it."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.access.grants.grant import ACTIONS, MAX_GRANTS
from gateway.access.grants.role import MAX_ROLES_OF_KEY, NewRoleBody
from gateway.access.keys.issuance import NewKeyBody
from gateway.access.keys.key_limits import NAMES as LIMITS
from gateway.event import MAX_DEPTH, MAX_EVENT_BYTES, OUTCOMES, Members, Severity
from gateway.http.query.bodies import BODIES, DURATION_PATTERN

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
MOMENT: Schema = {
    "type": "string",
    "format": "date-time",
    "description": "RFC 3339 in UTC with microseconds.",
}
DURATION: Schema = {
    "type": "string",
    "pattern": DURATION_PATTERN,
    "description": "Such as `30s`, `15m`, `24h`, `30d`.",
}
CURSOR: Schema = {
    "type": "string",
    "description": "A position of the log. Opaque: send it back exactly as it was given.",
}
_SEVERITY: Schema = msgspec.json.schema(Severity)


def named(name: str) -> Schema:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def shape(required: tuple[str, ...] = (), *, closed: bool = False, **members: Schema) -> Schema:
    """An object; `closed` refuses members that are not named."""
    made: Schema = {"type": "object", "properties": members}
    if required:
        made["required"] = list(required)
    if closed:
        made["additionalProperties"] = False
    return made


def of_struct(struct: type[msgspec.Struct], **said: Schema) -> Schema:
    """The schema of a declaration that a decoder checks with; `said` adds to its members."""
    _, definitions = msgspec.json.schema_components([struct])
    made: Schema = _inlined(definitions[struct.__name__], definitions)
    for name, more in said.items():
        made["properties"][name] |= more
    return made


def _inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """The part with what it refers to, and without what is said to readers of the code."""
    if isinstance(part, list):
        return [_inlined(one, definitions) for one in part]
    if isinstance(part, str):
        return part.replace(r"\A", "^").replace(r"\Z", "$")
    if not isinstance(part, dict):
        return part
    if part.get("$ref", "").startswith("#/$defs/"):
        return _inlined(definitions[part["$ref"].rpartition("/")[2]], definitions)
    of_code = ("title", "description") if "title" in part else ()
    return {
        name: _inlined(value, definitions)
        for name, value in part.items()
        if name not in of_code and not (name == "required" and not value)
    }


_NEW_EVENT = of_struct(
    Members,
    id={"description": "The deduplication key within a tenant; the gateway makes one if it is "
        "left out."},
    time={**MOMENT, "description": "When it happened; `recorded_at` if left out."},
    category={"examples": ["auth", "k8s.audit"]},
    action={"examples": ["user.login"]},
    outcome={"enum": list(OUTCOMES)},
    data={"type": "object", "description": "Free-form content, kept exactly as sent."},
)  # fmt: skip
_GRANT_NAMES: Schema = {
    "type": ["array", "null"],
    "items": TEXT,
    "description": "Names of grants that were of no use.",
}
_MAKER_ENDED = shape(
    ("maker", "how"),
    maker={**TEXT, "description": "The nearest of its makers that has ended: with `keys.admin` it "
           "makes, resumes and widens nothing any more."},
    how={**TEXT, "description": "Such as revoked, expired or suspended."},
)  # fmt: skip
_NOT_KNOWN: Schema = {
    **_GRANT_NAMES,
    "description": "Names of grants of which the asking key may not see whether they were.",
}
_LIMITS: Schema = {
    **shape((), closed=True, **{name: {"type": "integer", "minimum": 0} for name in LIMITS}),
    "description": "In place of the settings'; 0 is no limit.",
}
_KEY: Schema = {
    "id": {"type": "string", "pattern": "^[0-9A-Za-z]{12}$"},
    "name": TEXT,
    "purpose": TEXT,
    "owner": TEXT,
    "state": {"enum": ["active", "draining", "suspended", "expired", "revoked", "unreadable"]},
    "created_at": MOMENT,
    "expires_at": MOMENT,
    "grants": listed(named("Grant")),
    "roles": listed(TEXT),
    "limits": _LIMITS,
    "revoked_at": MOMENT,
    "revoked_reason": TEXT,
    "suspended_at": MOMENT,
    "suspended_until": MOMENT,
    "suspended_reason": TEXT,
    "throttled_until": MOMENT,
    "drains_until": {**MOMENT, "description": "After a rotation: when it stops working."},
    "successor": TEXT,
    "predecessor": TEXT,
    "unreadable": {**TEXT, "description": "Why this version cannot read it: it may do nothing."},
    "problems": listed({"type": "object"}, description="Of grants that would be refused today."),
    "created_by": {**TEXT, "description": "The id of the key that made it, or `cli:` and a user."},
}
_KEY_ALWAYS = ("id", "name", "purpose", "owner", "state", "created_at", "expires_at", "grants")
_SECRET: Schema = {
    "type": "string",
    "pattern": "^alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}$",
    "description": "The key itself, in this answer only.",
}

SCHEMAS: dict[str, Schema] = {
    "NewEvent": {
        **_NEW_EVENT,
        "description": f"An event as a producer sends it: at most {MAX_EVENT_BYTES // 1024} KiB, "
        f"nested at most {MAX_DEPTH} deep. NaN, Infinity, lone surrogates, duplicate members and "
        "integers beyond 64 bits are refused.",
    },
    "Event": shape(
        ("cursor", "recorded_at", "time", "id", "tenant", "category", "action", "outcome",
         "severity"),
        cursor=CURSOR,
        recorded_at=MOMENT,
        **_NEW_EVENT["properties"],
        masked=listed(TEXT, description="What the key's grants mask of this event."),
    ),
    "Page": shape(
        ("events", "cursor", "has_more"),
        events=listed(named("Event")),
        cursor={**CURSOR, "description": "Send it as `after` for the next page; it stands on "
                "empty pages too."},
        has_more={"type": "boolean"},
        gap=named("Gap"),
        notice={"type": "object"},
    ),
    "Gap": shape(
        ("reason", "after", "cursor", "earliest", "latest"),
        reason={"enum": ["cursor_expired", "cursor_unknown"]},
        after=CURSOR,
        cursor={**CURSOR, "description": "Where it goes on."},
        earliest=CURSOR,
        latest=CURSOR,
        missing={"type": "integer", "description": "Events of the log in between, if known."},
    ),
    "StreamParameters": {
        "type": "object",
        "description": "The query parameters of `GET /v1/stream` as members: strings, numbers, "
        "true, false, or lists of them.",
        "additionalProperties": {
            "oneOf": [
                {"type": ["string", "integer", "boolean"]},
                listed({"type": ["string", "integer", "boolean"]}, minItems=1),
            ]
        },
    },
    "Grant": {
        **shape(
            ("actions", "categories"),
            closed=True,
            id=TEXT,
            effect={"enum": ["allow", "deny"], "default": "allow"},
            actions=listed({"enum": list(ACTIONS)}, minItems=1),
            tenants=listed(TEXT, minItems=1),
            categories=listed(TEXT, minItems=1),
            resources=listed(TEXT, minItems=1),
            min_severity={**_SEVERITY, "default": 1},
            fields=shape(closed=True, mask=listed(TEXT, minItems=1), drop=listed(TEXT, minItems=1)),
            when=shape(
                closed=True,
                cidr=listed(TEXT, minItems=1),
                hours={"type": "string", "examples": ["06-20"]},
                tz=TEXT,
                max_lookback={"type": "string", "examples": ["24h"]},
            ),
        ),
        "description": "What a key may do. Default deny; deny wins. `*` stands for one segment, "
        "`**` for any number and only last. A pattern that begins with a wildcard never reaches "
        "the categories `gateway.*`.",
    },
    "NewKey": of_struct(
        NewKeyBody,
        expires_in=DURATION,
        expires_at={"format": "date-time"},
        grants=listed(named("Grant"), maxItems=MAX_GRANTS),
        roles=listed(TEXT, maxItems=MAX_ROLES_OF_KEY),
        limits=_LIMITS,
    ),
    "Key": shape(_KEY_ALWAYS, **_KEY),
    "KeyInUse": shape(
        (*_KEY_ALWAYS, "streams"),
        **_KEY,
        streams={"type": "integer", "description": "Streams that it has open."},
        last_used={"type": ["object", "string", "null"]},
    ),
    "MintedKey": shape((*_KEY_ALWAYS, "key"), **_KEY, key=_SECRET, expires_with={
        **TEXT, "description": "The id of its maker, to whose life its own was cut."}),
    "RevokedKey": shape(_KEY_ALWAYS, **_KEY, living_descendants=listed(
        TEXT, description="The ids of keys that came of it and live on."),
        revoked_descendants=listed(TEXT, description="The ids of those revoked with it.")),
    **{body.__name__.removesuffix("Body"): of_struct(body) for body in BODIES},
    "DeletedRole": shape(("name", "keys"), name=TEXT, keys=listed(TEXT)),
    "KeyList": shape(("keys",), keys=listed(named("Key"))),
    "NewRole": of_struct(NewRoleBody, grants=listed(named("Grant"), maxItems=MAX_GRANTS)),
    "Role": shape(
        ("name", "description", "grants", "builtin"),
        name={"type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$"},
        description=TEXT,
        grants=listed(named("Grant")),
        builtin={"type": "boolean"},
        problems=listed({"type": "object"}),
    ),
    "RoleList": shape(("roles",), roles=listed(named("Role"))),
    "Ticket": shape(
        ("ticket", "expires_at"),
        ticket={"type": "string", "pattern": r"^alpt_[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+$"},
        expires_at=MOMENT,
    ),
    "Explanation": shape(
        ("key", "action", "at", "decision", "reason_code", "grants", "nearest", "masks", "drops"),
        key=TEXT,
        action=TEXT,
        at=MOMENT,
        decision={"enum": ["allow", "deny", "depends"], "description": "`depends`: on what was "
                  "not said of the event; see `depends_on`."},
        reason_code=TEXT,
        grants=listed({"type": "object"}, description="The grants that match."),
        nearest={"type": ["object", "null"], "description": "The grant that came nearest, and "
                 "the predicate that failed."},
        masks=listed(TEXT),
        drops=listed(TEXT),
        depends_on=listed({"type": "object"}, description="Where it depends: the `member`, and "
                          "the `patterns` of the grants that want something of it."),
        throttled_until={**MOMENT, "description": "Until then a few requests a minute are let "
                         "through; where the key is throttled."},
        maker_ended=_MAKER_ENDED,
    ),
    "Simulation": shape(
        ("key", "window"),
        key=TEXT,
        window=shape(
            ("since", "until", "complete"),
            since=MOMENT,
            until=MOMENT,
            complete={"type": "boolean", "description": "Whether all events were looked at."},
        ),
        uses={"type": ["object", "null"], "description": "Null without `usage.read`, as are the "
              "two below."},
        events={"type": "object"},
        grants=listed({"type": "object"}, description="The proposed ones."),
        unused=_GRANT_NAMES,
        not_known=_NOT_KNOWN,
    ),
    "KeyDocument": shape(
        ("key", "can", "cannot", "grants", "last_use", "unused_since", "unused", "not_known",
         "samples"),
        key=named("Key"),
        can=listed(TEXT),
        cannot=listed(TEXT),
        grants=listed({"type": "object"}, description="With `problems` where one counts otherwise "
                      "than it is written."),
        maker_ended=_MAKER_ENDED,
        last_use={"type": ["object", "null"]},
        unused_since={"type": ["string", "null"], "format": "date-time"},
        unused=_GRANT_NAMES,
        not_known=_NOT_KNOWN,
        samples=listed(named("Event")),
    ),
    "UsageRows": shape(
        ("id", "rows"),
        id=TEXT,
        rows=listed(
            shape(
                ("start", "requests", "streams", "events", "bytes", "denials"),
                start=MOMENT,
                requests={"type": "integer"},
                streams={"type": "integer"},
                events={"type": "integer"},
                bytes={"type": "integer"},
                denials={"type": "integer"},
            )
        ),
    ),
    "Finding": shape(
        ("id", "key", "signal", "count", "severity", "first_seen", "last_seen", "state", "data"),
        id=TEXT,
        key={"type": ["string", "null"], "description": "The id of the key, if it is about one."},
        address={"type": "string", "description": "What it is about, if it is about no key."},
        operator={**TEXT, "description": "Or whom, about the command line: `cli:` and a user."},
        signal=TEXT,
        count={"type": "integer"},
        severity=_SEVERITY,
        first_seen=MOMENT,
        last_seen=MOMENT,
        state={"enum": ["open", "expected"]},
        reason=TEXT,
        by=TEXT,
        data={"type": "object"},
    ),
    "FindingList": shape(("findings",), findings=listed(named("Finding"))),
    "Problem": shape(
        ("type", "title", "status", "code", "detail", "request_id"),
        type=TEXT,
        title=TEXT,
        status={"type": "integer"},
        code={"type": "string", "description": "Stable, for programs."},
        detail={"type": "string", "description": "What to do, for people."},
        request_id=TEXT,
    ),
    "GoneProblem": {
        "allOf": [named("Problem"), shape(("earliest", "latest"), earliest=CURSOR, latest=CURSOR)]
    },
    "EventsProblem": {
        "allOf": [
            named("Problem"),
            shape(
                ("errors",),
                errors=listed(named("RefusedItem")),
            ),
        ]
    },
}  # fmt: skip
