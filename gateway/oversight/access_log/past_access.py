"""Past accesses of a key, from the access log and from streams that are still open. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.access.usage.access import CLOSED, COUNTED, OPENED, PULLED, READ, Access
from gateway.clock import parse_rfc3339
from gateway.cursor import parse_cursor
from gateway.errors import InvalidRequest
from gateway.event import Event
from gateway.oversight.access_log.recorded_query import EVERYTHING, RecordedQuery, query_from

READING = ("stream", "pull")
# More than the longest time for which repeats are merged before they are in the log.
_UNRECORDED_SECONDS = 90.0
_WHOLE = ((0, 2**63),)

Ranges = tuple[tuple[int, int], ...]


class PastAccess(msgspec.Struct, frozen=True):
    """Accesses of a key: `count` of them, from `at` to `until` (seconds since 1970), all of the
    `attempted` action and from one address; 0 if they are counted elsewhere.

    For a read, each of `queries` was asked for in some of the `ranges` of offsets (behind the
    first, up to the second), or events were read by their ids (`named`, as URNs).
    """

    attempted: str
    at: float
    until: float
    count: int = 1
    address: str | None = None
    allowed: bool = True
    reason: str = ""
    route: str = ""
    action: str = ""
    queries: tuple[RecordedQuery, ...] = (EVERYTHING,)
    ranges: Ranges = ()
    named: frozenset[str] = frozenset()


class Presence(msgspec.Struct, frozen=True):
    """What is known of a key beside the access log: its streams that are open here, with their
    opening and the offset that each has reached, and its last use in any process."""

    streams: tuple[tuple[Access, int], ...] = ()
    used_at: float = 0.0
    address: str = ""


def past_accesses(record: Event, key_id: str, since: float = 0.0) -> list[PastAccess]:
    """Accesses of one key in an event of the category `gateway.access`.

    The end of a stream tells what it read. It counts as an access only if the stream was opened
    before `since`, so that its opening is not counted.
    """
    members = record.members()
    data = members.get("data", {})
    if "attempted" not in data:
        return []
    several = data.get("whose")
    if several is None and record.actor != key_id:
        return []
    source = members.get("source", {}) if several is None else {}
    addresses = (
        [source.get("ip")]
        if several is None
        else [one["address"] for one in several if one["key"] == key_id]
    )
    at = _seconds(members["time"])
    until = _seconds(data["until"]) if "until" in data else at
    # For entries merged over several keys the share of each is unknown.
    count = data["count"] if several is None else 1
    if members["action"] == CLOSED:
        at -= data.get("seconds", 0.0) / data["count"]
        count = count if at < since else 0
    queries, ranges, named = _reading(members, data)
    return [
        PastAccess(
            attempted=data["attempted"],
            at=at,
            until=until,
            count=count,
            address=address,
            allowed=members["outcome"] != "denied",
            reason=members.get("reason", ""),
            route=data.get("route", ""),
            action=members["action"],
            queries=queries,
            ranges=ranges,
            named=named,
        )
        for address in addresses
    ]


def present_accesses(
    presence: Presence, accesses: list[PastAccess], since: float, now: float
) -> list[PastAccess]:
    """Accesses of streams that are open `now`, beside the `accesses` in the access log.

    A key in use for longer than the access log says has a stream open in another process, which is
    taken to read what its unended streams asked for, or anything.
    """
    found = [_open_access(opened, reached, since, now) for opened, reached in presence.streams]
    newest = max([since, *(access.until for access in (*accesses, *found))])
    if presence.used_at - newest <= _UNRECORDED_SECONDS:
        return found
    opened = [access for access in accesses if access.action == OPENED]
    ended = sum(access.action == CLOSED and access.at >= since for access in accesses)
    open_since = sum(access.count for access in opened) > ended
    queries = frozenset(one for access in opened for one in access.queries)
    elsewhere = PastAccess(
        "stream", presence.used_at, presence.used_at, 0 if open_since else 1,
        presence.address or None, queries=tuple(queries) if open_since else (EVERYTHING,),
        ranges=_WHOLE,
    )  # fmt: skip
    return [*found, elsewhere]


def _open_access(opened: Access, reached: int, since: float, now: float) -> PastAccess:
    parameters: dict[str, Any] = msgspec.json.decode(opened.parameters or "{}")
    return PastAccess(
        attempted=opened.attempted,
        at=opened.at,
        until=now,
        count=int(opened.at < since),
        address=opened.address or None,
        route=opened.route,
        queries=(query_from(parameters),),
        ranges=((opened.begin, reached),),
    )


def _reading(
    members: dict[str, Any], data: dict[str, Any]
) -> tuple[tuple[RecordedQuery, ...], Ranges, frozenset[str]]:
    action = members["action"]
    read = action in (PULLED, COUNTED, CLOSED, READ)
    if "without_details" in data:
        return (EVERYTHING,), _WHOLE if read else (), frozenset()
    if action == READ:
        urns = data.get("about") or [one.get("urn", "") for one in members.get("targets", ())]
        return (EVERYTHING,), (), frozenset(urn for urn in urns if urn.startswith("event:"))
    # Categories that were out of scope then were not read by any grant.
    forbidden = set(data.get("forbidden", ()))
    queries = [query_from(one) for one in data.get("parameters", ())] or [EVERYTHING]
    queries = [one for one in queries if not one.categories or not one.categories <= forbidden]
    ranges = data.get("ranges", ()) if read else ()
    return (
        tuple(queries),
        tuple((_offset(one["after"]), _offset(one["to"])) for one in ranges),
        frozenset(),
    )


def _offset(cursor: str) -> int:
    try:
        return parse_cursor(cursor)[1]
    except InvalidRequest:
        return 0


def _seconds(moment: str) -> float:
    return parse_rfc3339(moment) / 1_000_000
