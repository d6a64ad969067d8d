"""What sign-in by a provider needs at the start."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.clock import SystemClock
from gateway.delivery.connect.lookup import Lookups
from gateway.errors import InvalidSetting
from gateway.people.setup import check_extra, sign_in_of
from gateway.settings.console import OidcSettings
from gateway.settings.load import load

ROOT = Path(__file__).parents[3]
NEEDED = """
[console.oidc]
issuer = "https://login.example"
client_id = "gateway"
[console.oidc.roles]
"audit.admins" = "key-admin, on-call"
"""


def settings(tmp_path: Path, text: str) -> OidcSettings:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return load(file, {}, {}).console.oidc


def test_groups_lead_to_roles(tmp_path: Path) -> None:
    assert settings(tmp_path, NEEDED).roles == {"audit.admins": "key-admin, on-call"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("https://login.example", "http://login.example"), "console.oidc.issuer"),
        (("https://login.example", "https://login.example/?a=b"), "console.oidc.issuer"),
        (("https://login.example", "https://a:b@login.example"), "console.oidc.issuer"),
        (('client_id = "gateway"', ""), "needs console.oidc.client_id"),
        (('"audit.admins" = "key-admin, on-call"', ""), "console.oidc.roles"),
        (("key-admin, on-call", "Key Admin"), "'Key Admin' is no name of a role"),
        (("key-admin, on-call", ""), "is no name of a role"),
        (("key-admin", ", ".join(f"r{number}" for number in range(16))), "16 roles"),
        (('issuer = "https://login.example"', ""), "is for console.oidc.issuer"),
        (('client_id', 'scopes = ["email"]\nclient_id'), "has to contain openid"),
    ],
)  # fmt: skip
def test_half_of_the_settings_is_refused_by_name(
    tmp_path: Path, change: tuple[str, str], named: str
) -> None:
    with pytest.raises(InvalidSetting, match=named):
        settings(tmp_path, NEEDED.replace(*change))


def test_the_provider_may_be_on_the_machine_itself(tmp_path: Path) -> None:
    text = NEEDED.replace("https://login.example", "http://localhost:8080/realms/main")
    assert settings(tmp_path, text).issuer == "http://localhost:8080/realms/main"


def test_without_the_extra_the_start_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(name: str) -> Any:
        return None if name == "joserfc" else find_spec(name)

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", found)
    with pytest.raises(InvalidSetting, match=r"install audit-gateway\[oidc\]"):
        check_extra()


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff"])
async def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    given = OidcSettings(issuer="https://login.example", client_secret_file=str(file))
    store, lookups = SqliteKeys(tmp_path / "keys.db"), Lookups()
    try:
        async with AsyncExitStack() as stack:
            with pytest.raises(InvalidSetting, match="client_secret_file"):
                sign_in_of(given, store, lambda: None, lookups, SystemClock(), stack)  # type: ignore[arg-type,return-value]
    finally:
        lookups.close()
        await store.close()


def test_nothing_of_the_extra_is_loaded_until_somebody_signs_in() -> None:
    script = "import sys, gateway.runtime.compose; assert 'joserfc' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
