"""Calls of the HTTP interface, each made once: a change must not happen twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from gateway import errors
from gateway.client.protocol.exchange import (
    GatewayCall,
    Head,
    Open,
    Steps,
    TryAgain,
    WholeAnswer,
    read_once,
)
from gateway.client.sync import Client

REASON_HEADER = "Audit-Reason"
Members = dict[str, Any]
_ERRORS: dict[int, type[errors.GatewayError]] = {500: errors.GatewayError}
for _error in errors.GatewayError.__subclasses__():
    _ERRORS.setdefault(_error.status, _error)
# Those of what stands between: a proxy whose gateway is away.
_ERRORS.update({502: errors.Unavailable, 504: errors.Unavailable})


class GatewayCalls:
    """Calls of one gateway with one key. Errors are those that its own parts would raise."""

    def __init__(self, url: str, key: str, ca: str | None = None) -> None:
        self._client = Client(url, key, ca=ca)

    @property
    def url(self) -> str:
        return self._client.url

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Members:
        """Members of an answer."""
        return self._members(self._answer(GatewayCall("GET", path, params=params)))

    def get_bytes(
        self, path: str, params: Mapping[str, Any] | None = None, accept: str = "application/json"
    ) -> bytes:
        """Answer as it was sent, in a media type."""
        return self._answer(GatewayCall("GET", path, params=params, accept=accept)).body

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        reason: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Members:
        """Make a change; members of its answer, none if it is empty. `reason` is recorded with the
        use of the key."""
        said = {REASON_HEADER: quote(reason, safe=" ")} if reason else {}
        call = GatewayCall(method, path, json=body, headers={**said, **(headers or {})})
        answer = self._answer(call)
        return self._members(answer) if answer.body else {}

    def _answer(self, call: GatewayCall) -> WholeAnswer:
        try:
            answer = self._client.run(_once(self.url, call))
        except TryAgain as failure:
            unknown = call.method != "GET"
            more = "; whether it was done is not known: look before you repeat it"
            raise errors.Unavailable(
                f"{self.url}: {failure}{more if unknown else ''}", code="unreachable"
            ) from None
        if answer.status >= 300:
            raise self._error(answer)
        return answer

    def _members(self, answer: WholeAnswer) -> Members:
        try:
            return msgspec.json.decode(answer.body, type=Members)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise errors.GatewayError(
                f"{self.url} did not answer as a gateway does; is it the address of one?",
                code="no_gateway",
            ) from None

    def _error(self, answer: WholeAnswer) -> errors.GatewayError:
        problem = answer.members
        detail, code = problem.get("detail"), problem.get("code")
        kind = _ERRORS.get(answer.status, errors.GatewayError)
        if not isinstance(detail, str) or not isinstance(code, str):
            return kind(f"{self.url} answered {answer.status}, and no reason that a gateway gives")
        return kind(detail, code=code)


def path_of(*parts: str) -> str:
    """Path of the interface, with what is in its parts quoted."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _once(url: str, call: GatewayCall) -> Steps[Any, WholeAnswer]:
    head: Head = yield Open(call)
    return (yield from read_once(url, head))
