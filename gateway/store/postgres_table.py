"""A table that somebody else made: what it has, and what it needs to be followed."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
import msgspec

from gateway.errors import GatewayError, InvalidSetting
from gateway.store.row_mapping import LARGEST_ROW, RowMapping

XID_COLUMN = "gateway_xid"

_FACTS = """
SELECT c.oid, c.oid::regclass::text AS name, c.relkind,
       quote_ident(k.attname) AS key, format_type(k.atttypid, k.atttypmod) AS key_type,
       (SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attname <> $2) AS columns,
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
                  AND a.attname = $2 AND i.indkey[1] = k.attnum) AS has_index
  FROM pg_class AS c
  LEFT JOIN pg_index AS p ON p.indrelid = c.oid AND p.indisprimary AND p.indnkeyatts = 1
  LEFT JOIN pg_attribute AS k ON k.attrelid = c.oid AND k.attnum = p.indkey[0]
 WHERE c.oid = to_regclass($1)
"""


class Source(msgspec.Struct, frozen=True):
    """The settings `[store] table` and `[store.columns]`.

    `read_only`: nothing may be added to the table; see `postgres_horizon`.
    """

    table: str
    columns: Mapping[str, str]
    read_only: bool = False


class Table(msgspec.Struct, frozen=True):
    """A table with a primary key of one column. Names are quoted as SQL needs them."""

    oid: int
    name: str
    key: str
    key_type: str
    columns: tuple[str, ...]
    has_xid: bool
    has_index: bool

    @property
    def prepared(self) -> bool:
        """Whether its rows can be told apart by their transactions, without reading all."""
        return self.has_xid and self.has_index

    def preparation(self) -> str | None:
        """The statement that adds what is missing; None if nothing is.

        Adding the column does not rewrite the table; the index is built while nobody writes.
        """
        parts = []
        if not self.has_xid:
            parts.append(f"ADD COLUMN {XID_COLUMN} xid8 NOT NULL DEFAULT pg_current_xact_id()")
        if not self.has_index:
            parts.append(f"ADD UNIQUE ({XID_COLUMN}, {self.key})")
        return f"ALTER TABLE {self.name} {', '.join(parts)}" if parts else None

    def select(self, condition: str, order: str) -> str:
        """Rows as `xid`, `key` and `row`: JSON text, null where it would be far too large."""
        xid = f"it.{XID_COLUMN}" if self.has_xid else "NULL"
        columns = ", ".join(f"it.{column}" for column in self.columns)
        return (
            f"SELECT {xid}::text AS xid, it.{self.key}::text AS key,"
            f" CASE WHEN pg_column_size(it.*) <= {LARGEST_ROW} THEN"
            f" (SELECT to_json(shown) FROM (SELECT {columns}) AS shown)::text END AS row"
            f" FROM {self.name} AS it WHERE {condition} ORDER BY {order}"
        )


async def inspect(connection: asyncpg.Connection, name: str, mapping: RowMapping) -> Table:
    """The table of that name, in the schema `public` if it names none.

    Raises `GatewayError` if there is none that can be followed.
    """
    qualified = name if "." in name else f"public.{name}"
    facts = await connection.fetchrow(_FACTS, qualified, XID_COLUMN)
    if facts is None:
        raise InvalidSetting(f"store.table: there is no table {name} that this user can see")
    if missing := mapping.columns - set(facts["columns"]):
        raise InvalidSetting(
            f"store.columns: the table {name} has no column {min(missing)}; it has "
            + ", ".join(sorted(facts["columns"]))
        )
    if facts["key"] is None:
        raise GatewayError(
            f"store.table: {name} has no primary key of one column; its rows cannot be told apart",
            code="table_unusable",
        )
    return Table(
        facts["oid"], facts["name"], facts["key"], facts["key_type"], tuple(facts["quoted"]),
        facts["has_xid"], facts["has_index"],
    )  # fmt: skip
