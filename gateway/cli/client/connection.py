"""HTTP client of a running gateway, and the errors of failed requests."""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec

from gateway import errors
from gateway.cli.client.options import DEFAULT_URL
from gateway.settings.kinds import masked

_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
# OpenSSL's codes for certificates of untrusted issuers.
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
_MAX_ANSWER_BYTES = 16 * 1024 * 1024


class TryAgain(Exception):
    """Failure that a retry may fix, after `seconds` if the gateway named them."""

    def __init__(self, cause: str, seconds: float | None = None) -> None:
        super().__init__(cause)
        self._seconds = seconds

    def pause(self, usual: float, most: float) -> float:
        """Seconds to wait: those named by the gateway, bounded and spread out, or else `usual`."""
        named = self._seconds
        return usual if named is None else min(most, named) + random.uniform(0, 1)


class GatewayConnection:
    """Connection to one gateway. No other server gets the key: redirects and the environment's
    proxies are not followed. `quiet_seconds`: longest silence of the gateway."""

    def __init__(self, url: str, key: str, accept: str, quiet_seconds: float) -> None:
        self.url = url
        self._was_reached = False
        address = _checked(url)
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if address.scheme == "https":
            # The system's certificates, or SSL_CERT_FILE: loading takes 20 ms.
            trust = ssl.create_default_context()
        self._client = httpx.Client(
            base_url=address,
            headers={
                "Authorization": f"Bearer {key}",
                "Accept": accept,
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(quiet_seconds, connect=10),
            verify=trust,
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def send(self, method: str, path: str, **content: Any) -> Iterator[httpx.Response]:
        """Send a request; read the answer within the context. Raises `TryAgain`, or `Unavailable`
        if no gateway was ever reached or the connection is insecure."""
        try:
            with self._client.stream(method, path, **content) as response:
                self._was_reached = True
                if response.status_code in _TRY_AGAIN:
                    said = answer_of(response).get("detail")
                    after = response.headers.get("Retry-After", "")
                    raise TryAgain(
                        str(said or f"{self.url} answered {response.status_code}"),
                        float(after) if after.isascii() and after.isdigit() else None,
                    )
                yield response
        except httpx.HTTPError as error:
            raise self._failure(error) from None

    def _failure(self, error: httpx.HTTPError) -> Exception:
        """Error for a missing or incomplete answer."""
        reason = str(error) or type(error).__name__
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLError):
            cause = cause.__context__
        if cause is not None and isinstance(error, httpx.ConnectError):
            if getattr(cause, "verify_code", 0) in _UNKNOWN_ISSUER:
                reason += "; if it is yours, name its CA in SSL_CERT_FILE"
            return errors.Unavailable(f"no secure connection to {self.url}: {reason}")
        if self._was_reached:
            return TryAgain(f"connection lost: {reason}")
        return errors.Unavailable(
            f"{self.url} cannot be reached: {reason}; is the gateway running?"
        )

    def error_of(self, status: int, problem: dict[str, Any]) -> errors.GatewayError:
        """Error for an answer that a retry would not change."""
        detail = problem.get("detail") or problem.get("title")
        said = str(detail) if detail else f"status {status}, no reason given"
        if status == 401:
            return errors.Unauthorized(f"{self.url} does not accept the key: {said}")
        if status == 403:
            return errors.Forbidden(f"the key does not allow this at {self.url}: {said}")
        if status == 410:
            places = f"earliest {problem.get('earliest')}, latest {problem.get('latest')}"
            return errors.CursorGone(f"{said} ({places})")
        return errors.InvalidRequest(f"{self.url} answered {status}: {said}")


def _checked(url: str) -> httpx.URL:
    """Address of a gateway, checked."""
    try:
        parts = httpx.URL(url)
        # As it is resolved: labels that are neither empty nor too long.
        host = parts.raw_host.decode().encode("idna")
        port = 80 if parts.port is None else parts.port
        usable = parts.scheme in ("http", "https") and host and 0 < port < 65536
    except (httpx.InvalidURL, UnicodeError):
        usable = False
    if not usable:
        raise errors.InvalidRequest(
            f"not the address of a gateway: {masked(url)!r}; write it like {DEFAULT_URL}"
        )
    if parts.userinfo:
        raise errors.InvalidRequest(
            "the address must not hold credentials; the key is sent as a header"
        )
    if "?" in url or "#" in url:
        raise errors.InvalidRequest("the address of a gateway has no ? or # part")
    return parts


def answer_of(response: httpx.Response) -> dict[str, Any]:
    """JSON object of an answer; empty if it holds none."""
    body = b""
    for part in response.iter_bytes():
        body += part
        if len(body) > _MAX_ANSWER_BYTES:
            break
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
