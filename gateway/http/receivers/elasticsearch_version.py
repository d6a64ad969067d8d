"""What clients of Elasticsearch ask for before they send anything."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway import __version__
from gateway.http.response.accept import best_kind

# Clients send nothing to what does not call itself so.
PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
_OF_PEOPLE = ("text/plain", "text/html")
_KINDS = (*_OF_PEOPLE, "application/json", "application/vnd.elasticsearch+json")
# Whose bulk interface is taken. Clients refuse others than they know, and another tagline.
VERSION: dict[str, Any] = {
    "name": "audit-gateway",
    "cluster_name": "audit-gateway",
    "cluster_uuid": "audit-gateway",
    "version": {
        "number": "8.19.0",
        "build_flavor": "default",
        "build_type": "audit-gateway",
        "build_hash": "unknown",
        "build_date": "2025-07-23T00:00:00Z",
        "build_snapshot": False,
        "lucene_version": "9.12.2",
        "minimum_wire_compatibility_version": "7.17.0",
        "minimum_index_compatibility_version": "7.0.0",
    },
    "tagline": "You Know, for Search",
    "audit_gateway": f"{__version__}, which takes _bulk and is no Elasticsearch",
}


def asks_for_version(request: web.Request) -> bool:
    """Whether a program asks, and not a person: programs name JSON, or accept nothing by name."""
    return "Accept" not in request.headers or best_kind(request, _KINDS) not in _OF_PEOPLE
