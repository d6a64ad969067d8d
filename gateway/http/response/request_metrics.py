"""Counts and durations of the requests of one process, by labels with closed sets of values."""

from __future__ import annotations

from collections import Counter
from functools import cache

from aiohttp import web

from gateway.histogram import Histogram

KINDS = ("ingest", "page", "look", "stream", "keys", "review", "console", "other")
# 101 counts as a success.
STATUSES = ("2xx", "3xx", "4xx", "5xx")
OTHER = "other"
# Codes of answers with status 401, 403, 410 and 429.
REFUSALS = (
    "missing_key", "missing_session", "session_ended", "csrf_refused", "host_not_named",
    "sign_in_needs_tls", "sign_in_unknown", "sign_in_used", "oidc_refused", "no_group",
    "person_kept_out", "invalid_key", "invalid_ticket", "key_revoked", "key_expired",
    "key_suspended",
    "key_unreadable", "not_granted", "action_not_granted", "denied_by_grant", "role_unreadable",
    "unknown_time_zone", "outside_hours", "address_not_allowed", "events_not_granted",
    "exceeds_own_grants", "foreign_pseudonym_domain", "exceeds_own_limits", "own_case",
    "maker_ended", "basic_needs_tls", "origin_not_allowed", "cursor_expired", "cursor_unknown",
    "rate_limited", "key_throttled", "quota_exhausted", "filter_share_used_up",
    "too_many_connections", "too_many_streams", "too_many_bytes_in_flight", "busy",
    "beyond_lookback", "hidden_by_mask", "viewer_ended", "not_for_viewers", "outside_ticket",
    "not_for_people",
    OTHER,
)  # fmt: skip
_REFUSED = (401, 403, 410, 429)
_VERSION = "/1.0"
_EMBEDDED = "/embed"
_INGESTS = ("/v1/ingest/", "/v1/logs", "/services/collector", "/{index}/_bulk", "/_bulk")
_NOT_VALID = (400, 413, 415, 422)
_KINDS = {
    "POST /v1/events": "ingest",
    "GET /v1/events": "page",
    "GET /v1/events/{id}": "page",
    "GET /v1/counts": "look",
    "GET /v1/stream": "stream",
    "POST /v1/stream": "stream",
}
# With what people sign in, and what becomes of it.
BY_KEY, BY_OIDC, BY_BREAK_GLASS = "key", "oidc", "break_glass"
SIGNED_IN, REFUSED = "success", "refused"
SIGN_INS = tuple(
    (kind, result)
    for kind in (BY_KEY, BY_OIDC, BY_BREAK_GLASS)
    for result in (SIGNED_IN, REFUSED)
    # Whether a wrong key is for an emergency is not known.
    if (kind, result) != (BY_BREAK_GLASS, REFUSED)
)
# The routes by which a sign-in is refused.
_SIGN_INS = {"POST /v1/session": BY_KEY, "GET /v1/session/oidc/callback": BY_OIDC}
_CONSOLE = ("/console/", "/v1/session", "/v1/views", "/v1/viewer/", _EMBEDDED)
_REVIEWS = ("/document", "/history", "/usage", "/expected", "/findings", "/explain", "/simulate")
_KEYS = ("/v1/keys", "/v1/roles", "/v1/tickets")


class RequestMetrics:
    """Requests of one process since its start."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str]] = Counter()
        self.refusals: Counter[str] = Counter()
        self.seconds = {kind: Histogram() for kind in KINDS}
        # Events sent, and refused requests to send some.
        self.sign_ins: Counter[tuple[str, str]] = Counter()
        self.accepted = self.duplicates = self.invalid = self.refused_ingests = 0

    def observe(
        self, route: str, status: int, refused_with: str, seconds: float, times: int = 1
    ) -> None:
        """Count answers by the seconds until they began; `route` is "" if there is none."""
        labels, kind = _labels(route, status)
        self.answers[labels] += times
        self.seconds[kind].observe(seconds, times)
        if status >= 400 and route in _SIGN_INS:
            self.sign_ins[_SIGN_INS[route], REFUSED] += times
        if status >= 400:
            self.refuse(route, status, refused_with, times)

    def refuse(self, route: str, status: int, refused_with: str, times: int = 1) -> None:
        """Count refusals, also of requests whose answers have begun."""
        if status in _REFUSED:
            self.refusals[refused_with if refused_with in REFUSALS else OTHER] += times
        elif status in _NOT_VALID and _labels(route, status)[1] == "ingest":
            self.refused_ingests += times


def route_of(request: web.Request) -> str:
    """Method and path template of the route; "" if there is none."""
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical}" if resource is not None else ""


@cache
def _labels(route: str, status: int) -> tuple[tuple[str, str], str]:
    """Path and class of status of an answer, and the kind of its request."""
    path = route.partition(" ")[2]
    return (counted_as(path) or OTHER, STATUSES[max(status // 100 - 2, 0)]), _kind(route, path)


def counted_as(path: str) -> str:
    """Path that a route is counted under: of HEC the one with a version under that without, and
    the page of viewers without a name of it."""
    return _EMBEDDED if path.startswith(_EMBEDDED) else path.removesuffix(_VERSION)


def _kind(route: str, path: str) -> str:
    if path.endswith(_REVIEWS):
        return "review"
    if path.startswith(_CONSOLE):
        return "console"
    if path.startswith(_INGESTS) and not route.startswith("GET "):
        return "ingest"
    return _KINDS.get(route) or ("keys" if path.startswith(_KEYS) else "other")
