"""Peppers, the file of them, and the commands that rotate them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.credentials.pepper import (
    Pepper,
    Peppers,
    format_peppers,
    parse_peppers,
    pepper_id,
)
from gateway.access.keys.change import Change, key_urn
from gateway.adapters.files.folder import DataFolder
from gateway.adapters.files.pepper_file import PepperFile
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.cli import pepper as pepper_commands
from gateway.cli.base.operator import this_operator
from gateway.cli.main import cli
from gateway.errors import Conflict, GatewayError, NotFound
from gateway.streaming import enforcement

FIRST, SECOND, THIRD = b"1" * 32, b"2" * 32, b"3" * 32
ONE = Peppers((Pepper(FIRST),))
Run = Callable[..., str]


def standings(peppers: Peppers) -> list[tuple[bytes, str]]:
    return [(one.secret, one.standing) for one in peppers.all]


def test_a_pepper_comes_is_current_and_is_previous() -> None:
    coming = ONE.with_coming(SECOND)
    assert (coming.current.secret, coming.all[0].secret) == (FIRST, SECOND)
    switched = coming.switched(leaked=False)
    assert standings(switched) == [(SECOND, "current"), (FIRST, "previous")]
    again = switched.with_coming(THIRD).switched(leaked=True)
    assert standings(again) == [(THIRD, "current"), (SECOND, "leaked"), (FIRST, "previous")]


def test_there_is_one_coming_pepper_at_most() -> None:
    with pytest.raises(Conflict, match="pepper switch"):
        ONE.with_coming(SECOND).with_coming(THIRD)
    with pytest.raises(Conflict, match="pepper add"):
        ONE.switched(leaked=False)


def test_tickets_of_a_leaked_pepper_do_not_count_and_those_of_others_do() -> None:
    peppers = Peppers((Pepper(THIRD, "coming"), Pepper(SECOND), Pepper(FIRST, "previous")))
    assert peppers.for_tickets() == (SECOND, THIRD, FIRST)
    assert ONE.with_coming(SECOND).switched(leaked=True).for_tickets() == (SECOND,)


def test_a_pepper_is_found_by_its_id_and_the_oldest_without() -> None:
    by_id = ONE.with_coming(SECOND).switched(leaked=False).by_id()
    assert by_id[pepper_id(FIRST)].secret == by_id[""].secret == FIRST
    assert by_id[pepper_id(SECOND)].secret == SECOND


def test_only_what_is_over_is_taken_away() -> None:
    peppers = ONE.with_coming(SECOND).switched(leaked=False).with_coming(THIRD)
    every = frozenset(one.id for one in peppers.all)
    assert standings(peppers.without(every)) == [(THIRD, "coming"), (SECOND, "current")]
    assert peppers.without(frozenset()) == peppers


def test_32_bytes_are_the_current_pepper() -> None:
    assert parse_peppers(FIRST) == ONE


secrets = st.binary(min_size=32, max_size=32)


@given(secrets, st.lists(st.tuples(secrets, st.booleans()), max_size=4), st.none() | secrets)
def test_a_file_of_peppers_is_read_as_it_was_written(
    first: bytes, rotations: list[tuple[bytes, bool]], coming: bytes | None
) -> None:
    peppers = Peppers((Pepper(first),))
    for secret, leaked in rotations:
        peppers = peppers.with_coming(secret).switched(leaked=leaked)
    if coming is not None:
        peppers = peppers.with_coming(coming)
    assert parse_peppers(format_peppers(peppers)) == peppers
    assert peppers.current.secret == (rotations[-1][0] if rotations else first)


LINE = f"current {FIRST.hex()}\n".encode()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"short", FIRST + b"x", FIRST[1:], LINE + LINE, LINE.upper(), b" " + LINE,
        LINE + b"\n", LINE.replace(b"current", b"previous"), LINE.replace(b"current", b"coming"),
        LINE[:-2],
        LINE.replace(b"current", b"previous") + LINE, LINE + LINE.replace(b"current", b"coming"),
        LINE + b"\xff" * 70,
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_without_a_word_of_what_is_in_it(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "pepper").write_bytes(content)
    with pytest.raises(GatewayError) as refused:
        PepperFile(tmp_path / "pepper").read()
    assert refused.value.code == "pepper_damaged"
    assert "restore it from backup" in refused.value.detail
    assert "3131" not in refused.value.detail
    assert "111" not in refused.value.detail


def test_the_first_pepper_is_made_once_however_many_ask(tmp_path: Path) -> None:
    found: list[Peppers] = []
    threads = [
        threading.Thread(target=lambda: found.append(DataFolder(tmp_path).peppers.make()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pepper"]
    assert (tmp_path / "pepper").stat().st_mode & 0o777 == 0o600


def test_a_changed_file_is_noticed_and_an_unchanged_one_not_read(tmp_path: Path) -> None:
    one, other = (PepperFile(tmp_path / "pepper") for _ in range(2))
    one.make()
    before = one.newest()
    assert before == one.newest() == other.newest()
    after = other.change(lambda peppers: peppers.with_coming(SECOND))
    assert one.newest() == after
    assert one.newest() is one.newest()
    assert (tmp_path / "pepper").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["pepper"]


def test_what_cannot_be_read_leaves_the_peppers_as_they_were_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pepper"
    file = PepperFile(path)
    before = file.make()
    assert file.newest() == before
    before = file.newest()
    path.write_bytes(b"junk")
    assert file.newest() is before
    assert file.newest() is before
    assert len(caplog.records) == 1
    path.unlink()
    # Not made anew: that would void every key.
    assert file.newest() is before
    assert not path.exists()
    path.write_bytes(SECOND)
    assert file.newest().current.secret == SECOND


def test_two_who_rotate_at_the_same_time_take_turns(tmp_path: Path) -> None:
    file = DataFolder(tmp_path).peppers
    file.make()
    outcomes: list[str] = []

    def add(secret: bytes) -> None:
        try:
            file.change(lambda peppers: peppers.with_coming(secret))
            outcomes.append("added")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=add, args=(secret,)) for secret in (SECOND, THIRD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added", "refused"]
    assert [one.standing for one in file.read().all] == ["coming", "current"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on a folder of its own; standard output. Raises what the command raises."""
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    monkeypatch.setattr(pepper_commands, "_LEARN_SECONDS", 0.0)

    def run(*arguments: str) -> str:
        where = ["--data", str(tmp_path / "data")]
        result = CliRunner().invoke(cli, [*arguments, *where], standalone_mode=False)
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return run


def status(run: Run) -> list[dict[str, Any]]:
    return json.loads(run("pepper", "status", "--json"))["peppers"]  # type: ignore[no-any-return]


def counted(run: Run) -> list[tuple[str, int]]:
    return [(one["standing"], one["keys"]) for one in status(run)]


def make_key(run: Run) -> str:
    made = run("keys", "create", "--name", "siem", "--purpose", "p", "--role", "producer", "--json")
    return json.loads(made)["id"]  # type: ignore[no-any-return]


def test_the_status_counts_the_living_keys_of_each_pepper(run: Run) -> None:
    ended = make_key(run)
    make_key(run)
    run("keys", "revoke", ended)
    assert counted(run) == [("current", 1)]
    run("pepper", "rotate")
    make_key(run)
    assert counted(run) == [("current", 1), ("previous", 1)]
    run("pepper", "rotate", "--leaked")
    assert counted(run) == [("current", 0), ("leaked", 1), ("previous", 1)]


def test_every_process_has_time_to_learn_of_a_pepper_before_it_is_used(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    waited: list[tuple[float, list[str]]] = []

    def sleep(seconds: float) -> None:
        found = DataFolder(tmp_path / "data").peppers.read()
        waited.append((seconds, [one.standing for one in found.all]))

    monkeypatch.setattr("time.sleep", sleep)
    run("pepper", "rotate")
    [(seconds, standings)] = waited
    assert standings == ["coming", "current"]
    assert seconds >= 4 * enforcement._POLL_SECONDS


def test_a_step_at_a_time_comes_to_the_same(run: Run) -> None:
    make_key(run)
    before = status(run)[0]["id"]
    run("pepper", "add")
    assert [one["standing"] for one in status(run)] == ["coming", "current"]
    run("pepper", "switch", "--leaked")
    assert [one["standing"] for one in status(run)] == ["current", "leaked"]
    assert status(run)[1]["id"] == before


def test_a_pepper_that_a_living_key_needs_is_not_forgotten_unless_forced(run: Run) -> None:
    key_id = make_key(run)
    assert "no former pepper" in run("pepper", "forget")
    run("pepper", "rotate")
    said = run("pepper", "forget")
    assert f"is kept for keys that were not used since: {key_id} (siem)" in said
    assert counted(run) == [("current", 0), ("previous", 1)]
    assert "is forgotten" in run("pepper", "forget", "--force")
    assert counted(run) == [("current", 0)]


def test_a_pepper_that_no_living_key_needs_is_forgotten(run: Run) -> None:
    key_id = make_key(run)
    run("pepper", "rotate")
    run("keys", "revoke", key_id)
    assert "is forgotten" in run("pepper", "forget")
    assert counted(run) == [("current", 0)]


def waiting(tmp_path: Path) -> list[Change]:
    """The changes of peppers that wait to be written into the log."""

    async def unrecorded() -> list[Change]:
        store = SqliteKeys(tmp_path / "data" / "keys.db")
        try:
            return list((await store.unrecorded(100)).values())
        finally:
            await store.close()

    changes = asyncio.run(unrecorded())
    return [change for change in changes if change.action.startswith("pepper.")]


def test_every_change_of_the_peppers_waits_to_be_recorded_without_a_secret(
    run: Run, tmp_path: Path
) -> None:
    key_ids = [make_key(run) for _ in range(33)]
    former = status(run)[0]["id"]
    run("pepper", "rotate", "--leaked")
    current = status(run)[0]["id"]
    secrets = [one.secret.hex() for one in DataFolder(tmp_path / "data").peppers.read().all]
    run("pepper", "forget", "--force")
    run("pepper", "add")
    run("pepper", "switch")
    added, switched, forgotten, also, again, once_more = changes = waiting(tmp_path)
    assert [one.action for one in changes] == [
        "pepper.added", "pepper.switched", "pepper.forgotten", "pepper.forgotten",
        "pepper.added", "pepper.switched",
    ]  # fmt: skip
    assert (added.about, added.data) == ((f"pepper:{current}",), {"pepper": current})
    assert switched.data == {"pepper": current, "leaked": True}
    assert once_more.data == {"pepper": again.data["pepper"], "leaked": False}
    assert forgotten.data["pepper"] == also.data["pepper"] == former
    ended = [*forgotten.data["ended"], *also.data["ended"]]
    assert sorted(ended) == sorted(key_ids)
    assert {*forgotten.about, *also.about} == {f"pepper:{former}", *map(key_urn, key_ids)}
    assert {one.by for one in changes} == {this_operator().actor}
    assert all(one.at > 0 for one in changes)
    said = repr(changes)
    assert not [secret for secret in secrets if secret in said]


def test_a_pepper_is_changed_where_there_are_no_keys_to_record_it_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)
    done = CliRunner().invoke(cli, ["pepper", "add", "--data", str(tmp_path / "copy")])
    assert (done.exit_code, "is coming" in done.stdout) == (0, True)
    assert "is not recorded: there are no keys in" in done.stderr
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["pepper"]


def test_no_command_shows_a_pepper(run: Run, tmp_path: Path) -> None:
    make_key(run)
    said = run("pepper", "rotate") + run("pepper", "add") + run("pepper", "status")
    for one in DataFolder(tmp_path / "data").peppers.read().all:
        assert one.id in said
        assert one.secret.hex() not in said


@pytest.mark.parametrize("command", ["status", "switch", "forget"])
def test_a_folder_whose_name_is_mistyped_is_not_made_by_looking_at_its_peppers(
    run: Run, tmp_path: Path, command: str
) -> None:
    with pytest.raises(NotFound, match="no data folder of a gateway"):
        run("pepper", command)
    assert not (tmp_path / "data").exists()
