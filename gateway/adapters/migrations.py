"""Numbered scripts of a schema, and the choice of those that a database still needs.

A script is `sql/<schema>_NNN.sql` in the package of its adapter. The lowest number of a schema is
its baseline: the whole schema at that number, for new databases only. Each later script leads from
the number before it to its own.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from typing import NamedTuple

from gateway.errors import GatewayError


class Migrated(NamedTuple):
    """Version of a schema before and after a migration, and the scripts applied."""

    before: int
    now: int
    scripts: tuple[str, ...]


def load_scripts(package: str) -> dict[str, dict[int, str]]:
    """Scripts of each schema by number, in the order they are applied."""
    found: dict[str, dict[int, str]] = {}
    folder = resources.files(package) / "sql"
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.name.endswith(".sql"):
            schema, number = split_name(item.name.removesuffix(".sql"))
            found.setdefault(schema, {})[number] = item.read_text("utf-8")
    return found


def script_name(schema: str, number: int) -> str:
    return f"{schema}_{number:03}"


def split_name(name: str) -> tuple[str, int]:
    """Schema and number of a script's name. A name without a number, as a later version may have
    them, is a schema of its own."""
    schema, _, number = name.rpartition("_")
    return (schema, int(number)) if number.isdecimal() else (name, 1)


def missing_scripts(where: str, schema: str, version: int, known: Collection[int]) -> list[int]:
    """Numbers that a database at `version` still needs; 0 is a database without the schema.

    Raises `GatewayError`, whose text begins with `where`, if the database is newer than all `known`
    scripts or older than the baseline.
    """
    if version > max(known, default=0):
        raise GatewayError(
            f"{where} was written by a newer version of this program "
            f"({script_name(schema, version)}); run that version or a newer one",
            code="schema_too_new",
        )
    if 0 < version < min(known):
        raise GatewayError(
            f"{where} was written by a version of this program that is too old "
            f"({script_name(schema, version)}; this one goes on from "
            f"{script_name(schema, min(known))}) and was left as it is; run `audit-gateway "
            "migrate` of the last version before 0.1.0 once, then this one: deploy/upgrading.md",
            code="schema_too_old",
        )
    return sorted(number for number in known if number > version)
