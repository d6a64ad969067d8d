"""OpenAPI 3.1 document of the HTTP interface, derived from the table of routes."""

from __future__ import annotations

from collections.abc import Iterable

from gateway import __version__
from gateway.http.openapi.parts import content, headers
from gateway.http.openapi.route import Route
from gateway.http.openapi.schemas import SCHEMAS, Schema, named

_PROBLEMS = {
    400: "The request makes no sense; nothing was done.",
    401: "No key, or none that is known or still valid.",
    403: "The key does not allow this; `code` is the reason.",
    404: "No such thing, or none that the key may see.",
    406: "None of the media types in `Accept` can be produced.",
    408: "The body did not arrive in time.",
    409: "The request contradicts what is there.",
    410: "The cursor's events are not here (any more); `earliest` and `latest` are cursors "
    "that work.",
    412: "What is to be changed was changed meanwhile; `etag` is what it has.",
    413: "The body, or the number of events in it, is too large.",
    415: "The type or encoding of the body is not supported.",
    422: "Items are refused, each named in `errors`; nothing was stored.",
    431: "URL and headers are too large together.",
    428: "`If-Match` is missing: say what the change is meant for.",
    429: "Too much at once; try again after `Retry-After` seconds.",
    503: "Try again after `Retry-After` seconds.",
}
_LIMIT_HEADERS = {
    "Retry_After": "Whole seconds to wait.",
    "RateLimit_Limit": "What fits at once, where the answer is about a rate. Where the requests "
    "of a key are limited, all answers have these headers.",
    "RateLimit_Remaining": "What is left of it.",
    "RateLimit_Reset": "Seconds until all of it is there again.",
    "RateLimit_Policy": "The limit, and the seconds in which as much comes back.",
}
_PROBLEM_SCHEMAS = {410: "GoneProblem", 422: "EventsProblem"}


def document(routes: Iterable[Route]) -> Schema:
    """OpenAPI document of the routes."""
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.documented_path, {})[route.method.lower()] = route.operation()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Audit log gateway",
            "version": __version__,
            "description": "Live, least-privilege audit event streams. The header `Audit-Reason` "
            "of a change says why, percent-encoded; it stands in the record of the use.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name} for name in ("events", "keys", "delivery", "console", "operation")],
        "security": [{"key": []}, {"basic": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "alpk_<kid>_<secret>",
                    "description": "`Authorization: Bearer <key>`; `token <key>` works as well. "
                    "A key never goes into a URL.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-audit-session",
                    "description": "The console's session, for its own pages: changes need "
                    "`X-Audit-CSRF`, too. Without TLS, on the machine itself, it has no prefix.",
                },
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The key as password, with any user name: over TLS, or from the "
                    "machine itself, unless `server.basic` is `always`.",
                },
            },
            "responses": {
                f"Problem{status}": {
                    "description": about,
                    **({"headers": headers(**_LIMIT_HEADERS)} if status == 429 else {}),
                    **content(
                        named(_PROBLEM_SCHEMAS.get(status, "Problem")), "application/problem+json"
                    ),
                }
                for status, about in _PROBLEMS.items()
            },
            "schemas": SCHEMAS,
        },
    }
