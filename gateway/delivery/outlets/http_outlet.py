"""What types of destinations that speak HTTP have in common."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.delivery.connect.transport import (
    HttpRequest,
    NoAnswer,
    RemoteAnswer,
    basic_credentials,
)
from gateway.delivery.outlets.http_status import verdict_of_failure
from gateway.delivery.outlets.outlet import (
    SUCCESS,
    Confirmation,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutletLimits,
)
from gateway.delivery.outlets.outlet_plan import OutletPlan, invalid_setting

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[\t -~]{0,1022}[!-~])?", re.ASCII)
# What the client, the type and the secrets say themselves.
_TAKEN = {
    "authorization", "connection", "content-encoding", "content-length", "content-type", "cookie",
    "expect", "host", "te", "trailer", "transfer-encoding", "upgrade", "accept-encoding",
    "webhook-id", "webhook-timestamp", "webhook-signature",
}  # fmt: skip


class RequestBody(NamedTuple):
    """Body of a request, and the same compressed, if that was begun."""

    plain: bytes
    packed: Awaitable[bytes] | None = None


class _Staged(NamedTuple):
    """Batch that is likely to be sent next, and its body."""

    batch: Sequence[EncodedEvent]
    body: RequestBody


class HttpOutlet:
    """Outlet that sends a batch in one request. Types say how, and judge the answer."""

    limits: OutletLimits
    confirmation: Confirmation
    verbatim = False

    def __init__(self, plan: OutletPlan) -> None:
        self.plan = plan
        self._transport = plan.http()
        self._staged: _Staged | None = None

    async def open(self) -> DeliveryVerdict:
        return SUCCESS

    def encode(self, outbound: OutboundEvent) -> bytes:
        return self.plan.formatted(outbound)

    def body_of(self, batch: Sequence[EncodedEvent]) -> bytes:
        """Body of a request with these events."""
        return b"".join([encoded.body for encoded in batch])

    def stage(self, batch: Sequence[EncodedEvent]) -> None:
        body = self.body_of(batch)
        packed = self._transport.pack(body) if self.plan.compress else None
        self._staged = _Staged(batch, RequestBody(body, packed))

    async def send(self, batch: Sequence[EncodedEvent]) -> DeliveryVerdict:
        raise NotImplementedError

    async def confirm(self, receipt: object) -> DeliveryVerdict:
        return SUCCESS

    async def test(self, encoded: EncodedEvent) -> DeliveryVerdict:
        return await self.send([encoded])

    async def close(self) -> None:
        self._staged = None
        await self._transport.close()

    def secret(self, name: str) -> str:
        """Newest value of a secret, or an empty text."""
        return next(iter(self.plan.secrets(name)), "")

    def staged_body(self, batch: Sequence[EncodedEvent]) -> RequestBody:
        """Body of a batch that is sent now, as it was staged if it was."""
        staged = self._staged
        if staged is not None and staged.batch is batch:
            self._staged = None
            return staged.body
        return RequestBody(self.body_of(batch))

    async def attempt(
        self,
        url: str,
        body: RequestBody,
        headers: Mapping[str, str],
        judge: Callable[[RemoteAnswer], DeliveryVerdict],
        secrets: Sequence[str] = (),
        compress: bool = True,
    ) -> DeliveryVerdict:
        """Send a request and judge what comes back. `compress`: whether the body may be."""
        compressed = compress and self.plan.compress
        request = HttpRequest(
            url, body.plain, headers, tuple(secrets), compressed, packed=body.packed
        )
        try:
            answer = await self._transport.request(request)
        except NoAnswer as failure:
            return verdict_of_failure(failure)
        return judge(answer)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise `InvalidRequest` for headers of the settings that cannot be sent."""
    if len(headers) > 32:
        raise invalid_setting("headers", "at most 32")
    for name, value in headers.items():
        check_header_name(f"headers.{name[:64]}", name)
        if not _VALUE.fullmatch(value):
            raise invalid_setting(
                f"headers.{name[:64]}", "1 to 1,024 printable ASCII characters are needed"
            )


def check_header_name(where: str, name: str) -> None:
    """Raise `InvalidRequest` for what is no header that settings may name."""
    if not _TOKEN.fullmatch(name):
        raise invalid_setting(where, "this is no name of a header")
    if name.lower() in _TAKEN or name.lower().startswith("proxy-"):
        raise invalid_setting(where, "the gateway sets it itself; credentials are secrets")


def check_user(user: str) -> None:
    """Raise `InvalidRequest` for a name that Basic cannot carry."""
    if ":" in user:
        raise invalid_setting("user", "user names of Basic have no colon")


def authorization(user: str, password: str, token: str) -> dict[str, str]:
    """Header `Authorization`: Basic with a password, else Bearer with a token."""
    if password:
        return {"Authorization": basic_credentials(user, password)}
    return {"Authorization": f"Bearer {token}"} if token else {}
