"""`audit-gateway status`, `findings` and `streams`."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner
from gateways import Gateway, ShiftedClock, Start

from gateway.cli.base.operator import this_operator
from gateway.cli.main import cli
from gateway.errors import GatewayError
from gateway.oversight.detection.signals import Signal


class Shell:
    """The command line beside a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.over_http = ("--url", gateway.url)
        self.on_folder = ("--data", str(gateway.context.settings.data))

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code, and what was printed or refused."""
        done = await asyncio.to_thread(
            CliRunner().invoke, cli, list(arguments), standalone_mode=False
        )
        if isinstance(done.exception, GatewayError):
            return done.exception.exit_code, f"{done.stdout}{done.exception.code}"
        if not isinstance(done.exception, SystemExit | None):
            raise done.exception
        return done.exit_code, done.stdout


@pytest.fixture
def shell(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", gateway.admin)
    return Shell(gateway)


async def test_a_gateway_that_delivers_is_healthy(gateway: Gateway, shell: Shell) -> None:
    await gateway.send_many(3)
    code, screen = await shell.run("status", *shell.over_http)
    assert code == 0
    assert screen.startswith("Delivery is healthy")
    assert "3 events" not in screen.splitlines()[0]
    code, shown = await shell.run("status", "--json", *shell.over_http)
    assert (code, json.loads(shown)["delivery"]) == (0, "ok")


async def test_one_that_does_not_deliver_ends_with_1_and_says_what_to_do(
    start: Start, shifted: ShiftedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await start(clock=shifted)
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", gateway.admin)
    shell = Shell(gateway)
    monkeypatch.setattr(type(gateway.context.canary), "behind", 9.0)
    code, screen = await shell.run("status", *shell.over_http)
    assert code == 1
    assert screen.startswith("Delivery is stalled")
    assert "  ! canary_behind: " in screen
    assert "see whether the store can be read" in screen


async def test_a_folder_says_what_is_known_without_its_processes(
    gateway: Gateway, shell: Shell
) -> None:
    await gateway.send_many(3)
    code, screen = await shell.run("status", *shell.on_folder)
    assert code == 0
    assert screen.startswith("No gateway was asked")
    assert "sqlite, takes events" in screen
    _, shown = await shell.run("status", "--json", *shell.on_folder)
    _, asked = await shell.run("status", "--json", *shell.over_http)
    known, whole = json.loads(shown), json.loads(asked)
    assert known.keys() == whole.keys()
    assert (known["delivery"], known["streams"]) == (None, None)
    assert known["log"].keys() == whole["log"].keys()


async def test_a_gateway_that_is_away_is_told_by_its_exit_code(shell: Shell) -> None:
    assert await shell.run("status", "--url", "http://127.0.0.1:9") == (5, "unreachable")


async def test_watching_goes_on_while_the_gateway_is_away(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("gateway.cli.operation.status.time.sleep", pause)
    code, _ = await shell.run("status", "--watch", "--url", "http://127.0.0.1:9")
    assert (code, len(looks)) == (5, 3)


async def found(gateway: Gateway, **of: str) -> str:
    """Id of a new finding."""
    signal = Signal("probing", gateway.context.clock.now(), 2, {"values": ["a\x1b[2J"]}, **of)
    finding = await gateway.context.detector.findings.add(signal, "", "" if of else "10.1.2.3")
    assert finding is not None
    return finding.id


async def test_findings_are_listed_shown_expected_and_reopened_on_both(
    gateway: Gateway, shell: Shell
) -> None:
    finding = await found(gateway)
    for target in (shell.over_http, shell.on_folder):
        for command in (("list", "--state", "open"), ("show", finding)):
            code, screen = await shell.run("findings", *command, *target)
            assert code == 0
            assert finding in screen
            assert "\x1b" not in screen
        _, shown = await shell.run("findings", "expect", finding, "--reason", "scan", *target)
        assert shown == f"finding {finding} is expected\n"
        assert (await shell.run("findings", "list", "--state", "open", *target))[1] == (
            "no findings\n"
        )
        _, shown = await shell.run("findings", "show", finding, "--json", *target)
        assert (json.loads(shown)["state"], json.loads(shown)["reason"]) == ("expected", "scan")
        _, shown = await shell.run("findings", "reopen", finding, "--json", *target)
        assert json.loads(shown)["state"] == "open"
        assert await shell.run("findings", "show", "none", *target) == (4, "unknown_finding")
        assert await shell.run("findings", "expect", "none", *target) == (4, "unknown_finding")
    lists = [
        json.loads((await shell.run("findings", "list", "--json", *target))[1])
        for target in (shell.over_http, shell.on_folder)
    ]
    assert lists[0] == lists[1]


async def test_nobody_judges_what_they_have_done_at_the_command_line(
    gateway: Gateway, shell: Shell
) -> None:
    finding = await found(gateway, operator=this_operator().person)
    assert await shell.run("findings", "expect", finding, *shell.on_folder) == (3, "own_case")


async def test_streams_are_listed_and_ended_with_a_reason(gateway: Gateway, shell: Shell) -> None:
    url, headers = f"{gateway.url}/v1/stream", {"Authorization": f"Bearer {gateway.admin}"}
    async with gateway.session.ws_connect(url, headers=headers):
        await gateway.streams_become(1)
        code, screen = await shell.run("streams", "list", *shell.over_http)
        assert (code, "websocket" in screen) == (0, True)
        _, shown = await shell.run("streams", "list", "--json", *shell.over_http)
        [stream] = json.loads(shown)["streams"]
        code, screen = await shell.run(
            "streams", "end", stream["id"], "--reason", "idle", *shell.over_http
        )
        assert (code, screen.startswith(f"stream {stream['id']} of key ")) == (0, True)
        await gateway.streams_become(0)
    code, screen = await shell.run("streams", "list", *shell.over_http)
    assert screen == "no streams\n"
    assert await shell.run("streams", "list", *shell.on_folder) == (2, "needs_gateway")
    assert (await shell.run("streams", "end", "none", *shell.over_http))[0] == 4
