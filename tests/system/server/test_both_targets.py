"""Administrative commands on the folder of a gateway and over its HTTP interface: one output, one
JSON and one exit code for each."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from click.testing import CliRunner
from gateways import Gateway

from gateway.access.grants.grant import parse_grant
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import new_key
from gateway.cli.main import cli
from gateway.errors import GatewayError

GRANT = '{"actions":["stream","pull"],"categories":["auth.*"],"tenants":["acme"]}'
WIDE = '{"actions":["pull"],"categories":["**"]}'
# What differs by the moment of a call, and by what another name is given to.
MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?|\d{4}-\d\d-\d\d")
TOKEN = re.compile(r"alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
TOOK = re.compile(r'(?<=\bin )\d+(?= ms)|(?<="took_ms": )\d+|(?<="seconds": )[\d.]+')
CURSOR = re.compile(r"[0-9a-z]{10}-\d{20}")


class Done(NamedTuple):
    """Output, error output and exit code of a command."""

    output: str
    errors: str
    status: int


@pytest.fixture
def gateway(gateway_of_module: Gateway) -> Gateway:
    return gateway_of_module


class Both:
    """Runs a command on the folder of a gateway, and over its interface."""

    def __init__(self, gateway: Gateway, profile: Path) -> None:
        folder = str(gateway.context.settings.data)
        self.targets = {
            "folder": ["--data", folder], "http": ["--profile", "here"],
        }  # fmt: skip
        profile.write_text(
            f'[here]\nurl = "{gateway.url}"\nkey_command = ["echo", "{gateway.admin}"]\n'
        )
        profile.chmod(0o600)

    async def run(self, target: str, *arguments: str, typed: str = "") -> Done:
        command = [*arguments, *self.targets[target]]
        done = await asyncio.to_thread(
            CliRunner().invoke, cli, command, input=typed, standalone_mode=False
        )
        if isinstance(done.exception, GatewayError):
            return Done(done.stdout, done.exception.detail, done.exception.exit_code)
        if isinstance(done.exception, SystemExit):
            return Done(done.stdout, done.stderr, done.exit_code)
        assert done.exception is None, done.exception
        return Done(done.stdout, done.stderr, 0)


@pytest.fixture
def both(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    profiles = tmp_path / "profiles.toml"
    monkeypatch.setenv("AUDIT_GATEWAY_PROFILES", str(profiles))
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    return Both(gateway, profiles)
