"""Use cases of destinations: each makes one change, or is refused and changes nothing.

HTTP and the command line share them. A destination sends what its key may see to an address that
somebody chose; so whoever makes or changes one must be able to make such a key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from msgspec.structs import replace

from gateway.access.administration.caller import Caller
from gateway.access.credentials.pepper import Pepper
from gateway.access.grants.role import BUILTIN
from gateway.access.keys.change import key_urn, other_change
from gateway.access.keys.key_lookup import known_key
from gateway.access.keys.key_store import KeysAndRoles
from gateway.access.keys.lifecycle import check_reason, refuse_person
from gateway.access.keys.operator import actor_name, operator_of
from gateway.clock import Clock, parse_duration
from gateway.cursor import distance, format_cursor, parse_cursor
from gateway.delivery.answer import DestinationAnswer, public
from gateway.delivery.definition import (
    Definition,
    ReplayBody,
    Start,
    invalid,
    need_secrets,
    parse_definition,
    parse_start,
    patched,
)
from gateway.delivery.destination import (
    MOST_DEAD_LETTERS,
    OWNER,
    Destination,
    Replay,
    changeable,
    check_same_key,
    paused,
    redefined,
    replaying,
    resumed,
    with_secret,
    without_replay,
)
from gateway.delivery.health import Status, decode_status
from gateway.delivery.ports import DeadLetter, DestinationChange, Destinations
from gateway.delivery.position import before, position_row, start_cursor
from gateway.delivery.records import destination_urn
from gateway.delivery.sealing import seal
from gateway.errors import Conflict, NotFound
from gateway.log.lag import lag_behind
from gateway.log.ports import Log
from gateway.streaming.consumers.ports import Consumers
from gateway.streaming.consumers.row import ConsumerRow

MOST_DESTINATIONS = 200
MOST_SECRET = 8192
MOST_OVERLAP = 7 * 86400
# Marks of a destination that a set declares.
Stamping = Callable[[Destination], Destination]
LiveHealth = Callable[[], tuple[Status | None, str | None]]


class Stores(NamedTuple):
    """Where destinations and what belongs to them are kept."""

    destination_store: Destinations
    consumer_store: Consumers
    key_store: KeysAndRoles
    log: Log


class DestinationAdministration:
    """Administration of destinations by one caller. `check_type` raises `InvalidRequest` for a
    definition that its type cannot use; it is given the names of its secrets."""

    def __init__(
        self,
        caller: Caller,
        stores: Stores,
        clock: Clock,
        pepper: Callable[[], Awaitable[Pepper]],
        check_type: Callable[[Definition, frozenset[str]], None],
    ) -> None:
        self._caller = caller
        self._store, self._consumer_store, self._key_store, self._log = stores
        self._clock = clock
        self._pepper = pepper
        self.check_type = check_type

    async def create(self, raw: Any, stamped: Stamping = lambda one: one) -> Destination:
        """Make a destination, which begins to deliver."""
        destination = stamped(await self._drafted(raw))
        definition, now = destination.definition, destination.created_at
        position = await self.start(parse_start(definition.start, now))
        if await self._store.get(definition.name) is not None:
            raise _taken(definition.name)
        await self._caller.recheck()
        placed, replaced = await self._place(definition.name, position)

        def create(before: Destination | None, others: int) -> Destination:
            if before is not None:
                raise _taken(definition.name)
            if others >= MOST_DESTINATIONS:
                raise Conflict(
                    f"there are {others} destinations, and no more can be made; delete one",
                    code="too_many_destinations",
                )
            return destination

        try:
            stored = await self._store.change(definition.name, create)
        except Conflict:
            await self._put_back(placed, replaced)
            raise
        assert stored is not None
        data = {"type": definition.type, "key": definition.key, "begin": position}
        await self._record("created", stored, data)
        return stored

    async def drafted(self, name: str, raw: Any) -> Destination:
        """Destination that is not stored, to be tried, by one who could make it."""
        if isinstance(raw, dict) and raw.setdefault("name", name) != name:
            raise invalid("name", "it is another one in the path")
        return await self._drafted(raw)

    async def _drafted(self, raw: Any) -> Destination:
        definition, values = parse_definition(raw)
        self.check_type(definition, frozenset(values))
        await self._check_authority(definition)
        now = self._clock.now()
        destination = Destination(
            definition=definition, since=now, created_at=now,
            created_by=actor_name(self._caller.by),
        )  # fmt: skip
        for name, value in values.items():
            destination = await self._sealed(destination, name, value, 0.0)
        return destination

    async def change(self, name: str, raw: Any, stamped: Stamping = lambda one: one) -> Destination:
        """Change members of a destination by a merge patch."""
        known = changeable(await self.named(name))
        after, values = patched(known.definition, raw)
        self.check_type(after, frozenset([*known.secrets, *values]))
        if not known.definition.same_receiver(after):
            need_secrets(known.secrets, values)
        await self._check_authority(known.definition)
        await self._check_authority(after)
        by, now = actor_name(self._caller.by), self._clock.now()
        changed = stamped(replace(known, definition=after, changed_by=by, changed_at=now))
        for secret, value in values.items():
            changed = await self._sealed(changed, secret, value, 0.0)
        stored = await self._apply(name, lambda now: redefined(known, changed))
        names = [one for one in after.__struct_fields__ if _differs(known.definition, after, one)]
        data: dict[str, Any] = {"changed": names, "secrets": sorted(values)}
        if not known.definition.same_delivery(after):
            row = await self._consumer_store.get(OWNER, name)
            if row is not None and not row.held(self._clock.now()):
                # Else who delivers it tells, once it has finished the request under way.
                data["from"] = row.cursor
        await self._record("changed", stored, data)
        return stored

    async def delete(self, name: str) -> None:
        """Delete a destination with its position, secrets and dead letters."""
        known = changeable(await self.named(name))
        await self._check_authority(known.definition)
        row = await self._consumer_store.get(OWNER, name)
        await self._caller.recheck()

        def delete(before: Destination | None, others: int) -> None:
            if before is not None:
                check_same_key(before, known)

        await self._store.change(name, delete)
        # That of another one, which was made by this name meanwhile, stays.
        made_at = None if row is None else row.created_at
        await self._consumer_store.change(
            OWNER, name, lambda now, others: now if now and now.created_at != made_at else None
        )
        await self._record("deleted", known, {})

    async def pause(self, name: str, reason: object) -> Destination:
        """Have a destination stop after the request that is under way."""
        checked, by = check_reason(reason), actor_name(self._caller.by)
        stored = await self._apply(name, lambda now: lambda one: paused(one, now, by, checked))
        await self._record("paused", stored, {}, checked)
        return stored

    async def resume(self, name: str, reason: object) -> Destination:
        """Have a paused or disabled destination go on from its position."""
        checked, by = check_reason(reason), actor_name(self._caller.by)
        stored = await self._apply(name, lambda now: lambda one: resumed(one, now, by, checked))
        await self._record("resumed", stored, {}, checked)
        return stored

    async def set_secret(self, name: str, secret: str, value: str, overlap: str) -> Destination:
        """Set a secret; its former value counts for the overlap, where the type can use two."""
        known = changeable(await self.named(name))
        seconds = parse_duration(overlap)
        if seconds > MOST_OVERLAP:
            raise invalid("overlap", "at most 7d")
        self.check_type(known.definition, frozenset([*known.secrets, secret]))
        await self._check_authority(known.definition)
        changed = await self._sealed(known, secret, value, float(seconds))
        stored = await self._apply(name, lambda now: redefined(known, changed))
        await self._record("secret_set", stored, {"secret": secret, "overlap": overlap})
        return stored

    async def replay(self, name: str, body: ReplayBody) -> Destination:
        """Deliver a part of the log, or dead letters, a second time; one replay at a time."""
        known = await self.named(name)
        await self._check_authority(known.definition)
        now, by = self._clock.now(), actor_name(self._caller.by)
        checked = check_reason(body.reason)
        if bool(body.start) == bool(body.dead_letters):
            raise invalid("from", "send either `from` with `to`, or `dead_letters`")
        chosen: tuple[str, ...] = ()
        if body.start:
            begin = await self.start(parse_start(body.start, now))
            until = await self.start(parse_start(body.to, now, "to"))
            if distance(parse_cursor(until)[1], parse_cursor(begin)[1]):
                raise invalid("to", "it is before `from`")
        else:
            chosen = await self._chosen(name, body.dead_letters)
            places = sorted(parse_cursor(one)[1] for one in chosen)
            begin = format_cursor(self._log.epoch, before(places[0]))
            until = format_cursor(self._log.epoch, places[-1])
        replay = Replay(
            begin=begin, until=until, dead_letters=chosen, by=by, reason=checked, started_at=now
        )
        stored = await self._apply(name, lambda now: replaying(known, replay))
        data = {"begin": begin, "end": until, "dead_letters": len(chosen)}
        await self._record("replayed", stored, data, checked)
        return stored

    async def cancel_replay(self, name: str) -> Destination:
        """End the replay that goes on, at once."""
        stored = await self._apply(name, lambda now: lambda one: without_replay(one, now))
        await self._record("replay_cancelled", stored, {})
        return stored

    async def _chosen(self, name: str, wanted: str | list[str]) -> tuple[str, ...]:
        """Cursors of dead letters that are still in the log. Raises `NotFound` without any."""
        letters = await self._store.dead_letters(name, "", MOST_DEAD_LETTERS)
        asked = frozenset(wanted)
        epoch, floor = self._log.epoch, self._log.floor
        found = [
            letter.cursor
            for letter in letters
            if (wanted == "all" or letter.cursor in asked)
            and letter.event_id
            and parse_cursor(letter.cursor)[0] == epoch
            and distance(floor, parse_cursor(letter.cursor)[1])
        ]
        if not found:
            raise NotFound(
                "none of these dead letters is there, with its event still in the log",
                code="unknown_dead_letter",
            )
        return tuple(found)

    async def delete_dead_letters(self, name: str, cursors: list[str] | None) -> int:
        """Delete dead letters, all of them with None; return how many there were."""
        known = await self.named(name)
        await self._check_authority(known.definition)
        await self._caller.recheck()
        count = await self._store.delete_dead_letters(name, cursors)
        if count:
            await self._record("dead_letters_deleted", known, {"count": count})
        return count

    async def shown(
        self, destination: Destination, live: LiveHealth = lambda: (None, None)
    ) -> DestinationAnswer:
        """A destination with its health: status and cursor as `live` has them, asked behind its
        dead letters, as these are stored first; or else as they were stored last."""
        name, log = destination.name, self._log
        dead_letters = await self._store.count_dead_letters(name)
        status, cursor = live()
        status = status or decode_status(await self._store.status(name))
        if cursor is None:
            row = await self._consumer_store.get(OWNER, name)
            cursor = row.cursor if row is not None else format_cursor(log.epoch, log.head)
        lag = await lag_behind(log, cursor, self._clock.now())
        return public(destination, status, cursor, lag, dead_letters)

    async def all(self) -> list[Destination]:
        """All destinations, by name."""
        return await self._store.all()

    async def dead_letters(self, name: str, after: str, limit: int) -> list[DeadLetter]:
        """Dead letters of a destination behind a cursor."""
        await self.named(name)
        return await self._store.dead_letters(name, after, limit)

    async def named(self, name: str) -> Destination:
        """The destination of that name. Raises `NotFound`."""
        found = await self._store.get(name)
        if found is None:
            raise unknown_destination()
        return found

    async def start(self, start: Start) -> str:
        """Cursor of a begin. Raises `CursorGone` for one that is not in the log."""
        return await start_cursor(self._log, start)

    async def _check_authority(self, definition: Definition) -> None:
        key = await known_key(self._key_store, definition.key)
        refuse_person(key, "to deliver with")
        roles = {**BUILTIN, **await self._key_store.roles()}
        await self._caller.check_delegation(key, roles)

    async def _sealed(
        self, destination: Destination, name: str, value: str, overlap: float
    ) -> Destination:
        if not 0 < len(value) <= MOST_SECRET:
            raise invalid(f"secrets.{name}", f"a text of at most {MOST_SECRET} characters")
        now = self._clock.now()
        secret = seal(value, destination.name, name, await self._pepper(), now)
        return with_secret(destination, name, secret, overlap, now)

    async def _place(self, name: str, cursor: str) -> tuple[ConsumerRow, ConsumerRow | None]:
        """Store the position of a new destination; return it and what was there instead."""
        row = position_row(name, cursor, self._clock.now())
        found: list[ConsumerRow | None] = [None]

        def place(before: ConsumerRow | None, others: int) -> ConsumerRow:
            found[0] = before
            return row

        await self._consumer_store.change(OWNER, name, place)
        return row, found[0]

    async def _put_back(self, placed: ConsumerRow, replaced: ConsumerRow | None) -> None:
        """Undo `_place`, where somebody else has made the destination meanwhile. Whoever delivers
        it from there already loses the claim, and begins again."""

        def put_back(row: ConsumerRow | None, others: int) -> ConsumerRow | None:
            if row is None or row.created_at != placed.created_at or replaced is None:
                return row
            return replace(replaced, generation=row.generation + 1, reader="", lease_until=0.0)

        await self._consumer_store.change(OWNER, placed.name, put_back)

    async def _apply(
        self, name: str, change: Callable[[float], Callable[[Destination], Destination]]
    ) -> Destination:
        await self._caller.recheck()
        act = change(self._clock.now())

        def changing(before: Destination | None, others: int) -> Destination | None:
            return None if before is None else act(before)

        applied: DestinationChange = changing
        stored = await self._store.change(name, applied)
        if stored is None:
            raise unknown_destination()
        return stored

    async def _record(
        self, what: str, destination: Destination, data: dict[str, Any], reason: str = ""
    ) -> None:
        about = [destination_urn(destination.name), key_urn(destination.definition.key)]
        by = self._caller.by
        await self._key_store.record_later(
            other_change(
                f"destination.{what}",
                about,
                by=actor_name(by),
                at=self._clock.now(),
                reason=reason,
                data={"destination": destination.name, **data},
                operator=operator_of(by),
            )
        )


def unknown_destination() -> NotFound:
    """Error for a destination that does not exist."""
    return NotFound(
        "there is no destination of this name; `audit-gateway destinations list` or "
        "GET /v1/destinations shows all",
        code="unknown_destination",
    )


def _taken(name: str) -> Conflict:
    return Conflict(
        f"there is a destination {name} already; change it by PATCH, or choose another name",
        code="destination_exists",
    )


def _differs(before: Definition, after: Definition, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))
