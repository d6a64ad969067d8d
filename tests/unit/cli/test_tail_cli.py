"""`audit-gateway tail` as it is run: what it asks for, prints, and ends with."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.cli import tail
from gateway.cli.base.terminal import width
from gateway.cli.main import main
from gateway.client.protocol import reading
from tests.support.exports import ROOT
from tests.support.stream_server import (
    COMPLETE,
    StreamServer,
    control,
    cursor,
    end,
    event,
    problem,
    running,
    stream,
)

Run = Callable[..., tuple[int, str, str]]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


_PROGRAM = "from gateway.cli.main import main; main()"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program against a server: `(exit code, standard output, standard error)`."""
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", "alpk_sample")

    def run(server: StreamServer, *arguments: str, host: str = "127.0.0.1") -> tuple[int, str, str]:
        with running(server, host) as url:
            program = ["audit-gateway", "tail", "--url", url, *arguments]
            monkeypatch.setattr(sys, "argv", program)
            with pytest.raises(SystemExit) as ended:
                main()
        output, said = capsys.readouterr()
        return int(ended.value.code or 0), output, said

    return run


def test_that_nothing_selected_can_match_is_printed_beside_the_events(run: Run) -> None:
    said = control("notice", code="nothing_selected_can_match", parameter="tenant")
    code, output, errors = run(StreamServer(stream(said, event(1), COMPLETE)))
    assert (code, output.count("\n")) == (0, 1)
    assert "notice: code nothing_selected_can_match, parameter tenant" in errors


def test_events_are_printed_one_per_line(run: Run) -> None:
    code, output, said = run(StreamServer(stream(event(1), event(2, outcome="denied"), COMPLETE)))
    assert code == 0, said
    assert output.splitlines() == [
        "2026-01-15 08:00:00.250Z info     success acme auth user.login",
        "2026-01-15 08:00:00.250Z info     denied  acme auth user.login",
    ]
    assert said == ""


def test_each_option_becomes_its_parameter(run: Run) -> None:
    server = StreamServer(stream(COMPLETE))
    run(
        server,
        *("--tenant", "a", "--tenant", "b", "--category", "auth.*", "--action", "user.login"),
        *("--outcome", "denied", "--actor", "u-1", "--resource", "k8s:prod/**"),
        *("--min-severity", "3", "--filter", "severity > 3", "--after", cursor(7)),
        *("--limit", "5", "--no-follow"),
    )
    assert server.requests == [
        {
            "tenant": ["a", "b"],
            "category": ["auth.*"],
            "action": ["user.login"],
            "outcome": ["denied"],
            "actor": ["u-1"],
            "resource": ["k8s:prod/**"],
            "min_severity": ["3"],
            "filter": ["severity > 3"],
            "after": [cursor(7)],
            "limit": ["5"],
            "follow": ["false"],
        }
    ]
    for option in (["--since", "15m"], ["--from", "start"], []):
        server = StreamServer(stream(COMPLETE))
        run(server, *option)
        assert server.requests == [{option[0][2:]: [option[1]]} if option else {}]


def test_json_is_printed_as_it_came_and_nothing_else(run: Run) -> None:
    line = event(1, data={"n": 1.5, "text": "\u00e4\x1b[2J"})
    server = StreamServer(stream(line, cut=True), stream(COMPLETE))
    code, output, said = run(server, "--json")
    assert code == 0
    assert output.encode() == line
    assert "trying again" in said


def test_json_has_no_characters_that_a_terminal_obeys(run: Run) -> None:
    raw = '{"cursor":"c","reason":"\x9b31m\u202e"}\n'
    output = run(StreamServer(stream(raw.encode(), COMPLETE)), "--json")[1]
    assert output == '{"cursor":"c","reason":"\\u009b31m\\u202e"}\n'
    assert json.loads(output) == json.loads(raw)


def test_nothing_is_printed_twice_over_a_torn_connection(run: Run) -> None:
    server = StreamServer(
        stream(event(1), event(2)[:30], cut=True), stream(event(1), event(2), COMPLETE)
    )
    output = run(server, "--json")[1]
    assert [json.loads(line)["id"] for line in output.splitlines()] == ["e1", "e2"]


@pytest.mark.parametrize(
    ("answer", "status", "hint"),
    [
        (problem(401, detail="no such key"), 3, "no such key"),
        (problem(403, detail="not granted"), 3, "not granted"),
        (problem(400, detail="unknown parameter"), 2, "unknown parameter"),
        (problem(410, detail="gone", earliest="e-1", latest="e-9"), 1, "earliest e-1"),
        (problem(429, "7", detail="too many"), 5, "gave up after 1 tries: too many"),
        (stream(end(4501, "key_revoked", reconnect=False)), 3, "key_revoked (4501)"),
    ],
)
def test_an_end_that_is_final_says_why_and_has_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: Any, status: int, hint: str
) -> None:
    monkeypatch.setattr(reading, "MAX_FIRST_TRIES", 1)
    code, output, said = run(StreamServer(answer))
    assert (code, output) == (status, "")
    assert said.startswith("error: ")
    assert hint in said
    assert said.count("\n") == 1
    assert "alpk_sample" not in said


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_gateway_is_reached_by_an_ipv6_address(run: Run) -> None:
    server = StreamServer(stream(event(1), COMPLETE))
    code, output, said = run(server, host="::1")
    assert (code, output.count("\n"), said) == (0, 1, "")
    assert server.headers[0]["Host"].startswith("[::1]:")


def test_proxies_of_the_environment_get_neither_the_key_nor_the_events(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = StreamServer()
    with running(proxy) as url:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, url)
        code, output, said = run(StreamServer(stream(event(1), COMPLETE)))
    assert (code, output.count("\n"), said) == (0, 1, "")
    assert proxy.requests == []


def test_a_redirect_is_not_followed_with_the_key(run: Run) -> None:
    elsewhere = StreamServer(stream(event(1), COMPLETE))
    with running(elsewhere) as url:

        async def redirect(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{url}/v1/stream")

        code, output, said = run(StreamServer(redirect))
    assert (code, output, elsewhere.requests) == (2, "", [])
    assert "answered 307" in said


def test_what_a_gateway_says_gives_the_terminal_no_orders(run: Run) -> None:
    hostile = end(1001, "\x1b[2J\rall is well", reconnect=True)
    said = run(StreamServer(stream(hostile), stream(COMPLETE)))[2]
    assert "\\u001b[2J\\u000dall is well" in said


def test_a_gateway_that_is_away_ends_with_5(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(StreamServer()) as url:
        pass
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", "alpk_sample")
    monkeypatch.setattr(sys, "argv", ["audit-gateway", "tail", "--url", url])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 5
    assert "is the gateway running?" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def goes_on(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(event(1))
        while True:
            await asyncio.sleep(0.01)
            await response.write(control("bookmark", cursor=cursor(1)))

    sync = tail.Printed.sync

    def synced(printed: tail.Printed) -> None:
        sync(printed)
        monkeypatch.setattr(tail.Printed, "sync", sync)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(tail.Printed, "sync", synced)
    # Shells start what runs in the background without it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, output, said = run(StreamServer(goes_on))
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert len(output.splitlines()) == 1
    assert f"go on with --after {cursor(1)}" in said


def test_a_reader_that_has_seen_enough_ends_the_program_quietly() -> None:
    """As in `tail | head -1`."""
    many = [event(number) for number in range(5000)]
    with (
        running(StreamServer(stream(*many, COMPLETE))) as url,
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, "tail", "--url", url],
            cwd=ROOT,
            env={"AUDIT_GATEWAY_KEY": "alpk_sample", "PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as program,
    ):
        assert program.stdout is not None
        assert program.stderr is not None
        assert b"user.login" in program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait(30) == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_colours_but_none_from_an_event(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    hostile = event(1, outcome="denied", reason="\x1b[5m[red]markup[/red] :smile: https://x")
    assert run(StreamServer(stream(hostile, COMPLETE)))[0] == 0
    shown = terminal.getvalue()
    assert "\x1b[1;31mdenied" in shown
    assert "\x1b[5m" not in shown
    assert "(\\u001b[5m[red]markup[/red] :smile: https://x)" in shown
    assert shown.count("\n") == 1


def test_an_event_takes_one_line_of_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "60")
    assert run(StreamServer(stream(event(1, reason="\u6f22" * 100), COMPLETE)))[0] == 0
    [line] = terminal.getvalue().splitlines()
    assert width(line) <= 60
    assert line.rstrip().endswith("\u2026")


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    tail.tail_command.main(["--help"], standalone_mode=False)
    assert "--from start --no-follow --json" in capsys.readouterr().out
