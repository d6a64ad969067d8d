"""Files of the embedded stores: brought up to date from the baseline on, only forwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec
import pytest
from click.testing import CliRunner

from gateway.access.grants.role import Role
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.adapters.files.folder import WriterLock
from gateway.adapters.migrations import Migrated
from gateway.adapters.sqlite import database as sqlite
from gateway.adapters.sqlite.database import migrate, scripts
from gateway.adapters.sqlite.dedup import HAS_TEXT_INDEX
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.adapters.sqlite.log import SqliteLog
from gateway.cli.main import cli
from gateway.clock import SystemClock
from gateway.errors import FolderLocked, GatewayError
from gateway.event import Draft

MakeDraft = Callable[..., Draft]
SCHEMAS = ("sqlite_log", "sqlite_keys", "sqlite_usage", "sqlite_consumers", "sqlite_destinations")
KEY = Key(
    id="k" * 12, digest=b"", name="n", purpose="p", owner="o", grants=(), created_at=1.0,
    expires_at=2e9,
)  # fmt: skip


def made(path: Path, schema: str) -> apsw.Connection:
    """A file that stands at the number of the baseline."""
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    number = min(scripts(schema))
    connection.execute(scripts(schema)[number])
    connection.pragma("user_version", number)
    return connection


def made_with_old_ids(path: Path) -> apsw.Connection:
    """The same of a log whose events are from before there were keyed values."""
    connection = made(path, "sqlite_log")
    connection.execute("CREATE UNIQUE INDEX event_id ON event (id, tenant)")
    return connection


def later(schema: str, patch: pytest.MonkeyPatch, script: str = "CREATE TABLE later (a)") -> int:
    """The number of a script that comes behind all that there are."""
    number = max(scripts(schema)) + 1
    known = {**scripts(schema), number: script}
    patch.setattr(sqlite, "scripts", lambda _: known)
    return number


def contents(path: Path) -> tuple[object, list[object]]:
    """The version and the schema of a file."""
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        objects = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
        version = connection.pragma("user_version")
    connection.close()
    return version, objects


async def test_keys_at_the_number_of_the_baseline_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    with made(path, "sqlite_keys") as connection:
        members = msgspec.to_builtins(KEY, builtin_types=(bytes,))
        for name in ("rotate", "managed_by"):
            del members[name]
        document = msgspec.json.encode(members)
        connection.execute("INSERT INTO key VALUES (?, ?, ?, 1)", (KEY.id, b"d", document))
        role = msgspec.json.encode(Role(name="reader"))
        connection.execute("INSERT INTO role (name, document) VALUES ('reader', ?)", (role,))
    connection.close()
    keys = SqliteKeys(path)
    [found] = await keys.all()
    assert (found.id, found.digest, found.revision) == (KEY.id, b"d", 1)
    assert (found.rotate, found.managed_by) == (None, "")
    assert list(await keys.roles()) == ["reader"]
    await keys.change(KEY.id, lambda found: lifecycle.revoke(found, 3.0, "tried"))
    assert len(await keys.unrecorded(10)) == 1
    await keys.close()


async def test_a_log_at_the_number_of_the_baseline_keeps_its_epoch_its_events_and_their_ids(
    tmp_path: Path, draft: MakeDraft
) -> None:
    path = tmp_path / "log.db"
    with made_with_old_ids(path) as connection:
        connection.execute("INSERT INTO log VALUES (1, 'k3f9xq7m2p', 1, 0, 100)")
        one = draft(id="a", reason="from before")
        body = one.stored(b"2026-01-31T12:00:00.000000Z")
        connection.execute(
            "INSERT INTO event VALUES (1, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (one.tenant, one.category, one.action, one.outcome, one.severity, one.actor,
             one.resources, one.id, body),
        )  # fmt: skip
    connection.close()
    log = await SqliteLog.open(path, SystemClock())
    assert (log.epoch, log.head) == ("k3f9xq7m2p", 1)
    [appended] = await log.append([[draft(id="a"), draft(id="b")]])
    assert (appended.accepted, appended.duplicates) == (1, 1)
    assert appended.first == 2, "nothing tells where the old event of that id stands"
    page = await log.read(0, 2, limit=10)
    assert [event.members()["id"] for event in page.events] == ["a", "b"]
    assert [event.offset for event in await log.find("a", None)] == [1]
    await log.close()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_file_at_the_number_of_the_baseline_is_up_to_date_and_stays_as_it_is(
    tmp_path: Path, schema: str
) -> None:
    path = tmp_path / "x.db"
    made(path, schema).close()
    before = path.read_bytes()
    number = max(scripts(schema))
    assert migrate(path, schema) == Migrated(number, number, ())
    assert path.read_bytes() == before


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_new_file_gets_the_baseline_and_stands_at_its_number(tmp_path: Path, schema: str) -> None:
    path, there = tmp_path / "new.db", tmp_path / "there.db"
    path.touch()
    number = min(scripts(schema))
    assert migrate(path, schema) == Migrated(0, number, (f"{schema}_{number:03}",))
    made(there, schema).close()
    assert contents(path) == contents(there)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_migrating_says_what_was_there_and_what_was_done(
    tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    made(path, schema).close()
    number = later(schema, monkeypatch)
    assert migrate(path, schema) == Migrated(number - 1, number, (f"{schema}_{number:03}",))
    assert contents(path)[0] == number
    assert migrate(path, schema) == Migrated(number, number, ())


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_file_from_before_the_baseline_is_refused_in_words_and_left_as_it_is(
    tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the baseline stood for one number more; the oldest schema has but one.
    number = max(scripts(schema))
    monkeypatch.setattr(sqlite, "scripts", lambda _: {number + 1: "CREATE TABLE never (a)"})
    for version in range(1, number + 1):
        path = tmp_path / f"{version}.db"
        with apsw.Connection(str(path)) as connection:
            connection.execute("CREATE TABLE log (epoch); INSERT INTO log VALUES ('k3f9xq7m2p')")
            connection.pragma("user_version", version)
        connection.close()
        before = path.read_bytes()
        with pytest.raises(GatewayError, match="too old") as caught:
            migrate(path, schema)
        assert caught.value.code == "schema_too_old"
        for said in (str(path), f"{schema}_{version:03}", "`audit-gateway migrate`"):
            assert said in caught.value.detail
        assert path.read_bytes() == before
        assert [one.name for one in tmp_path.glob(f"{path.name}*")] == [path.name]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(
    tmp_path: Path, schema: str
) -> None:
    path = tmp_path / "x.db"
    newer = max(scripts(schema)) + 1
    connection = made(path, schema)
    connection.pragma("user_version", newer)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(GatewayError, match="newer version") as caught:
        migrate(path, schema)
    assert caught.value.code == "schema_too_new"
    assert path.read_bytes() == before


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_migration_that_fails_leaves_the_file_at_the_version_before(
    tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    made(path, schema).close()
    number = later(schema, monkeypatch, "CREATE TABLE half (a); SELECT * FROM absent")
    with pytest.raises(GatewayError, match="no such table"):
        migrate(path, schema)
    version, objects = contents(path)
    assert version == number - 1
    assert not [one for one in objects if "half" in str(one)]


def test_the_command_tells_of_each_file_and_refuses_a_folder_in_use(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    made(data / "keys.db", "sqlite_keys").close()
    (data / "log.db").touch()

    def run() -> str:
        done = CliRunner().invoke(cli, ["migrate", "--data", str(data)], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.stdout

    said = run().splitlines()
    assert said == [
        f"{data}/log.db: from version 0 to 4 (sqlite_log_004)",
        f"{data}/keys.db: version 3, up to date",
        f"{data}/usage.db: not there yet",
        f"{data}/consumers.db: not there yet",
        f"{data}/destinations.db: not there yet",
    ]
    assert run().splitlines()[0] == f"{data}/log.db: version 4, up to date"
    lock = WriterLock(data / "log.db")
    with pytest.raises(FolderLocked):
        run()
    lock.release()


async def test_ids_of_old_events_are_taken_up_bit_by_bit_while_the_log_is_used(
    tmp_path: Path, draft: MakeDraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapters.sqlite.dedup._OLD_EVENTS_AT_ONCE", 10)
    path = tmp_path / "log.db"
    count = 95
    with made_with_old_ids(path) as connection:
        connection.execute("INSERT INTO log VALUES (1, 'k3f9xq7m2p', ?, 0, 100)", (count,))
        for place in range(1, count + 1):
            one = draft(id=f"e{place}", tenant=f"t{place % 3}")
            connection.execute(
                "INSERT INTO event VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (place, one.tenant, one.category, one.action, one.outcome, one.severity, one.actor,
                 one.resources, one.id, one.stored(b"2026-01-31T12:00:00.000000Z")),
            )  # fmt: skip
    connection.close()
    log = await SqliteLog.open(path, SystemClock())
    again = [draft(id=f"e{place}", tenant=f"t{place % 3}", reason="x") for place in range(1, 96)]
    assert (await log.append([again, [draft(id="new")]]))[0].duplicates == count
    assert log._taking_up is not None
    await log._taking_up
    assert not _has_text_index(path)
    assert (await log.append([again]))[0].duplicates == count
    for place in (1, 50, 95):
        assert [one.offset for one in await log.find(f"e{place}", None)] == [place]
    assert await log.trim(2**62, None) == count + 1
    assert (await log.append([again]))[0].accepted == count
    await log.close()


async def test_an_event_renamed_while_old_ids_are_taken_up_takes_no_second_id(
    tmp_path: Path, draft: MakeDraft
) -> None:
    path = tmp_path / "log.db"
    log = await SqliteLog.open(path, SystemClock())
    one, two = draft(id="x", reason="1"), draft(id="x", reason="2")
    await log.append([[one], [two]])
    [_, renamed] = (await log.read(0, 2, limit=2)).events
    await log.close()
    # As while the ids of old events are being taken up.
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE UNIQUE INDEX event_id ON event (id, tenant)")
    connection.close()
    log = await SqliteLog.open(path, SystemClock())
    assert log._taking_up is not None
    await log._taking_up
    other = draft(id=renamed.members()["id"], reason="3")
    assert [one.accepted for one in await log.append([[other], [other]])] == [1, 0]
    assert await log.trim(2**62, None) == 3
    assert (await log.append([[other]]))[0].accepted == 1
    await log.close()


def _has_text_index(path: Path) -> bool:
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        return bool(connection.execute(HAS_TEXT_INDEX).fetchone())
