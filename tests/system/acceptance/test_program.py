"""The program from outside: what it prints, how it starts, how it refuses to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.support.gateway_process import GatewayProcess, environment, run_program
from tests.support.machine_time import patience

_KEY = re.compile(r"alpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
_COMMANDS = ("serve", "keys", "import", "log", "tail", "config")
_SLOW_TO_IMPORT = {
    "aiohttp", "redis", "asyncpg", "apsw", "msgspec", "rich", "asyncio", "prometheus_client",
    "httpx",
}  # fmt: skip


def printed_key(text: str) -> str:
    """The one key in a greeting: it may stand in more than one line."""
    keys: set[str] = set(_KEY.findall(text))
    [key] = keys
    return key


def run_printed_curl(process: GatewayProcess, events: int) -> list[str]:
    """The data of the first events that the printed curl line shows, run as it stands; without
    the gateway's own records, which come whenever they are ready."""
    [line] = [line for line in process.said if "curl " in line]
    curl = subprocess.Popen(
        ["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    assert curl.stdout is not None
    shown: list[str] = []
    with curl:
        for raw in curl.stdout:
            if raw.startswith(b"data: ") and b'"category":"gateway.' not in raw:
                shown.append(raw[6:].decode())
            if len(shown) == events:
                break
        os.killpg(curl.pid, signal.SIGKILL)
    return shown


@pytest.mark.parametrize("command", [(), *((command,) for command in _COMMANDS)])
def test_help_loads_nothing_that_is_slow_to_load(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "gateway", *command, "--help"],
        env=environment(), capture_output=True, text=True, timeout=patience(30), check=True,
    )  # fmt: skip
    assert "Usage: " in done.stdout
    loaded = packages_loaded(done.stderr)
    assert "click" in loaded
    assert not loaded & _SLOW_TO_IMPORT


def test_only_commands_that_talk_to_a_gateway_load_the_http_client(tmp_path: Path) -> None:
    key, data = tmp_path / "key", ("--data", str(tmp_path / "data"))
    key.write_text("alpk_sample")
    grant = '{"actions":["stream"],"categories":["auth"],"tenants":["acme"]}'
    made = ("--name", "n", "--purpose", "p", "--grant", grant)
    for command, talks in (
        (("keys", "create", *made, *data), False),
        (("keys", "list", *data), False),
        (("config", "example"), False),
        (("tail", "--url", "http://127.0.0.1:1", "--key-file", str(key)), True),
    ):
        done = run_program(*command, settings={"PYTHONPROFILEIMPORTTIME": "1"})
        assert done.returncode == (5 if talks else 0), done.stderr
        assert ("httpx" in packages_loaded(done.stderr)) == talks, command


def packages_loaded(log: str) -> set[str]:
    """The packages that a program tells of, which is told to tell what it imports."""
    lines = [line for line in log.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_the_first_scrape_loads_the_library_of_the_metrics(tmp_path: Path) -> None:
    settings = {"PYTHONPROFILEIMPORTTIME": "1"}
    with GatewayProcess(tmp_path / "data", settings=settings) as gateway:
        loaded = packages_loaded(gateway.errors)
        assert "aiohttp" in loaded
        assert "prometheus_client" not in loaded
        with urlopen(f"{gateway.url}/metrics", timeout=patience()) as answer:
            assert answer.status == 200
        assert "prometheus_client" in packages_loaded(gateway.errors)


def test_a_first_key_that_goes_to_a_file_is_in_no_log_and_a_curl_line_shows_events(
    tmp_path: Path,
) -> None:
    left = tmp_path / "my data" / "first-admin-key"
    left.parent.mkdir()
    left.touch(0o644)
    to_a_file = {"AUDIT_GATEWAY_KEYS__FIRST_KEY": "file"}
    with GatewayProcess(tmp_path / "my data", settings=to_a_file, shows_key=True) as process:
        key = left.read_text().strip()
        assert _KEY.fullmatch(key)
        assert left.stat().st_mode & 0o777 == 0o600
        assert not _KEY.search("\n".join(process.said) + process.errors)
        sent = {"category": "test", "action": "test.seen", "reason": 'it\'s "quoted"'}
        process.post([sent], key)
        # The making of the key is recorded meanwhile.
        shown = run_printed_curl(process, events=2)
        assert '"action":"test.seen"' in "".join(shown)


def test_first_start_prints_a_key_and_a_curl_line_that_shows_events(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data", executed=True) as process:
        key = printed_key("\n".join(process.said))
        assert process.first_key == key
        assert not (tmp_path / "data" / "first-admin-key").exists()
        process.post([{"category": "test", "action": "test.seen"}], key)
        shown = run_printed_curl(process, events=2)
        assert '"action":"test.seen"' in "".join(shown)


def test_the_first_key_is_shown_once(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data") as process:
        first = process.first_key
        assert _KEY.fullmatch(first)
    with GatewayProcess(tmp_path / "data", executed=True) as process:
        process.post([{"category": "test", "action": "test.again"}], first)
        said = "\n".join(process.said) + process.stop()
    assert not _KEY.search(said)
    assert "admin key" not in said
    assert first not in process.errors


def test_demo_prints_a_fresh_reading_key_at_every_start_and_shows_events(tmp_path: Path) -> None:
    keys = []
    with GatewayProcess(tmp_path / "data", "--demo") as process:
        # The admin key of the first start stands beside it.
        [line] = [line for line in process.said if "curl " in line]
        keys += _KEY.findall(line)
        assert keys[0] != process.first_key
        assert len(run_printed_curl(process, events=10)) == 10
    with GatewayProcess(tmp_path / "data", "--demo") as process:
        keys.append(printed_key("\n".join(process.said)))
        assert len(run_printed_curl(process, events=10)) == 10
        status, problem = process.ask("GET", "/v1/keys", keys[1])
        assert (status, problem["code"]) == (403, "action_not_granted")
    assert keys[0] != keys[1]


@pytest.mark.parametrize("source", ["environment", "file"])
def test_an_unknown_setting_stops_the_start_with_one_line(tmp_path: Path, source: str) -> None:
    settings, options = {}, []
    if source == "environment":
        settings["AUDIT_GATEWAY_SERVER__PROT"] = "1"
    else:
        (tmp_path / "config.toml").write_text("[server]\nprot = 1\n")
        options = ["--config", "config.toml"]
    done = run_program("serve", *options, cwd=tmp_path, settings=settings, executed=True)
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert "port" in line
    assert not (tmp_path / "audit-data").exists()


def test_a_second_gateway_on_the_same_folder_is_refused_with_one_line(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data") as process:
        done = run_program("serve", "--data", str(tmp_path / "data"), "--port", "0")
        assert done.returncode == 5
        [line] = done.stderr.splitlines()
        assert str(process.pid) in line


def test_a_port_in_use_is_refused_with_one_line(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data") as process:
        other = ["--data", str(tmp_path / "other"), "--port", str(process.port)]
        done = run_program("serve", *other)
        assert done.returncode != 0
        [line] = done.stderr.splitlines()
        assert f":{process.port}" in line
        assert "--port" in line


def test_a_start_that_fails_shows_no_key_and_the_next_one_does(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with GatewayProcess(tmp_path / "other") as blocking:
        done = run_program("serve", "--data", str(data), "--port", str(blocking.port))
        assert not _KEY.search(done.stdout)
    with GatewayProcess(data, shows_key=True) as process:
        assert process.first_key


@pytest.fixture
def heeds_hang_ups() -> Iterator[None]:
    """Programs that are started heed SIGHUP, also where the tests themselves run with `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeds_hang_ups")
def test_the_end_of_its_terminal_ends_the_streams_with_their_cursors(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data", executed=True) as gateway:
        path = f"{gateway.url}/v1/stream?from=start&category=auth"
        headers = {"Authorization": f"Bearer {gateway.first_key}", "Accept": "application/x-ndjson"}
        gateway.post([{"category": "auth", "action": "user.login"}], gateway.first_key)
        with urlopen(Request(path, headers=headers), timeout=patience(30)) as stream:
            assert b"user.login" in stream.readline()
            os.kill(gateway.pid, signal.SIGHUP)
            assert b'"reason":"restart"' in stream.readlines()[-1]
        assert gateway.ended() == 0
        gateway.kill()


def test_every_ipv6_interface_is_every_ipv4_interface_too(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path / "data", "--host", "::") as gateway:
        for host in ("127.0.0.1", "[::1]"):
            with urlopen(f"http://{host}:{gateway.port}/healthz", timeout=patience(30)) as answer:
                assert answer.status == 200
        key = gateway.make_key(
            {"actions": ["pull"], "categories": ["**"], "when": {"cidr": ["127.0.0.0/8"]}}
        )
        request = Request(f"http://127.0.0.1:{gateway.port}/v1/events",
                          headers={"Authorization": f"Bearer {key}"})  # fmt: skip
        with urlopen(request, timeout=patience(30)) as answer:
            assert answer.status == 200, "the address of a client over IPv4 is one of IPv4"
