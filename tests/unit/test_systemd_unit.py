from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.cli.keys.changes import rotate
from gateway.clock import parse_duration
from gateway.errors import InvalidSetting
from gateway.settings.declarations import Settings

ROTATION = Path(__file__).parents[2] / "deploy" / "audit-gateway-rotate@.service"
UNIT = Path(__file__).parents[2] / "deploy" / "audit-gateway.service"
PROGRAM = "/usr/local/bin/audit-gateway"
DATA = "/var/lib/audit-gateway"

SWITCHES = {
    "DynamicUser",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateTmp",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
}

Sections = dict[str, dict[str, list[str]]]


def parsed(text: str) -> Sections:
    """systemd.syntax(7), without continued lines: sections of keys that may repeat."""
    sections: Sections = {}
    keys: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            assert line.endswith("]")
            keys = sections.setdefault(line[1:-1], {})
        elif line and not line.startswith(("#", ";")):
            key, separator, value = line.partition("=")
            assert separator, line
            assert sections, line
            keys.setdefault(key, []).append(value)
    return sections


@pytest.fixture
def service() -> dict[str, list[str]]:
    return parsed(UNIT.read_text(encoding="utf-8"))["Service"]


def test_the_unit_starts_with_the_system_and_serves_the_state_folder(
    service: dict[str, list[str]],
) -> None:
    sections = parsed(UNIT.read_text(encoding="utf-8"))
    assert set(sections) == {"Unit", "Service", "Install"}
    assert sections["Install"]["WantedBy"] == ["multi-user.target"]
    assert service["ExecStart"] == [
        f"{PROGRAM} serve --config /etc/audit-gateway/config.toml --data {DATA}"
    ]
    assert [f"/var/lib/{name}" for name in service["StateDirectory"]] == [DATA]
    assert service["StateDirectoryMode"] == ["0700"]


def test_a_graceful_stop_has_more_time_than_the_drain_takes(
    service: dict[str, list[str]],
) -> None:
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["KillMode"] == ["mixed"]
    assert parse_duration(service["TimeoutStopSec"][0]) > Settings().server.drain_timeout + 5


def test_there_are_file_descriptors_for_all_streams(service: dict[str, list[str]]) -> None:
    assert int(service["LimitNOFILE"][0]) >= Settings().stream.max_streams + 2000


def test_a_wrong_setting_is_not_tried_again(service: dict[str, list[str]]) -> None:
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == [str(InvalidSetting.exit_code)]


def test_the_service_runs_without_privileges(service: dict[str, list[str]]) -> None:
    assert service["User"] == ["audit-gateway"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["UMask"] == ["0077"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["RestrictAddressFamilies"] == ["AF_INET AF_INET6 AF_UNIX"]
    assert service["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert {key for key, value in service.items() if value == ["yes"]} >= SWITCHES


def test_the_timer_of_rotations_runs_the_program_before_an_hour_is_over() -> None:
    timer = parsed(ROTATION.with_suffix(".timer").read_text(encoding="utf-8"))
    assert timer["Timer"]["OnCalendar"] == ["*:0/15"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]
    rotation = parsed(ROTATION.read_text(encoding="utf-8"))["Service"]
    assert rotation["Type"] == ["oneshot"]
    [command] = rotation["ExecStart"]
    words = command.split()
    assert words[:4] == [PROGRAM, "keys", "rotate", "${KEY_ID}"]
    options = {name for one in rotate.params for name in one.opts}
    assert {one for one in words if one.startswith("--")} <= options


def test_systemd_knows_every_line_of_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` where there is one; it warns about unknown keys and exits with 0."""
    text = UNIT.read_text(encoding="utf-8")
    assert PROGRAM in text
    analyze = shutil.which("systemd-analyze")
    if analyze is not None:
        copy = tmp_path / UNIT.name
        copy.write_text(text.replace(PROGRAM, "/bin/true"), encoding="utf-8")
        run = subprocess.run(
            [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60
        )
        complaints = [line for line in run.stderr.splitlines() if UNIT.name in line]
        assert (run.returncode, complaints) == (0, [])
