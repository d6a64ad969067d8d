"""A table made by others: its columns, and what following it requires."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from gateway.errors import GatewayError, InvalidSetting
from gateway.ingest.sources.row_mapping import LARGEST_ROW, RowMapping

XID_COLUMN = "gateway_xid"

_FACTS = """
SELECT c.oid, c.oid::regclass::text AS name, c.relkind,
       has_table_privilege(c.oid, 'SELECT') AS readable, quote_ident(current_user) AS me,
       quote_ident(k.attname) AS key, format_type(k.atttypid, k.atttypmod) AS key_type,
       (SELECT array_agg(ARRAY[attname, format_type(coalesce(nullif(typbasetype, 0), t.oid), NULL)]
                         ORDER BY attnum)
          FROM pg_attribute JOIN pg_type AS t ON t.oid = atttypid
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attname <> $2) AS types,
       (SELECT array_agg(quote_ident(attname) ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attname <> $2) AS quoted,
       EXISTS (SELECT FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid
                                                                 AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attname = $2 AND a.atttypid = 'xid8'::regtype
                  AND a.attnotnull AND pg_get_expr(d.adbin, d.adrelid) = 'pg_current_xact_id()')
           AS has_xid,
       EXISTS (SELECT FROM pg_index AS i
                 JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL
                  AND a.attname = $2 AND i.indkey[1] = k.attnum) AS has_index,
       ARRAY(SELECT (SELECT json_agg(attname) FROM pg_attribute
                      WHERE attrelid = c.oid AND attnum = ANY (i.indkey[0:i.indnkeyatts - 1]))::text
               FROM pg_index AS i
              WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                AND i.indexprs IS NULL) AS uniques
  FROM pg_class AS c
  LEFT JOIN pg_index AS p ON p.indrelid = c.oid AND p.indisprimary AND p.indnkeyatts = 1
  LEFT JOIN pg_attribute AS k ON k.attrelid = c.oid AND k.attnum = p.indkey[0]
 WHERE c.oid = to_regclass($1)
"""


_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_TEXTS = ("text", "character varying", "character")
_PLAINLY_SIZED = (*_TEXTS, "bytea")
_TIMES = ("timestamp with time zone", "timestamp without time zone")
_JSON = ("json", "jsonb")
# Types that a column may have for a member, and how they are named.
_KINDS = {
    "time": ((*_TIMES, *_TEXTS, *_NUMBERS), "a timestamp, RFC 3339 in text, or seconds since 1970"),
    "severity": ((*_NUMBERS, *_TEXTS), "a whole number"),
    "source.port": ((*_NUMBERS, *_TEXTS), "a whole number"),
    "targets": (_JSON, "json or jsonb that holds a list"),
}
# Types without members inside.
_PLAIN = (
    *_NUMBERS, *_TIMES, "boolean", "date", "uuid", "bytea", "inet", "cidr", "interval",
    "time without time zone", "time with time zone",
)  # fmt: skip


class TableSettings(msgspec.Struct, frozen=True):
    """The settings `[store] table` and `[store.columns]`.

    `read_only`: nothing may be added to the table; see `ByHorizon`.
    """

    table: str
    columns: Mapping[str, str]
    read_only: bool = False

    @property
    def name(self) -> str:
        """Name of the table with its schema, `public` if it names none."""
        return self.table if "." in re.sub('"[^"]*"', "", self.table) else f"public.{self.table}"

    def mapping(self) -> RowMapping:
        """Mapping of the columns. Raises `InvalidSetting` for unknown or missing members."""
        return RowMapping(self.name, self.columns)


class Table(msgspec.Struct, frozen=True):
    """A table with a primary key of one column. Names are quoted for SQL."""

    oid: int
    name: str
    key: str
    key_type: str
    columns: tuple[str, ...]
    # SQL for the bytes of each column without reading it, uncompressed where that is known.
    sizes: tuple[str, ...]
    has_xid: bool
    has_index: bool
    # Column or constant of `id`, if the table does not ensure that ids are unique.
    doubtful_id: str | None = None

    def preparation(self) -> str | None:
        """Statement that adds what is missing; None if nothing is.

        Adding the column does not rewrite the table; building the index blocks writers.
        """
        parts = []
        if not self.has_xid:
            parts.append(f"ADD COLUMN {XID_COLUMN} xid8 NOT NULL DEFAULT pg_current_xact_id()")
        if not self.has_index:
            parts.append(f"ADD UNIQUE ({XID_COLUMN}, {self.key})")
        return f"ALTER TABLE {self.name} {', '.join(parts)}" if parts else None

    def pick(self, condition: str, order: str) -> str:
        """Query of some rows as `xid` and `key`."""
        xid = f"it.{XID_COLUMN}" if self.has_xid else "NULL::xid8"
        return (
            f"SELECT {xid} AS xid, it.{self.key} AS key FROM {self.name} AS it"
            f" WHERE {condition} ORDER BY {order}"
        )

    def show(self, picked: str, order: str, whole: str) -> str:
        """Query of picked rows as `xid`, `key` and `row`: JSON text, null for a far too large row,
        or unless `whole` holds. Rows are built one by one, as they are fetched."""
        columns = ", ".join(f"it.{column}" for column in self.columns)
        size = " + ".join(f"coalesce({size}, 0)" for size in self.sizes)
        return f"""
            SELECT picked.xid::text AS xid, picked.key::text AS key,
                   CASE WHEN octet_length(shown.text) <= {LARGEST_ROW} THEN shown.text END AS row
              FROM ({picked}) AS picked
              LEFT JOIN LATERAL (
                SELECT (SELECT to_json(whole) FROM (SELECT {columns}) AS whole)::text AS text
                  FROM {self.name} AS it
                 WHERE {whole} AND it.{self.key} = picked.key AND {size} <= {LARGEST_ROW}
                OFFSET 0
              ) AS shown ON true
             ORDER BY {order}
        """


@asynccontextmanager
async def reading(source: TableSettings) -> AsyncIterator[None]:
    """Turn missing privileges for the table into an error that names the remedy."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise InvalidSetting(
            f"store.table: this user may not read {source.name}: {error}; let its owner grant "
            "SELECT on it, and USAGE on its schema"
        ) from error


async def inspect(
    connection: asyncpg.Connection, source: TableSettings, mapping: RowMapping
) -> Table:
    """The table in its present state.

    Raises `InvalidSetting` if it is missing, or a column is missing or of a type that never makes
    its member, and `GatewayError` if its rows cannot be told apart.
    """
    facts = await connection.fetchrow(_FACTS, source.name, XID_COLUMN)
    if facts is None:
        raise InvalidSetting(
            f"store.table: there is no table {source.name} that this user can see; name it with "
            "its schema, and grant this user USAGE on that and SELECT on the table"
        )
    if facts["relkind"] not in (b"r", b"p"):
        raise GatewayError(
            f"store.table: {source.name} is no table, so its rows cannot be told apart; name the "
            "table behind it",
            code="table_unusable",
        )
    if not facts["readable"]:
        raise InvalidSetting(
            f"store.table: this user may not read {source.name}; let its owner run: "
            f"GRANT SELECT ON {facts['name']} TO {facts['me']}"
        )
    types = dict(facts["types"])
    for member, path in mapping.paths.items():
        _check_column(source.name, member, path, types)
    if facts["key"] is None:
        raise GatewayError(
            f"store.table: {source.name} has no primary key of one column; its rows cannot be told "
            "apart",
            code="table_unusable",
        )
    return Table(
        facts["oid"], facts["name"], facts["key"], facts["key_type"], tuple(facts["quoted"]),
        tuple(
            f"{'octet_length' if kind in _PLAINLY_SIZED else 'pg_column_size'}(it.{column})"
            for column, (_, kind) in zip(facts["quoted"], facts["types"], strict=True)
        ),
        facts["has_xid"], facts["has_index"],
        _doubtful_id(source, mapping, [set(json.loads(names)) for names in facts["uniques"]]),
    )  # fmt: skip


def _doubtful_id(
    source: TableSettings, mapping: RowMapping, uniques: Sequence[set[str]]
) -> str | None:
    """Column or constant of `id`, unless the table ensures that it is unique within a tenant."""
    path = mapping.paths.get("id")
    if path is None:
        return source.columns.get("id")
    enough = {path[0], *mapping.paths.get("tenant", ())[:1]}
    if len(path) == 1 and any(names <= enough for names in uniques):
        return None
    return ".".join(path)


def _check_column(table: str, member: str, path: Sequence[str], types: Mapping[str, str]) -> None:
    column, *inside = path
    if column not in types:
        raise InvalidSetting(
            f"store.columns: {member} names the column {column}, which {table} has not; it has "
            f'{", ".join(sorted(types))}; a constant begins with "="'
        )
    kind = types[column]
    if inside and kind in _PLAIN:
        raise InvalidSetting(
            f"store.columns: {member} looks for {'.'.join(inside)} in the column {column}, which "
            f"is {kind}; only json, jsonb and text have members inside"
        )
    if member in _KINDS and not inside and kind not in _KINDS[member][0]:
        raise InvalidSetting(
            f"store.columns: {member} is made of the column {column}, which is {kind}; it needs "
            f"{_KINDS[member][1]}"
        )
