"""Settings of the console."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.settings.kinds import BOOLEAN, LIST, TABLE, TEXT, setting

# As many as a key may have.
_MOST_ROLES = 16


def check_issuer(url: str) -> str:
    """Empty, or an issuer of OpenID Connect: https, or http on the machine itself."""
    local = r"http://(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?"
    if url and not re.fullmatch(rf"(?:https://[^\s/?#@]+|{local})(?:/[^\s?#]*)?", url):
        raise ValueError(
            f"{url!r} is no issuer; write it as the provider does, such as "
            "https://login.example/realms/main, without a query"
        )
    return url


def check_group_roles(roles: Mapping[str, str]) -> Mapping[str, str]:
    """Names of roles by group; several are separated by commas."""
    named = {name for text in roles.values() for name in role_names(text)}
    for name in named:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,63}", name):
            raise ValueError(f"{name!r} is no name of a role")
    if len(named) > _MOST_ROLES:
        raise ValueError(f"a person may have {_MOST_ROLES} roles, and these are {len(named)}")
    return roles


def role_names(text: str) -> list[str]:
    """Names in a list of roles."""
    return [name.strip() for name in text.split(",")]


@dataclass(frozen=True)
class OidcSettings:
    """Sign-in to the console by an identity provider (OpenID Connect)."""

    issuer: str = setting(
        "",
        TEXT,
        "The provider, as it names itself; its discovery document is below it. Empty: people sign "
        "in with keys alone. Needs the extra oidc.",
        check=check_issuer,
    )
    client_id: str = setting("", TEXT, "The id of the gateway at the provider.")
    client_secret_file: str = setting(
        "",
        TEXT,
        "File with the secret of the gateway at the provider. Empty: it has none there.",
    )
    roles: Mapping[str, str] = setting(
        {},
        TABLE,
        'Roles of the members of each group, such as "audit-admins" = "key-admin, on-call". '
        "Whoever is in none of them has no access.",
        check=check_group_roles,
    )
    groups_claim: str = setting(
        "groups",
        TEXT,
        "The claim that lists the groups of a person; dots lead into objects.",
    )
    scopes: tuple[str, ...] = setting(
        ["openid", "email", "profile", "groups", "offline_access"],
        LIST,
        "The scopes to ask for; those that the provider does not list are left out.",
    )


@dataclass(frozen=True)
class ConsoleSettings:
    """Pages for people."""

    enabled: bool = setting(
        True,
        BOOLEAN,
        "Whether browsers get the console at /; signing in works at server.names and on the "
        "machine itself.",
    )
    oidc: OidcSettings = field(default_factory=OidcSettings)
