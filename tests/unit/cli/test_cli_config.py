from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.config import config
from gateway.settings.load import example, reference


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("AUDIT_GATEWAY_"):
            monkeypatch.delenv(name)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(config, arguments)


def test_check_of_the_defaults_prints_ok_alone() -> None:
    result = run("check")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok\n", "")


def test_check_says_where_each_value_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[server]\nport = 9090\n[stream]\nheartbeat = "20s"\nping = "30s"\n')
    monkeypatch.setenv("AUDIT_GATEWAY_STREAM__PING", "40s")
    monkeypatch.setenv("AUDIT_GATEWAY_SERVER__ALLOWED_ORIGINS", "https://a.example,")
    result = run("check", "--config", str(file))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "ok",
        f"server.port = 9090  ({file}:2)",
        f'stream.heartbeat = "20s"  ({file}:4)',
        'stream.ping = "40s"  (environment variable AUDIT_GATEWAY_STREAM__PING)',
        'server.allowed_origins = ["https://a.example"]  '
        "(environment variable AUDIT_GATEWAY_SERVER__ALLOWED_ORIGINS)",
    ]


def test_check_never_prints_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_GATEWAY_STORE__URL", "sqlite:///x://u:hunter2@log.db")
    result = run("check")
    assert result.exit_code == 0
    assert "u:***@log.db" in result.stdout
    monkeypatch.setenv("AUDIT_GATEWAY_STORE__URL", "mysql://u:hunter2@db/log")
    refused = run("check")
    assert refused.exit_code == 2
    assert "hunter2" not in result.output + refused.output


def test_check_of_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[server]\nprot = 9090\n")
    result = run("check", "--config", str(file))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: server.prot: there is no such setting ({file}:2); did you mean server.port?\n"
    )


def test_check_of_a_missing_file_is_exit_code_2(tmp_path: Path) -> None:
    result = run("check", "--config", str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1


def test_example_and_reference_are_printed_as_generated() -> None:
    assert run("example").stdout == example()
    assert run("reference").stdout == reference()


def test_check_loads_the_certificate(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'[server.tls]\ncertificate = "{file}"\nkey = "{file}"\n')
    result = run("check", "--config", str(file))
    assert result.exit_code == 2
    assert result.stderr == f"error: server.tls.certificate: {file} holds no certificate in PEM\n"
