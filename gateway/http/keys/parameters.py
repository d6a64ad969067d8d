"""Parameters of the list of keys."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, get_args

import msgspec

from gateway.access.grants.grant import ACTIONS
from gateway.access.keys.key import State
from gateway.clock import parse_duration
from gateway.errors import InvalidRequest
from gateway.filters.scope import Scope
from gateway.http.query.values import Pairs, Values, collect, flag, number, one
from gateway.oversight.inventory.key_query import ORDERS, KeyQuery, Order, Place

MAX_KEYS = 1000
_STATES = get_args(State)
_MOST_VALUES = 20
_MOST_CHARACTERS = 256
_TEXT = {"type": "string"}
_FLAG = {"enum": ["true", "false", "1", "0"]}


def _many(name: str, about: str, **schema: Any) -> dict[str, Any]:
    array = {"type": "array", "items": {**_TEXT, **schema}, "maxItems": _MOST_VALUES}
    return {
        "name": name, "in": "query", "schema": array, "explode": True,
        "description": f"{about} May repeat: one of them holds.",
    }  # fmt: skip


CONDITIONS: tuple[dict[str, Any], ...] = (
    _many("owner", "Whose they are."),
    _many("role", "Roles that they have."),
    _many("state", "States.", enum=list(_STATES)),
    _many("tenant", "They may read or send events of this tenant, or do the `action` with them."),
    _many("action", "Their grants allow it at some time and from some address.",
          enum=list(ACTIONS)),
    _many("managed_by", "Declared by this set, or by this object of one: `prod`, `prod/siem`."),
    {"name": "q", "in": "query", "schema": {**_TEXT, "maxLength": _MOST_CHARACTERS},
     "description": "Words that must all occur in name, id, purpose, owner, maker, roles or scope, "
     "whatever their case."},
    {"name": "expiring", "in": "query", "schema": _TEXT,
     "description": "They end within this time, such as `14d`."},
    {"name": "unused", "in": "query", "schema": _TEXT,
     "description": "They have not ended, and were neither made nor used for so long: `30d`."},
    {"name": "never_used", "in": "query", "schema": _FLAG,
     "description": "They have not ended, and were never used, as far as is known."},
    {"name": "findings", "in": "query", "schema": _FLAG,
     "description": "With open findings, or without; needs `usage.read`."},
)  # fmt: skip
KEYS: tuple[dict[str, Any], ...] = (
    *CONDITIONS,
    {"name": "order", "in": "query", "schema": {"enum": list(ORDERS), "default": ORDERS[0]},
     "description": "`expires`: what ends first; `last_used` and `reviewed`: least recently."},
    {"name": "limit", "in": "query",
     "schema": {"type": "integer", "minimum": 1, "maximum": MAX_KEYS},
     "description": "Most keys; the answer then has `next`, `found` and `summary`, too."},
    {"name": "after", "in": "query", "schema": _TEXT,
     "description": "The `next` of the page before, with the same `order`."},
)  # fmt: skip


def parse_keys(pairs: Pairs) -> KeyQuery:
    """Keys that are wanted, their order, and the most of them."""
    values = collect(pairs)
    scope = Scope(tenant=_several(values, "tenant"))
    scope.check()
    order = _order(values)
    text = one(values, "q") or ""
    if len(text) > _MOST_CHARACTERS:
        raise InvalidRequest(f"q: at most {_MOST_CHARACTERS} characters", parameter="q")
    return KeyQuery(
        owner=_several(values, "owner"), role=_several(values, "role"),
        state=_several(values, "state", _STATES), tenant=scope.tenant,
        action=_several(values, "action", ACTIONS), managed_by=_several(values, "managed_by"),
        words=tuple(text.lower().split()),
        expiring=_seconds(values, "expiring"), unused=_seconds(values, "unused"),
        never_used=_flag(values, "never_used"), findings=_flag(values, "findings"),
        order=order, limit=number(values, "limit", 1, MAX_KEYS),
        after=_place(values, order),
    )  # fmt: skip


def format_place(order: str, place: Place) -> str:
    """The `next` of a page that ends at a place."""
    return urlsafe_b64encode(msgspec.json.encode([order, *place])).decode().rstrip("=")


def _place(values: Values, order: str) -> Place | None:
    text = one(values, "after")
    if text is None:
        return None
    kind = str if order in ("name", "owner") else float
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        given, value, key_id = msgspec.json.decode(raw, type=tuple[str, str | float, str])
        if given == order and isinstance(value, kind):
            return value, key_id
    except (ValueError, msgspec.MsgspecError):
        pass
    raise InvalidRequest(
        "after: send the `next` of the page before, with the same order", parameter="after"
    )


def _order(values: Values) -> Order:
    text = one(values, "order")
    for known in ORDERS:
        if text in (None, known):
            return known
    raise InvalidRequest(f"order: one of {', '.join(ORDERS)}", parameter="order")


def _several(values: Values, name: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    given = tuple(dict.fromkeys(values.get(name, ())))
    if "" in given or len(given) > _MOST_VALUES:
        raise InvalidRequest(f"{name}: one to {_MOST_VALUES} values, or none", parameter=name)
    # A typo must not look as if there were none.
    if known and not set(given) <= set(known):
        raise InvalidRequest(f"{name}: one of {', '.join(known)}", parameter=name)
    return given


def _seconds(values: Values, name: str) -> int | None:
    text = one(values, name)
    try:
        return None if text is None else parse_duration(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error.detail}", parameter=name) from None


def _flag(values: Values, name: str) -> bool | None:
    return flag(values, name, False) if name in values else None
