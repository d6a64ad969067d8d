"""What the OpenAPI document says of the answers to events that are sent."""

from __future__ import annotations

from gateway.http.openapi.schemas import CURSOR, TEXT, Schema, listed, named, shape

INGEST_SCHEMAS: dict[str, Schema] = {
    "Ingested": shape(
        ("accepted", "duplicates", "first_cursor", "last_cursor"),
        accepted={"type": "integer"},
        duplicates={"type": "integer", "description": "Items that the tenant already had."},
        first_cursor=CURSOR,
        last_cursor=CURSOR,
    ),
    "IngestedLeniently": shape(
        ("accepted", "duplicates", "first_cursor", "last_cursor", "rejected"),
        accepted={"type": "integer"},
        duplicates={"type": "integer", "description": "Items that the tenant already had."},
        first_cursor=CURSOR,
        last_cursor=CURSOR,
        rejected=listed(named("RefusedItem")),
        truncated={
            **listed(named("RefusedItem")),
            "description": "Items that are nested too deep or too "
            "large, and were stored without a part of their `data`.",
        },
    ),
    "RefusedItem": shape(
        ("index", "path", "reason"),
        index={"type": "integer", "minimum": 0},
        path={"type": "string", "description": "Empty: the item as a whole."},
        reason=TEXT,
    ),
}
