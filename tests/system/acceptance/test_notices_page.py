"""deploy/notices.md: its commands and settings as printed, but for the address, key and wait."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import test_readme
from standardwebhooks import Webhook
from test_readme import ROOT, commands, refused, session

from tests.support.http_sink import HttpSink, http_sink
from tests.support.machine_time import patience
from tests.support.services.ports import free_port

clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "notices.md").read_text()


def events_of(sink: HttpSink, path: str, secret: str) -> list[dict[str, Any]]:
    """Events that arrived there; each request has to be signed."""
    found: list[dict[str, Any]] = []
    for request in sink.received:
        Webhook(secret).verify(request.body, dict(request.headers))
        if request.path == path:
            found += json.loads(request.body)
    return found


def arrives(events: Callable[[], list[dict[str, Any]]], action: str) -> None:
    deadline = time.monotonic() + patience(20)
    while action not in [one["action"] for one in events()]:
        assert time.monotonic() < deadline, events()
        time.sleep(0.05)


def test_the_commands_and_settings_of_the_page_bring_signed_notices(clean_copy: Path) -> None:
    [settings] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    file = clean_copy / "notices.toml"
    with http_sink() as sink, session(clean_copy) as user:
        for command in commands(PAGE):
            # With events, which it tells a line for curl of.
            told = user.run(command.replace("serve ", "serve --demo "))
            assert not refused(told), f"{command}\n{told}"
            if "keys create" in command:
                [key] = re.findall(r"alpk_(\w{12})_", told)
                settings = settings.replace("7kQ2mZ0aB1cD", key)
                settings = settings.replace("https://hooks.example.org", sink.url)
                settings = settings.replace('"60s"', '"1s"')
                file.write_text(f"{settings}\n[server]\nport = {free_port()}\n")
        secret = (clean_copy / "notices.secret").read_text()
        assert [one["action"] for one in events_of(sink, "/audit", secret)] == ["destination.test"]
        other = user.run(
            "audit-gateway keys create --name other --purpose p --owner o --config notices.toml "
            """--grant '{"actions":["stream"],"categories":["auth"]}'"""
        )
        [gone] = re.findall(r"alpk_(\w{12})_", other)
        user.run(f"audit-gateway keys revoke {gone} --config notices.toml --reason over")
        arrives(lambda: events_of(sink, "/audit", secret), "key.revoked")
        assert events_of(sink, "/audit/urgent", secret) == []
        user.run("audit-gateway keys break-glass --config notices.toml --reason 'no provider'")
        arrives(lambda: events_of(sink, "/audit/urgent", secret), "anomaly.break_glass")
