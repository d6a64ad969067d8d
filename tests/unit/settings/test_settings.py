"""Sources of settings, names, the file as such, and the generated documents."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InvalidSetting
from gateway.settings.declarations import DECLARED, Settings
from gateway.settings.load import example, load, reference
from gateway.settings.sources import env_name

ROOT = Path(__file__).parents[3]


def from_toml(folder: Path, text: str) -> Settings:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return load(file, {}, {})


def refused(
    config: Path | None = None,
    environ: dict[str, str] | None = None,
    flags: dict[str, object] | None = None,
) -> InvalidSetting:
    with pytest.raises(InvalidSetting) as caught:
        load(config, environ or {}, flags or {})
    assert "\n" not in caught.value.detail
    return caught.value


def refused_toml(folder: Path, text: str) -> InvalidSetting:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return refused(file)


def test_defaults_are_those_of_the_design() -> None:
    settings = load(None, {}, {})
    assert settings == Settings()
    assert settings.data == Path("audit-data")
    assert dataclasses.asdict(settings.server) == {
        "host": "127.0.0.1",
        "port": 8080,
        "workers": 1,
        "allowed_origins": (),
        "names": (),
        "trusted_proxies": (),
        "basic": "tls",
        "keepalive": 75,
        "body_timeout": 30,
        "max_connections": 0,
        "max_connections_per_address": 0,
        "max_head_bytes": 64 * 2**10,
        "max_unfinished_heads": 16 * 2**20,
        "drain_timeout": 10,
        "pepper_file": "",
        "pepper": "",
        "log_secret_file": "",
        "log_secret": "",
        "tls": {
            "certificate": "",
            "key": "",
            "client_ca": "",
            "minimum": "1.2",
            "required": False,
        },
    }
    assert dataclasses.asdict(settings.store) == {
        "url": "",
        "table": "",
        "columns": {},
        "table_mode": "prepared",
        "retention_age": 0,
        "retention_bytes": 0,
    }
    assert dataclasses.asdict(settings.ingest) == {
        "queue_events": 100_000,
        "queue_bytes": 64 * 2**20,
        "max_request_bytes": 8 * 2**20,
        "max_request_events": 10_000,
    }
    assert dataclasses.asdict(settings.stream) == {
        "heartbeat": 15,
        "ping": 20,
        "flush_ms": 25,
        "buffer_bytes": 128 * 2**10,
        "retry_ms": 2000,
        "max_streams": 20_000,
        "max_age": 0,
    }
    assert dataclasses.asdict(settings.keys) == {
        "first_key": "print",
        "default_life": 90 * 86400,
        "max_life": 90 * 86400,
        "max_overlap": 7 * 86400,
        "expiry_warnings": (30 * 86400, 14 * 86400, 7 * 86400, 86400),
    }
    assert dataclasses.asdict(settings.metrics) == {
        "host": "127.0.0.1", "port": 0, "require": "none",
    }  # fmt: skip
    assert dataclasses.asdict(settings.log) == {"level": "info", "format": "text"}


def test_settings_cannot_be_changed() -> None:
    settings = load(None, {}, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.server.port = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.data = Path()  # type: ignore[misc]


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[server]\nport = 1\nhost = "file"\nkeepalive = "1s"\n')
    environ = {"AUDIT_GATEWAY_SERVER__PORT": "2", "AUDIT_GATEWAY_SERVER__HOST": "env"}
    settings = load(file, environ, {"server.port": 3})
    server = settings.server
    assert (server.port, server.host, server.keepalive, server.body_timeout) == (3, "env", 1, 30)
    assert {path: one.origin for path, one in settings.given.items()} == {
        "server.port": "flag",
        "server.host": "environment variable AUDIT_GATEWAY_SERVER__HOST",
        "server.keepalive": f"{file}:4",
    }


def test_a_flag_that_is_none_is_not_given() -> None:
    settings = load(None, {"AUDIT_GATEWAY_LOG__LEVEL": "debug"}, {"log.level": None})
    assert settings.log.level == "debug"


@pytest.mark.parametrize("value", [9090, "9090"])
def test_flags_may_be_typed_or_text(value: object) -> None:
    assert load(None, {}, {"server.port": value}).server.port == 9090


def test_the_data_flag_may_be_a_path() -> None:
    assert load(None, {}, {"data": Path("/srv/audit")}).data == Path("/srv/audit")


def test_other_environment_variables_are_left_alone() -> None:
    assert load(None, {"PATH": "/bin", "AUDIT": "x", "AUDIT_GATEWAYS": "y"}, {}).given == {}


@pytest.mark.parametrize(
    ("path", "text", "held"),
    [
        ("data", "/srv/audit", Path("/srv/audit")),
        ("server.host", "::1", "::1"),
        ("server.port", "0", 0),
        ("server.allowed_origins", "https://A.example, http://[::1]:3000",
         ("https://a.example", "http://[::1]:3000")),
        ("server.allowed_origins", "", ()),
        ("server.keepalive", "1m30s", 90),
        ("store.url", "sqlite:////var/lib/log.db", "sqlite:////var/lib/log.db"),
        ("store.retention_age", "30d", 30 * 86400),
        ("store.retention_bytes", "10GiB", 10 * 2**30),
        ("ingest.queue_bytes", "134217728", 2**27),
        ("stream.buffer_bytes", "64KiB", 65536),
        ("stream.max_age", "24h", 86400),
        ("log.format", "json", "json"),
    ],
)  # fmt: skip
def test_environment_text_is_read_by_kind(path: str, text: str, held: object) -> None:
    settings: Any = load(None, {env_name(path): text}, {})
    for part in path.split("."):
        settings = getattr(settings, part)
    assert settings == held


def test_a_file_sets_every_kind(tmp_path: Path) -> None:
    settings = from_toml(
        tmp_path,
        'data = "d"\nserver = { port = 1, allowed_origins = ["https://a.example"] }\n'
        'store.retention_bytes = 5\n[ingest]\nqueue_bytes = "1GiB"\n[keys]\nmax_life = "100d"\n',
    )
    assert settings.data == Path("d")
    assert settings.server.port == 1
    assert settings.server.allowed_origins == ("https://a.example",)
    assert settings.store.retention_bytes == 5
    assert settings.ingest.queue_bytes == 2**30
    assert settings.keys.max_life == 100 * 86400


def test_a_file_may_begin_with_a_byte_order_mark_and_end_lines_with_crlf(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 1\r\n")
    settings = load(file, {}, {})
    assert settings.server.port == 1
    assert settings.given["server.port"].origin == f"{file}:2"


def test_an_empty_store_url_is_log_db_in_the_data_folder() -> None:
    assert load(None, {}, {"data": "/srv/audit"}).store_url == "sqlite:////srv/audit/log.db"
    assert load(None, {}, {"data": "there"}).store_url == "sqlite:///there/log.db"
    assert load(None, {}, {"store.url": "sqlite:///x.db"}).store_url == "sqlite:///x.db"


# Unknown names


def test_unknown_setting_names_path_file_line_and_nearest_valid_one(tmp_path: Path) -> None:
    error = refused_toml(tmp_path, "# a comment\n[server]\nprot = 80\n")
    assert error.detail == (
        f"server.prot: there is no such setting ({tmp_path}/config.toml:3); "
        "did you mean server.port?"
    )
    assert error.members == {
        "setting": "server.prot",
        "origin": f"{tmp_path}/config.toml:3",
        "nearest": "server.port",
    }
    assert error.exit_code == 2


def test_unknown_environment_variable_names_the_nearest_variable() -> None:
    error = refused(environ={"AUDIT_GATEWAY_SERVER__PROT": "80"})
    assert error.detail == (
        "server.prot: there is no such setting (environment variable AUDIT_GATEWAY_SERVER__PROT); "
        "did you mean server.port (AUDIT_GATEWAY_SERVER__PORT)?"
    )


def test_unknown_flag_names_the_nearest_setting() -> None:
    error = refused(flags={"server.prot": 80})
    assert error.detail == (
        "server.prot: there is no such setting (flag); did you mean server.port?"
    )


@pytest.mark.parametrize(
    ("text", "path", "nearest"),
    [
        ("[servr]\nport = 1\n", "servr", "server"),
        ("port = 1\n", "port", "server.port"),
        ("[server]\nprot = 1\n", "server.prot", "server.port"),
        ("[metrics]\nprot = 1\n", "metrics.prot", "metrics.port"),
        ("[stream]\nqueue_bytes = 1\n", "stream.queue_bytes", "ingest.queue_bytes"),
        ("[server.tls]\nkeys = 1\n", "server.tls.keys", "server.tls.key"),
        ('"od\\nd" = 1\n', "od\nd", None),
        ("[logging]\nlevel = 'info'\n", "logging", "log"),
    ],
)
def test_unknown_names_in_a_file(tmp_path: Path, text: str, path: str, nearest: str | None) -> None:
    members = refused_toml(tmp_path, text).members
    assert (members["setting"], members["nearest"]) == (path, nearest)


@pytest.mark.parametrize(
    "name",
    [
        "AUDIT_GATEWAY_SERVER_PORT",
        "AUDIT_GATEWAY_PORT",
        "AUDIT_GATEWAY_server__port",
        "AUDIT_GATEWAY_SERVER.PORT",
    ],
)
def test_variables_that_are_almost_right_are_refused(name: str) -> None:
    error = refused(environ={name: "1"})
    assert name in error.detail
    assert error.members["nearest"] == "server.port"


def test_a_section_is_no_variable() -> None:
    assert refused(environ={"AUDIT_GATEWAY_SERVER": "x"}).members["nearest"] != "server"


def test_variables_of_kubernetes_services_are_refused_with_the_way_out() -> None:
    error = refused(
        environ={
            "AUDIT_GATEWAY_SERVICE_HOST": "192.0.2.1",
            "AUDIT_GATEWAY_PORT": "tcp://192.0.2.1:80",
        }
    )
    assert "enableServiceLinks" in error.detail
    assert "enableServiceLinks" not in refused(environ={"AUDIT_GATEWAY_PORT": "80"}).detail


# The file as such


@pytest.mark.parametrize(
    ("text", "line"),
    [("[server]\nport =\n", 2), ("[server\n", 1), ("a = 1\na = 2\n", 2), ("\n\na = [1,", 3)],
)
def test_toml_syntax_errors_give_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    error = refused_toml(tmp_path, text)
    assert error.detail.startswith(f"{tmp_path}/config.toml:{line}: is not TOML: ")
    assert "at line" not in error.detail


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'[server]\nhost = "\xff"\n')
    assert refused(file).detail == f"{file}:2: is not UTF-8"


def test_a_number_too_long_to_parse_is_refused(tmp_path: Path) -> None:
    error = refused_toml(tmp_path, f"[server]\nport = 1{'0' * 5000}\n")
    assert "is not TOML" in error.detail


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.toml")
    assert error.detail == f"{tmp_path}/none.toml: cannot be read: No such file or directory"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("server.port = 70000", 1),
        ("[server]\n  'port'  =  70000", 2),
        ('[server]\n"port" = 70000 # [x]', 2),
        ("# port = 1\n\n[ server ]\n\nport=70000", 5),
        ("[log]\nlevel = 'info'\n\n[server] # port = 1\nport = 70000", 5),
        ("\nserver = { port = 70000 }", 2),
    ],
)
def test_the_line_is_found_however_the_setting_is_written(
    tmp_path: Path, text: str, line: int
) -> None:
    assert refused_toml(tmp_path, text).members["origin"] == f"{tmp_path}/config.toml:{line}"


# Generated documents


def test_the_example_file_holds_every_default(tmp_path: Path) -> None:
    text = example()
    assert from_toml(tmp_path, text) == Settings()
    assert load(tmp_path / "config.toml", {}, {}).given == {}
    opened = re.sub(r"^#(?=\S)", "", text, flags=re.MULTILINE)
    settings = from_toml(tmp_path, opened)
    assert settings == Settings()
    assert set(settings.given) == set(DECLARED)


def test_the_example_file_has_help_above_every_setting() -> None:
    lines = example().splitlines()
    for number, line in enumerate(lines):
        assert len(line) <= 100
        if re.match(r"#\w", line):
            assert lines[number - 1].startswith("# ")


def test_the_reference_has_a_row_for_every_setting() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(rows) == len(DECLARED)
    for (path, declared), row in zip(DECLARED.items(), rows, strict=True):
        cells = [cell.strip() for cell in row.split(" | ")]
        assert len(cells) == 6
        assert cells[0] == f"| `{path}`"
        assert cells[4] == f"`{env_name(path)}`"
        assert cells[5] == f"{declared.help} |"
    assert "| `server.port` | integer | `8080` | 0 to 65535 |" in rows[2]


def test_config_example_toml_is_current() -> None:
    assert (ROOT / "config.example.toml").read_text(encoding="utf-8") == example()


def test_deploy_settings_md_is_current() -> None:
    assert (ROOT / "deploy" / "settings.md").read_text(encoding="utf-8") == reference()


def test_the_example_file_is_toml() -> None:
    sections = set(tomllib.loads(example()))
    assert sections == {
        "server", "store", "redis", "ingest", "stream", "keys", "limits", "consumers", "record",
        "watch", "formats", "destinations", "metrics", "console", "log", "look", "traces",
    }  # fmt: skip


def test_importing_settings_loads_nothing_heavy() -> None:
    code = (
        "import sys, gateway.settings; "
        "heavy = {'asyncio', 'aiohttp', 'msgspec', 'tomllib', 'difflib', 'pathlib', 'json'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert run.stdout.strip() == "[]"
