"""Whose records are around which a tenant is declared. Pure."""

from __future__ import annotations

from typing import Any

from gateway.filters.scope import RESERVED
from gateway.ingest.mapping.values import tenant
from gateway.ingest.sources.source import Owner
from gateway.ingest.strict_json import Refused


def declared_owner(owner: Owner, name: Any) -> Owner:
    """The owner with the tenant that `name` is, unless it is none or the owner's is fixed. Raises
    `Refused` for that of the gateway's own records."""
    cleaned = tenant(name) if type(name) is str else ""
    if cleaned == RESERVED:
        raise Refused("tenant", f"`{RESERVED}` is reserved")
    return owner._replace(tenant=cleaned) if cleaned and not owner.fixed else owner
