"""Duplicate detection of the embedded log: offsets of events by keyed values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw
import orjson

from gateway.event import Draft
from gateway.log.identity import KeyedValues, near, other_id

# ?1 `near` of each as a JSON array, ?2 and ?3 the keys and contents in one blob each, ?4 the head.
_INSERT = """
INSERT INTO dedup
SELECT value, substr(?2, key * 16 + 1, 16), ?4 + key + 1,
       nullif(substr(?3, key * 16 + 1, 16), zeroblob(16))
FROM json_each(?1)
"""
_INSERT_ONE = "INSERT INTO dedup VALUES (?, ?, ?, ?)"
_RENAME = "INSERT INTO renamed VALUES (?, ?, ?, ?, ?, ?)"
_STANDS = """
SELECT offset FROM dedup WHERE near = ?1 AND key = ?2 {0}
UNION ALL SELECT offset FROM renamed WHERE near = ?1 AND key = ?2 {0}
UNION ALL SELECT offset FROM renamed WHERE id = ?3 AND tenant = ?4 {0} LIMIT 1
"""
# Offset of the same content, whether one without a content value exists, and whether any exists:
# many events may share one id.
_KNOWN = f"""
SELECT ({_STANDS.format("AND content = ?5")}), EXISTS ({_STANDS.format("AND content IS NULL")}),
       EXISTS ({_STANDS.format("")})
"""
_IS_RENAMED = "SELECT 1 FROM renamed WHERE id = ? AND tenant = ?"
_ONE_RENAMED = """
SELECT 1 FROM renamed WHERE near = ?1 AND key = ?2
UNION ALL SELECT 1 FROM renamed WHERE id = ?3 AND tenant = ?4 LIMIT 1
"""
_ANY_RENAMED = """
SELECT 1 FROM json_each(?1) AS it
 WHERE EXISTS (SELECT 1 FROM renamed WHERE near = it.value
                                       AND renamed.key = substr(?2, it.key * 16 + 1, 16))
UNION ALL SELECT 1 FROM json_each(?3) AS it WHERE EXISTS (SELECT 1 FROM renamed WHERE id = it.value)
 LIMIT 1
"""
_BY_TEXT = "SELECT offset FROM event INDEXED BY event_id WHERE id = ? AND tenant = ?"
HAS_TEXT_INDEX = "SELECT 1 FROM sqlite_master WHERE name = 'event_id'"
_OLD = """
SELECT id, tenant, offset FROM event INDEXED BY event_id WHERE (id, tenant) > (?, ?)
   AND offset NOT IN (SELECT offset FROM renamed)
 ORDER BY id, tenant LIMIT ?
"""
_OLD_EVENTS_AT_ONCE = 2_000
_NO_CONTENT = bytes(16)


class Known(NamedTuple):
    """A duplicate. `place` is its offset, or None if only the ids are known to be equal: the
    event may be one that the sender does not know."""

    place: int | None


class Placing(NamedTuple):
    """Id under which an event that is no duplicate is stored."""

    id: str
    near: int
    key: bytes
    content: bytes | None
    taken: bool


class Dedup:
    """Keyed values of a log file, for its writer thread."""

    def __init__(self, connection: apsw.Connection, values: KeyedValues) -> None:
        self._connection = connection
        self._values = values
        self._last = ("", "")
        self.has_old = bool(connection.execute(HAS_TEXT_INDEX).fetchone())
        # Stays true once set: a transaction that deletes all of them may be rolled back.
        self._has_renamed = bool(connection.execute("SELECT 1 FROM renamed LIMIT 1").fetchone())

    def add_all(self, drafts: Sequence[Draft], head: int) -> bool:
        """Add all drafts after `head`; return False, and add none, if one may be known already."""
        if len(drafts) == 1:
            return self._add_one(drafts[0], head + 1)
        nears = orjson.dumps([near(draft.id) for draft in drafts]).decode()
        keys = b"".join(self._values.keys(drafts))
        execute = self._connection.execute
        if self._has_renamed:
            ids = orjson.dumps([draft.id for draft in drafts]).decode()
            if execute(_ANY_RENAMED, (nears, keys, ids)).fetchone():
                return False
        contents = b"".join([one or _NO_CONTENT for one in self._values.contents(drafts)])
        try:
            execute(_INSERT, (nears, keys, contents, head))
        except apsw.ConstraintError:
            # SQLite has rolled back the whole statement, and only that.
            return False
        return True

    def _add_one(self, draft: Draft, offset: int) -> bool:
        place, key = near(draft.id), self._values.key(draft.tenant, draft.id)
        execute = self._connection.execute
        if (
            self._has_renamed
            and execute(_ONE_RENAMED, (place, key, draft.id, draft.tenant)).fetchone()
        ):
            return False
        try:
            execute(_INSERT_ONE, (place, key, offset, self._values.content(draft.content)))
        except apsw.ConstraintError:
            return False
        return True

    def classify(self, draft: Draft) -> Known | Placing:
        """Whether an event is a duplicate, or else the id under which it is stored."""
        place, key = near(draft.id), self._values.key(draft.tenant, draft.id)
        content = self._values.content(draft.content)
        execute = self._connection.execute
        row: Any = execute(_KNOWN, (place, key, draft.id, draft.tenant, content)).fetchone()
        same, by_id_alone, is_taken = row
        if same is not None:
            return Known(same)
        if by_id_alone or (is_taken and content is None):
            return Known(None)
        if not is_taken:
            if self.has_old and execute(_BY_TEXT, (draft.id, draft.tenant)).fetchone():
                return Known(None)
            return Placing(draft.id, place, key, content, False)
        assert content is not None
        name = other_id(draft.id, content)
        while execute(_IS_RENAMED, (name, draft.tenant)).fetchone():
            # Two contents whose `near` values are equal.
            content_of_name = self._values.content(name.encode())
            assert content_of_name is not None
            name = other_id(draft.id, content_of_name)
        return Placing(name, place, key, content, True)

    def add(self, placing: Placing, tenant: str, offset: int) -> None:
        """Add an event with the `Placing` from `classify`."""
        name, place, key, content, taken = placing
        if taken:
            self._has_renamed = True
            self._connection.execute(_RENAME, (offset, name, tenant, place, key, content))
        else:
            self._connection.execute(_INSERT_ONE, (place, key, offset, content))

    def forget(self, upto: int, events: Sequence[tuple[int, str, str]]) -> None:
        """Remove deleted events: all up to an offset, given as offset, id and tenant."""
        execute = self._connection.execute
        renamed = {
            row[0] for row in execute("SELECT offset FROM renamed WHERE offset <= ?", (upto,))
        }
        rows: list[tuple[Any, ...]] = [
            (near(name), self._values.key(tenant, name), offset)
            for offset, name, tenant in events
            if offset not in renamed
        ]
        self._connection.executemany(
            "DELETE FROM dedup WHERE near = ? AND key = ? AND offset = ?", rows
        )
        if renamed:
            execute("DELETE FROM renamed WHERE offset <= ?", (upto,))

    def take_up_old(self) -> bool:
        """Add some of the events stored before keyed values existed; return False if none is left.

        Runs in the caller's transaction.
        """
        if not self.has_old:
            return False
        execute = self._connection.execute
        rows: list[Any] = execute(_OLD, (*self._last, _OLD_EVENTS_AT_ONCE)).fetchall()
        if not rows:
            execute("DROP INDEX IF EXISTS event_id")
            self.has_old = False
            return False
        self._connection.executemany(
            "INSERT OR IGNORE INTO dedup VALUES (?, ?, ?, NULL)",
            [(near(name), self._values.key(tenant, name), place) for name, tenant, place in rows],
        )
        self._last = rows[-1][:2]
        return True
