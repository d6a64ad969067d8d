"""Destinations of the type `loki`: log lines of Grafana Loki.

The time of a line is that of recording, which grows with the log, where the time of the event may
be days old and be refused as too far behind. Loki drops what it has already, by labels, time and
line: repeats change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.outlets.http_outlet import HttpOutlet, authorization, check_user
from gateway.delivery.outlets.http_status import (
    not_as_prescribed,
    result_of_status,
    verdict_of,
)
from gateway.delivery.outlets.outlet import (
    Confirmation,
    DeliveryVerdict,
    EncodedEvent,
    OutboundMembers,
    OutletLimits,
)
from gateway.delivery.outlets.outlet_plan import (
    EventFormat,
    OutletKind,
    OutletPlan,
    invalid_setting,
)

_PATH = "/loki/api/v1/push"
# What Loki takes by default, without escapes.
_LINE_BYTES = 256 << 10
_ORGANIZATION = re.compile(r"[A-Za-z0-9!_.*'()|-]{0,150}", re.ASCII)
_encode = msgspec.json.Encoder().encode


class LokiSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where lines are pushed to. `organization` is the tenant of Loki, in the header
    `X-Scope-OrgID`, and `service_name` a label of all lines. With `user` the secret `password` is
    sent as Basic credentials; the secret `token` is sent as Bearer."""

    url: str
    organization: str = ""
    service_name: str = "audit-gateway"
    user: str = ""


def check(settings: LokiSettings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that do not go together."""
    if "?" in settings.url:
        raise invalid_setting("url", "leave out the ? and what follows")
    if not _ORGANIZATION.fullmatch(settings.organization):
        raise invalid_setting("organization", "at most 150 letters, digits and !-_.*'()|")
    if not 0 < len(settings.service_name) <= 256:
        raise invalid_setting("service_name", "1 to 256 characters")
    check_user(settings.user)


def judge(answer: RemoteAnswer) -> DeliveryVerdict:
    """Verdict of an answer. Of a batch that is refused, Loki has stored the good lines."""
    if 200 <= answer.status < 300 and answer.status != 204:
        return not_as_prescribed(answer)
    return verdict_of(answer, result_of_status(answer.status))


class LokiOutlet(HttpOutlet):
    """Outlet of the type `loki`. The part of a body for one event is its line, as that is what
    Loki limits."""

    confirmation: Confirmation = "stored"
    limits = OutletLimits(1000, 1 << 20, _LINE_BYTES)

    def __init__(self, plan: OutletPlan) -> None:
        super().__init__(plan)
        self.verbatim = plan.verbatim
        self._settings: LokiSettings = plan.settings
        self._url = self._settings.url.rstrip("/") + _PATH

    def body_of(self, batch: Sequence[EncodedEvent]) -> bytes:
        return pushed(batch, self._settings.service_name)

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        settings, password, token = self._settings, self.secret("password"), self.secret("token")
        headers = {"Content-Type": "application/json"}
        headers |= authorization(settings.user, password, token)
        if settings.organization:
            headers["X-Scope-OrgID"] = settings.organization
        body = self.staged_body(batch)
        return await self.attempt(self._url, body, headers, judge, (password, token))


def pushed(batch: Sequence[EncodedEvent], service_name: str) -> bytes:
    """Body of a push. Only what has few values is a label, as each combination is a stream."""
    streams: dict[tuple[str, str], list[bytes]] = {}
    for encoded in batch:
        members = encoded.outbound.members
        streams.setdefault((members.tenant, members.category), []).append(_entry(encoded, members))
    parts = [
        b'{"stream":%b,"values":[%b]}'
        % (
            _encode({"service_name": service_name, "tenant": tenant, "category": category}),
            b",".join(entries),
        )
        for (tenant, category), entries in streams.items()
    ]
    return b'{"streams":[%b]}' % b",".join(parts)


def _entry(encoded: EncodedEvent, members: OutboundMembers) -> bytes:
    """Time in nanoseconds, as text, line and what is told of it beside."""
    beside = {
        "event_id": members.id,
        "action": members.action,
        "outcome": members.outcome,
        "severity": str(members.severity),
        "time": members.time,
    }
    recorded_at = encoded.outbound.recorded_at()
    return _encode((f"{recorded_at}000", encoded.body.decode(), beside))


LOKI = OutletKind(LokiSettings, LokiOutlet, check, secrets=("token", "password"))
