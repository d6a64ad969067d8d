"""Kubernetes audit events: ids, kinds of users, addresses, and what is no object.

Source: Kubernetes documentation, "kube-apiserver Audit Configuration (v1)".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from gateway.ingest.mapping.identity import marked
from gateway.ingest.mapping.values import inner, text, urn

_USERS = {
    "system:serviceaccount:": "service_account",
    "system:node:": "node",
    "system:anonymous": "anonymous",
    "system:": "system",
}


def stage_id(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Id of one stage of a request, marked with the content.

    A client may choose the audit id (header `Audit-ID`): without the mark it could repeat the id of
    an earlier request.
    """
    own = text(record.get("auditID"))
    if own is None:
        return None
    return marked(f"{own}:{text(record.get('stage')) or 'unknown'}", record)


def peer(record: dict[str, Any], options: Mapping[str, str]) -> Any:
    """Address of the connection's peer: the last one, since a client can write all others."""
    addresses = record.get("sourceIPs")
    return addresses[-1] if isinstance(addresses, list) and addresses else None


def kind_of_user(record: dict[str, Any], options: Mapping[str, str]) -> str | None:
    """Kind of the user, by the name that the cluster gives."""
    name = text(inner(record, "user", "username"))
    return None if name is None else _kind_of(name)


@lru_cache(maxsize=4096)
def _kind_of(name: str) -> str:
    return next((kind for prefix, kind in _USERS.items() if name.startswith(prefix)), "user")


def url_target(record: dict[str, Any], options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The address of a request that names no object, without its query."""
    if text(inner(record, "objectRef", "resource")):
        return
    address = text(record.get("requestURI"), 4096)
    if address is not None:
        path = address.partition("?")[0].strip("/")
        cluster = options.get("cluster") or "cluster"
        yield {
            "urn": urn("k8s", cluster, "url", *path.split("/")),
            "type": "url",
            "name": "/" + path,
        }
