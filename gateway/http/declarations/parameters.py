"""Parameters of `POST /v1/declarations/{set}`."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.http.query.values import Pairs, collect, flag, one

_DIGEST = re.compile("[0-9a-f]{64}", re.ASCII)
_FLAG = {"enum": ["true", "false", "1", "0"], "default": "false"}
PARAMETERS: tuple[dict[str, Any], ...] = (
    {"name": "dry_run", "in": "query", "schema": _FLAG,
     "description": "Answer with the plan, and change nothing."},
    {"name": "prune", "in": "query", "schema": _FLAG,
     "description": "End what the set has made and does not name any more."},
    {"name": "expect", "in": "query", "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
     "description": "`digest` of a plan: refused with 412 if anything of it has moved."},
    {"name": "hold", "in": "query", "schema": _FLAG,
     "description": "Keys that are made wait for `POST /v1/keys/{id}/confirm`, an hour at most; "
     "the next application makes others in their stead."},
)  # fmt: skip


class DeclarationQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How a declared set is to be applied, or whether it is only planned."""

    dry_run: bool
    prune: bool
    expect: str
    hold: bool


def parse_declaration_query(pairs: Pairs) -> DeclarationQuery:
    """Read the parameters."""
    values = collect(pairs)
    expect = one(values, "expect") or ""
    if expect and not _DIGEST.fullmatch(expect):
        raise InvalidRequest("expect: the digest of a plan is needed", parameter="expect")
    return DeclarationQuery(
        dry_run=flag(values, "dry_run", False), prune=flag(values, "prune", False),
        expect=expect, hold=flag(values, "hold", False),
    )  # fmt: skip
