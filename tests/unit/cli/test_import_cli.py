"""`audit-gateway import` as it is run: files in, exit code, counts and refused records out."""

from __future__ import annotations

import gzip
import io
import json
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.importing import importer as importing
from gateway.cli.importing.follower import Ended, PatientSink
from gateway.cli.importing.http_sink import HttpSink
from gateway.cli.main import main
from gateway.errors import Unavailable
from gateway.ingest.sink import SendResult
from tests.support.exports import ROOT, SAMPLE_EXPORTS, SAMPLES
from tests.support.ingest_server import KEY, IngestServer, running

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def server() -> Iterator[IngestServer]:
    with running() as server:
        yield server


def state_home(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-state")


@pytest.fixture
def refused_path(tmp_path: Path) -> Path:
    """Where refused records of imports over HTTP go."""
    return state_home(tmp_path) / "audit-gateway" / "refused.ndjson"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs the program in an empty folder: `(exit code, standard error)`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", KEY)
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home(tmp_path)))

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["audit-gateway", "import", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def native(*numbers: int) -> bytes:
    return b"".join(b'{"id":"%d","category":"c","action":"a"}\n' % n for n in numbers)


@pytest.mark.parametrize(("name", "path"), SAMPLE_EXPORTS, ids=lambda value: Path(value).name)
def test_a_sample_goes_in_whole_and_a_second_time_as_duplicates(
    run: Run, server: IngestServer, name: str, path: Path
) -> None:
    code, said = run("--format", name, "--url", server.url, path)
    count = len(server.stored)
    assert code == 0, said
    assert f"{count} records read: {count} accepted, 0 duplicates, 0 refused" in said
    code, said = run("--format", name, "--url", server.url, path)
    assert code == 0
    assert f"{count} records read: 0 accepted, {count} duplicates, 0 refused" in said
    assert list(Path().iterdir()) == []


def test_refused_records_are_kept_with_place_and_reason_and_the_rest_goes_in(
    run: Run, server: IngestServer, refused_path: Path
) -> None:
    Path("in.ndjson").write_bytes(
        native(1)
        + b'{"id":"2"}\n'
        + b"not json\n"
        + native(3)
        + b'[{"category":"c","action":"a b"},\r{"id":"5","category":"c","action":"a"}]\n'
    )
    code, said = run("--url", server.url, "in.ndjson")
    assert code == 1
    assert "6 records read: 3 accepted, 0 duplicates, 3 refused" in said
    assert "for example in.ndjson, line 3: not valid JSON" in said
    assert str(refused_path) in said
    assert [path.name for path in Path().iterdir()] == ["in.ndjson"]
    assert {name for _, name in server.stored} == {"1", "3", "5"}
    refused = refused_path
    assert stat.S_IMODE(refused.stat().st_mode) == 0o600
    kept = {
        (one["line"], one.get("item")): one
        for one in map(json.loads, refused.read_text().splitlines())
    }
    assert set(kept) == {(2, None), (3, None), (5, 1)}
    assert kept[2, None] == {
        "file": "in.ndjson",
        "line": 2,
        "path": "category",
        "reason": "required",
        "record": {"id": "2"},
    }
    assert kept[3, None]["record"] == "not json"
    assert kept[5, 1]["path"] == "action"


def test_a_record_of_another_source_is_refused_before_it_is_sent(
    run: Run, server: IngestServer
) -> None:
    Path("in.ndjson").write_bytes(b'{"eventType":"logout"}\n{"eventType":"user.session.end"}\n')
    code, _ = run("--format", "okta", "--url", server.url, "--refused", "no.ndjson", "in.ndjson")
    assert code == 1
    assert server.batches == [1]
    [refused] = map(json.loads, Path("no.ndjson").read_text().splitlines())
    assert (refused["line"], refused["path"]) == (1, "")
    assert "needs eventType" in refused["reason"]


def test_numbers_arrive_as_they_were(run: Run, server: IngestServer) -> None:
    Path("in.json").write_bytes(b'[{"eventType":"a.b",\n"n":1.00,"m":18446744073709551615}]')
    assert run("--format", "okta", "--url", server.url, "in.json")[0] == 0
    [draft] = server.stored.values()
    assert b'"n":1.00,"m":18446744073709551615' in draft.tail


def test_several_files_gzip_and_standard_input_go_in_together(
    run: Run, server: IngestServer, monkeypatch: pytest.MonkeyPatch, refused_path: Path
) -> None:
    Path("a.ndjson").write_bytes(native(1))
    Path("b.dat").write_bytes(gzip.compress(native(2, 3)))
    stdin = io.TextIOWrapper(io.BytesIO(native(4) + b"oops\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("--url", server.url, "a.ndjson", "b.dat", "-")[0] == 1
    assert len(server.stored) == 4
    [refused] = map(json.loads, refused_path.read_text().splitlines())
    assert (refused["file"], refused["line"]) == ("-", 2)


def test_batches_are_as_large_as_asked_for_and_bounded_in_bytes(
    run: Run, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.ndjson").write_bytes(native(*range(10)))
    assert run("--url", server.url, "--batch", 4, "in.ndjson")[0] == 0
    assert server.batches == [4, 4, 2]
    monkeypatch.setattr(importing, "MAX_BATCH_BYTES", 100)
    server.batches.clear()
    assert run("--url", server.url, "in.ndjson")[0] == 0
    assert server.batches == [2] * 5


def test_a_refused_record_is_sent_once_and_does_not_hold_up_later_batches(
    run: Run, server: IngestServer
) -> None:
    Path("in.ndjson").write_bytes(native(1) + b'{"id":"bad"}\n' + native(*range(2, 8)))
    code, said = run("--url", server.url, "--batch", 2, "in.ndjson")
    assert code == 1
    assert "8 records read: 7 accepted, 0 duplicates, 1 refused" in said
    assert server.batches == [2, 1, 2, 2, 2]


def test_the_tenant_is_set_where_records_name_none(run: Run, server: IngestServer) -> None:
    run("--format", "okta", "--tenant", "acme", "--url", server.url, SAMPLES / "okta.json")
    assert {tenant for tenant, _ in server.stored} == {"acme"}


def test_an_interrupt_says_how_to_go_on(
    run: Run, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = HttpSink.send

    def interrupted(sink: HttpSink, lines: list[bytes]) -> SendResult:
        if len(server.stored) >= 4:
            raise KeyboardInterrupt
        return send(sink, lines)

    monkeypatch.setattr(HttpSink, "send", interrupted)
    Path("in.ndjson").write_bytes(native(*range(10)))
    code, said = run("--url", server.url, "--batch", 2, "in.ndjson")
    assert code == 130
    assert "4 accepted" in said
    assert "Run the same command again" in said
    assert "Traceback" not in said


def test_a_key_that_is_refused_ends_with_3_and_is_never_shown(
    run: Run, server: IngestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("in.ndjson").write_bytes(native(1))
    Path("key").write_text("alpk_wrong\n")
    code, said = run("--url", server.url, "--key-file", "key", "in.ndjson")
    assert code == 3
    assert "no such key" in said
    assert "alpk_wrong" not in said
    monkeypatch.setenv("AUDIT_GATEWAY_KEY", "alpk_wrong")
    Path("key").write_text(f"\ufeff{KEY}\n")
    assert run("--url", server.url, "--key-file", "key", "in.ndjson")[0] == 0


def test_a_gateway_that_is_away_ends_with_5(run: Run) -> None:
    Path("in.ndjson").write_bytes(native(1))
    with running() as server:
        url = server.url
    code, said = run("--url", url, "in.ndjson")
    assert code == 5
    assert "is the gateway running?" in said


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["missing.ndjson"], "missing.ndjson"),
        (["--format", "sislog", "in.ndjson"], "syslog"),
        (["--url", "localhost", "in.ndjson"], "http://"),
        (["--data", "d", "--url", "http://127.0.0.1:1", "in.ndjson"], "leave out --url"),
        (["--refused", "in.ndjson", "in.ndjson"], "one of the files"),
        (["--refused", "no/such/folder/x", "in.ndjson"], "name another file with --refused"),
        (["--key-file", "missing", "in.ndjson"], "cannot be read"),
        (["--batch", "0", "in.ndjson"], "--batch"),
        (["--tenant", "Acme", "in.ndjson"], "a tenant is 1 to 64 of"),
        ([], "FILE"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_do(
    run: Run, arguments: list[str], hint: str
) -> None:
    Path("in.ndjson").write_bytes(b"refused\n")
    code, said = run(*arguments)
    assert code == 2
    assert hint in said
    assert Path("in.ndjson").read_bytes() == b"refused\n"


@pytest.mark.parametrize("key", [None, "", "two words", "na\u00efve"])
def test_without_a_usable_key_nothing_is_sent(
    run: Run, server: IngestServer, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    Path("in.ndjson").write_bytes(native(1))
    if key is None:
        monkeypatch.delenv("AUDIT_GATEWAY_KEY")
    else:
        monkeypatch.setenv("AUDIT_GATEWAY_KEY", key)
    code, said = run("--url", server.url, "in.ndjson")
    assert code == 2
    assert "AUDIT_GATEWAY_KEY" in said
    assert server.paths == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--url", ""), "not the address of a gateway: ''"),
        (("--url", "http://[::1"), "not the address of a gateway"),
        (("--url", "ftp://me:s3cret@host"), "not the address of a gateway: 'ftp://me:***@host'"),
        (("--data", ""), "it is empty; name a folder"),
        (("--key-file", "/dev/zero"), "is not a key"),
    ],
)
def test_arguments_that_came_out_empty_or_odd_name_nothing(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "in.ndjson").write_bytes(b"{}")
    status, errors = run(*arguments, "in.ndjson")
    assert (status, "s3cret" in errors) == (2, False)
    assert said in errors
    assert [path.name for path in tmp_path.iterdir()] == ["in.ndjson"]


def test_refused_records_are_private_and_follow_no_link(
    run: Run, server: IngestServer, tmp_path: Path, refused_path: Path
) -> None:
    (tmp_path / "in.ndjson").write_bytes(b"no json")
    refused = refused_path
    refused.parent.mkdir(parents=True)
    refused.write_text("of an earlier version")
    refused.chmod(0o644)
    assert run("--url", server.url, "in.ndjson")[0] == 1
    assert stat.S_IMODE(refused.stat().st_mode) == 0o600
    refused.unlink()
    refused.symlink_to(tmp_path / "elsewhere")
    status, errors = run("--url", server.url, "in.ndjson")
    assert (status, (tmp_path / "elsewhere").exists()) == (2, False)
    assert "cannot be written" in errors


def test_a_folder_takes_records_without_a_gateway(run: Run, tmp_path: Path) -> None:
    code, said = run("--data", "log", "--format", "okta", SAMPLES / "okta.json")
    assert code == 0, said
    assert "5 accepted" in said
    Path("bad.ndjson").write_bytes(native(1) + b"{}\n")
    code, said = run("--data", "log", "bad.ndjson")
    assert code == 1
    assert "1 accepted, 0 duplicates, 1 refused" in said
    assert str(tmp_path / "log.refused.ndjson") in said
    assert "5 duplicates" in run("--data", "log", "--format", "okta", SAMPLES / "okta.json")[1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_a_bar_and_the_same_summary(
    server: IngestServer, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    server.answers = [(429, {"detail": "too [fast]"}, {"Retry-After": "0"})]
    assert run("--url", server.url, SAMPLES / "sample.ndjson")[0] == 0
    assert "42 accepted" in terminal.getvalue()
    assert "too [fast]" in terminal.getvalue()


def test_help_has_examples_and_loads_nothing_slow() -> None:
    script = (
        "import sys\n"
        "from gateway.cli import tail; from gateway.cli.importing import command as import_\n"
        "slow = {'aiohttp', 'rich', 'msgspec', 'asyncio', 'ssl', 'http.client', 'httpx'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
        "import_.import_command(['--help'])\n"
    )
    shown: Any = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert "audit-gateway import --source cloudtrail" in shown.stdout


def test_records_of_an_archive_are_refused_with_the_name_of_their_member(
    run: Run, server: IngestServer
) -> None:
    with zipfile.ZipFile("in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.ndjson", native(1) + b"oops\n")
        archive.writestr("folder/b.csv", b"time,user\n1,bob\n")
    assert run("--url", server.url, "--refused", "no.ndjson", "in.zip")[0] == 1
    assert {name for _, name in server.stored} == {"1"}
    places = [json.loads(line) for line in Path("no.ndjson").read_bytes().splitlines()]
    assert [(one["file"], one["line"]) for one in places] == [
        ("in.zip/a.ndjson", 2),
        ("in.zip/folder/b.csv", 1),
    ]
    assert "CSV" in places[1]["reason"]


def test_refused_records_go_beside_the_data_folder_and_those_of_earlier_imports_stay(
    run: Run, tmp_path: Path
) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in ("a.ndjson", "b.ndjson"):
        (inputs / name).write_bytes(b"oops\n")
        assert run("--data", "log", inputs / name)[0] == 1
    lines = Path("log.refused.ndjson").read_bytes().splitlines()
    assert [Path(json.loads(line)["file"]).name for line in lines] == ["a.ndjson", "b.ndjson"]
    assert {path.name for path in inputs.iterdir()} == {"a.ndjson", "b.ndjson"}
    code, said = run("--data", "log", "log.refused.ndjson")
    assert code == 2
    assert "name another one with --refused FILE" in said


def test_following_waits_for_a_gateway_that_is_away_and_ends_meanwhile() -> None:
    class Away:
        def __init__(self, times: int) -> None:
            self.times = times

        def send(self, lines: list[bytes]) -> SendResult:
            self.times -= 1
            if self.times >= 0:
                raise Unavailable("gave up")
            return SendResult(len(lines))

        def close(self) -> None: ...

    notices: list[str] = []
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) > 3

    assert PatientSink(Away(3), wait, notices.append).send([b"{}"]).accepted == 1
    assert notices == ["waiting: gave up"] * 3
    with pytest.raises(Ended):
        PatientSink(Away(9), wait, notices.append).send([b"{}"])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--follow", "--cursor-file", "c", "a", "b"], "--cursor-file keeps one position"),
        (["--follow", "-"], "--follow takes files"),
        (["--cursor-file", "c", "a"], "--cursor-file goes with --follow"),
        (["a", "missing"], "missing does not exist"),
        (["--follow", "--cursor-file", "a", "a"], "holds no position"),
    ],
)
def test_options_of_following_that_make_no_sense_are_refused(
    run: Run, arguments: list[str], hint: str
) -> None:
    for name in ("a", "b"):
        Path(name).write_bytes(native(1))
    code, said = run(*arguments)
    assert code == 2
    assert hint in said
    assert Path("a").read_bytes() == native(1)
