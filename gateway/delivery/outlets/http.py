"""Destinations of the type `http`: requests with a batch of events as body, signed if wanted.

The one type for which a 2xx is a success whatever is in the answer, as no protocol says more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.delivery.connect.transport import RemoteAnswer
from gateway.delivery.connect.webhook_signature import (
    message_id,
    signature_headers,
    signing_key,
)
from gateway.delivery.outlets.http_outlet import (
    HttpOutlet,
    authorization,
    check_header_name,
    check_headers,
    check_user,
)
from gateway.delivery.outlets.http_status import result_of_status, verdict_of
from gateway.delivery.outlets.outlet import (
    Confirmation,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutletLimits,
)
from gateway.delivery.outlets.outlet_plan import (
    EventFormat,
    OutletKind,
    OutletPlan,
    invalid_setting,
)
from gateway.errors import InvalidRequest

_TYPES = {
    "ndjson": "application/x-ndjson",
    "json_array": "application/json",
    "cloudevents_batch": "application/cloudevents-batch+json",
    "cloudevents": "application/cloudevents+json",
}
_TEXT = "text/plain; charset=utf-8"
_BYTES = 1 << 20
# Receivers that speak no other protocol say in these, too, that they do not like the content.
_OF_CONTENT = (400, 409, 413, 415, 422)


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how events are posted. With `user` the secret `password` is sent along as Basic
    credentials; the secret `token` is sent as Bearer, or alone in the header `token_header`."""

    url: str
    body: Literal["ndjson", "json_array", "cloudevents_batch", "cloudevents"] = "ndjson"
    headers: dict[str, str] = {}
    user: str = ""
    token_header: str = ""


def check(settings: HttpSettings, format: EventFormat) -> None:
    """Raise `InvalidRequest` for settings that do not go together."""
    check_headers(settings.headers)
    if settings.token_header:
        check_header_name("token_header", settings.token_header)
    check_user(settings.user)
    if settings.body.startswith("cloudevents") and format.name != "cloudevents":
        raise invalid_setting("body", f'{settings.body} needs "format":"cloudevents"')
    if settings.body == "json_array" and not format.json:
        raise invalid_setting("body", f"{format.name} is no JSON; take ndjson")


def judge(answer: RemoteAnswer) -> DeliveryVerdict:
    """Verdict of an answer."""
    if answer.status == 410:
        return verdict_of(answer, DeliveryResult.CONFIG)._replace(gone=True)
    return verdict_of(answer, result_of_status(answer.status, _OF_CONTENT))


class WebhookOutlet(HttpOutlet):
    """Outlet of the type `http`."""

    confirmation: Confirmation = "received"

    def __init__(self, plan: OutletPlan) -> None:
        super().__init__(plan)
        self.verbatim = plan.verbatim
        self._settings: HttpSettings = plan.settings
        single = self._settings.body == "cloudevents"
        self.limits = OutletLimits(1 if single else 500, _BYTES, _BYTES)
        lines = self._settings.body == "ndjson" and not plan.format.json
        self._type = _TEXT if lines else _TYPES[self._settings.body]

    def body_of(self, batch: Sequence[EncodedEvent]) -> bytes:
        parts = [encoded.body for encoded in batch]
        if self._settings.body == "ndjson":
            return b"\n".join([*parts, b""])
        if self._settings.body == "cloudevents":
            return parts[0]
        return b"[%b]" % b",".join(parts)

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        settings, body = self._settings, self.staged_body(batch)
        signing = self.plan.secrets("signing")
        try:
            keys = [signing_key(secret) for secret in signing]
        except InvalidRequest as error:
            return DeliveryVerdict(DeliveryResult.CONFIG, kind="secret", message=error.detail)
        headers = {**settings.headers, "Content-Type": self._type, **self._credentials()}
        if keys:
            message = message_id([encoded.outbound.members.delivery_id for encoded in batch])
            headers |= signature_headers(keys, message, self.plan.clock.now(), body.plain)
        secrets = [*signing, self.secret("token"), self.secret("password")]
        return await self.attempt(settings.url, body, headers, judge, secrets)

    def _credentials(self) -> dict[str, str]:
        settings, token = self._settings, self.secret("token")
        if settings.token_header and token:
            return {settings.token_header: token}
        return authorization(settings.user, self.secret("password"), token)


HTTP = OutletKind(
    HttpSettings,
    WebhookOutlet,
    check,
    secrets=("token", "password", "signing"),
    format=lambda settings: "cloudevents" if settings.body.startswith("cloudevents") else "native",
)
