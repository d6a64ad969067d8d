"""deploy/notices.md: its commands and settings as printed, but for the address, key and wait."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import test_readme
from standardwebhooks import Webhook
from test_readme import ROOT, commands, refused, session

from tests.support.machine_time import patience
from tests.support.services.ports import free_port

clean_copy = test_readme.clean_copy
PAGE = (ROOT / "deploy" / "notices.md").read_text()


class Hooks:
    """Requests that a receiver of webhooks was sent: path, headers and body."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[tuple[str, dict[str, str], bytes]] = []

    def events(self, path: str, secret: str) -> list[dict[str, Any]]:
        """Events that arrived there; each request has to be signed."""
        found: list[dict[str, Any]] = []
        for target, headers, body in self.received:
            Webhook(secret).verify(body, headers)
            if target == path:
                found += json.loads(body)
        return found


@contextmanager
def receiving() -> Iterator[Hooks]:
    hooks = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            hooks.received.append((self.path, headers, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        hooks.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hooks
        finally:
            server.shutdown()
            thread.join()


def test_the_commands_and_settings_of_the_page_bring_signed_notices(clean_copy: Path) -> None:
    [settings] = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    file = clean_copy / "notices.toml"
    with receiving() as hooks, session(clean_copy) as user:
        for command in commands(PAGE):
            # With events, which it tells a line for curl of.
            told = user.run(command.replace("serve ", "serve --demo "))
            assert not refused(told), f"{command}\n{told}"
            if "keys create" in command:
                [key] = re.findall(r"alpk_(\w{12})_", told)
                settings = settings.replace("7kQ2mZ0aB1cD", key)
                settings = settings.replace("https://hooks.example.org", hooks.url)
                settings = settings.replace('"60s"', '"1s"')
                file.write_text(f"{settings}\n[server]\nport = {free_port()}\n")
        secret = (clean_copy / "notices.secret").read_text()
        assert [one["action"] for one in hooks.events("/audit", secret)] == ["destination.test"]
        other = user.run(
            "audit-gateway keys create --name other --purpose p --owner o --config notices.toml "
            """--grant '{"actions":["stream"],"categories":["auth"]}'"""
        )
        [gone] = re.findall(r"alpk_(\w{12})_", other)
        user.run(f"audit-gateway keys revoke {gone} --config notices.toml --reason over")
        deadline = time.monotonic() + patience(20)
        while "key.revoked" not in [one["action"] for one in hooks.events("/audit", secret)]:
            assert time.monotonic() < deadline, hooks.received
            time.sleep(0.05)
        assert hooks.events("/audit/urgent", secret) == []
