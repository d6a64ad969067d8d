"""Sign-in of people as the settings say it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.access.credentials.pepper import Peppers
from gateway.access.keys.key_store import KeysAndRoles
from gateway.clock import Clock
from gateway.delivery.connect.addresses import AddressRule
from gateway.delivery.connect.http_client import ClientOptions, HttpClient
from gateway.delivery.connect.lookup import ConnectRule, Lookups
from gateway.errors import InvalidSetting
from gateway.people.provider import Provider
from gateway.people.sign_in import SignIn
from gateway.settings.console import OidcSettings

_CONNECT_SECONDS, _REQUEST_SECONDS = 3.0, 10.0


def sign_in_of(
    settings: OidcSettings,
    store: KeysAndRoles,
    peppers: Callable[[], Peppers],
    lookups: Lookups,
    clock: Clock,
    stack: AsyncExitStack,
) -> SignIn | None:
    """Sign-in by the provider of the settings; None if there is none. Nothing is asked of it yet,
    as the gateway starts without it. Raises `InvalidSetting`."""
    if not settings.issuer:
        return None
    check_extra()
    secret = _secret(settings.client_secret_file)
    # Whoever writes the settings administers the machine.
    rule = ConnectRule(AddressRule(configured=True))
    options = ClientOptions(
        rule, connect_timeout=_CONNECT_SECONDS, request_timeout=_REQUEST_SECONDS
    )
    client = HttpClient(options, lookups, clock)
    stack.push_async_callback(client.close)
    return SignIn(settings, Provider(settings, secret, client, clock), store, peppers, clock)


def check_extra() -> None:
    """Raise unless the library for tokens is installed; it is loaded by the first sign-in."""
    from importlib.util import find_spec

    if find_spec("joserfc") is None:
        raise InvalidSetting(
            "console.oidc.issuer: needs the package joserfc: install audit-gateway[oidc]",
            setting="console.oidc.issuer",
        )


def _secret(path: str) -> str:
    if not path:
        return ""
    try:
        secret = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        secret = ""
    else:
        why = "it is empty"
    if not secret:
        raise InvalidSetting(
            f"console.oidc.client_secret_file: {path} cannot be used: {why}",
            setting="console.oidc.client_secret_file",
        )
    return secret
