"""Which life a log is in after a failover, a restore, or on a clone: never the wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import asyncpg
import pytest

from gateway.access.credentials.pepper import Pepper, Peppers
from gateway.access.keyring import Keyring
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import new_key
from gateway.adapters.postgres.database import SCHEMA
from gateway.adapters.postgres.keys import PostgresKeys
from gateway.adapters.postgres.log import PostgresLog
from gateway.clock import Clock, SystemClock
from gateway.errors import Unavailable
from gateway.event import Draft
from tests.support.machine_time import patience
from tests.support.services.postgres import PostgresCopy, PostgresServer
from tests.system.postgres.writers import eventually, everything, until_head

MakeDraft = Callable[..., Draft]


@pytest.fixture
def standby(own_postgres: PostgresServer) -> Iterator[PostgresCopy]:
    with PostgresCopy(own_postgres, max_connections="40") as copy:
        yield copy


def either(one: PostgresServer, other: PostgresServer) -> str:
    """A URL of both, as drivers fail over with."""
    return (
        f"postgresql://gateway@127.0.0.1:{one.port},127.0.0.1:{other.port}/postgres"
        "?target_session_attrs=read-write"
    )


async def received(primary: PostgresServer, standby: PostgresServer) -> None:
    """Return when the standby has all that the primary has."""
    ahead, behind = await asyncpg.connect(primary.url()), await asyncpg.connect(standby.url())
    end = await ahead.fetchval("SELECT pg_current_wal_flush_lsn()::text")

    async def there() -> bool:
        return bool(
            await behind.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end)
        )

    await eventually(there)
    ahead.terminate()
    behind.terminate()


async def cut_off(standby: PostgresServer) -> None:
    """Let it receive nothing more."""
    connection = await asyncpg.connect(standby.url())
    await connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
    await connection.execute("SELECT pg_reload_conf()")

    async def nothing_comes() -> bool:
        return await connection.fetchval("SELECT count(*) FROM pg_stat_wal_receiver") == 0

    await eventually(nothing_comes)
    await connection.close()


async def appended(log: PostgresLog, *drafts: Draft) -> None:
    """Append, however often it takes."""
    async with asyncio.timeout(patience(30)):
        while True:
            try:
                await log.append([drafts])
                return
            except Unavailable as error:
                if error.code == "log_replaced":
                    raise
                await asyncio.sleep(0.05)


async def test_a_failover_that_loses_nothing_goes_on_in_the_same_life(
    own_postgres: PostgresServer, standby: PostgresCopy, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(either(own_postgres, standby), SystemClock())
    await log.append([[draft(id="a"), draft(id="b")]])
    epoch = log.epoch
    await received(own_postgres, standby)
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(standby.promote)
    await appended(log, draft(id="c"))
    assert await everything(log) == ["a", "b", "c"]
    # One that starts later finds that somebody was there and saw nothing missing.
    other = await PostgresLog.open(standby.url(), SystemClock())
    assert other.epoch == log.epoch == epoch
    await other.close()
    await log.close()


async def test_a_gateway_that_only_read_goes_on_after_a_failover_too(
    own_postgres: PostgresServer, standby: PostgresCopy, draft: MakeDraft
) -> None:
    reader = await PostgresLog.open(either(own_postgres, standby), SystemClock())
    writer = await PostgresLog.open(own_postgres.url(), SystemClock())
    await writer.append([[draft(id="a")]])
    await until_head(reader, 1)
    await received(own_postgres, standby)
    await writer.close()
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(standby.promote)
    await appended(reader, draft(id="b"))
    assert await everything(reader) == ["a", "b"]
    await reader.close()


@pytest.mark.parametrize(
    ("regrown", "placed_by_another"),
    [(0, False), (3, False), (3, True)],
    ids=["shorter", "regrown", "placed by another"],
)
async def test_a_failover_that_has_lost_acknowledged_events_begins_another_life(
    own_postgres: PostgresServer, standby: PostgresCopy, draft: MakeDraft,
    monkeypatch: pytest.MonkeyPatch, regrown: int, placed_by_another: bool,
) -> None:  # fmt: skip
    admin = await asyncpg.connect(own_postgres.url())
    await admin.execute("CREATE ROLE first LOGIN; GRANT CREATE ON DATABASE postgres TO first")
    url = either(own_postgres, standby).replace("gateway@", "first@")
    log = await PostgresLog.open(url, SystemClock())
    await log.append([[draft(id="a")]])
    epoch = log.epoch
    # What it has open it keeps, and gets nothing else until it may.
    await admin.execute("ALTER ROLE first NOLOGIN")
    await admin.close()
    await received(own_postgres, standby)
    await cut_off(standby)

    async def placed_elsewhere(batch: int, count: int) -> None:
        await log._step(patient=True)

    if placed_by_another:
        monkeypatch.setattr(log, "_placed", placed_elsewhere)
    await appended(log, draft(id="lost"))
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(standby.promote)
    admin = await asyncpg.connect(standby.url(), server_settings={"search_path": "audit_gateway"})
    if regrown:
        # One who knew nothing of it has gone on at the same place, as if all were well.
        await admin.execute("UPDATE log SET timeline = this_timeline()")
        other = await PostgresLog.open(standby.url(), SystemClock())
        assert other.epoch == epoch
        await other.append([[draft(id=f"other-{number}") for number in range(regrown)]])
        await other.close()
    await admin.execute("ALTER ROLE first LOGIN")
    await admin.close()
    async with asyncio.timeout(patience(30)):
        while log.degraded_reason is None or log.degraded_reason.code != "log_replaced":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    with pytest.raises(Unavailable, match="restart the gateway"):
        await log.append([[draft(id="b")]])
    await log.close()
    log = await PostgresLog.open(url, SystemClock())
    assert log.epoch != epoch
    await log.close()


async def test_a_promotion_that_no_gateway_was_there_to_see_begins_another_life(
    own_postgres: PostgresServer, standby: PostgresCopy, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(own_postgres.url(), SystemClock())
    await log.append([[draft(id="a")]])
    epoch = log.epoch
    await log.close()
    await received(own_postgres, standby)
    await asyncio.to_thread(standby.promote)
    # As after a point-in-time recovery, which ends in the same way.
    log = await PostgresLog.open(standby.url(), SystemClock())
    assert log.epoch != epoch
    assert await everything(log) == ["a"]
    name = log.epoch
    await log.close()
    log = await PostgresLog.open(standby.url(), SystemClock())
    assert log.epoch == name, "only once"
    await log.close()


async def test_a_crash_and_a_restart_keep_the_life(
    own_postgres: PostgresServer, draft: MakeDraft
) -> None:
    log = await PostgresLog.open(own_postgres.url(), SystemClock())
    await log.append([[draft(id="a")]])
    epoch = log.epoch
    await log.close()
    for _ in range(2):
        await asyncio.to_thread(own_postgres.stop, 3)
        await asyncio.to_thread(own_postgres.start)
        log = await PostgresLog.open(own_postgres.url(), SystemClock())
        assert log.epoch == epoch
        await log.close()


async def test_a_user_who_may_not_ask_for_the_server_has_a_log_all_the_same(
    empty_database: str, draft: MakeDraft
) -> None:
    sql = await asyncpg.connect(
        empty_database, server_settings={"search_path": "audit_gateway, public"}
    )
    name = f"plain_{empty_database.rpartition('_')[2]}"
    base = await sql.fetchval("SELECT current_database()")
    await sql.execute(f"CREATE ROLE {name} LOGIN; GRANT CREATE ON DATABASE {base} TO {name}")
    for function in ("pg_control_system()", "pg_walfile_name(pg_lsn)"):
        await sql.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM public")
    url = empty_database.replace("gateway@", f"{name}@")
    epochs = set()
    for number in range(2):
        log = await PostgresLog.open(url, SystemClock())
        await log.append([[draft(id=f"{number}")]])
        epochs.add(log.epoch)
        await log.close()
    assert len(epochs) == 1
    assert await sql.fetchrow("SELECT server, timeline FROM log") == (None, None)
    await sql.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await sql.close()


async def test_a_revocation_that_gets_the_revision_of_a_lost_change_is_seen(
    own_postgres: PostgresServer, standby: PostgresCopy, clock: Clock
) -> None:
    store = await PostgresKeys.open(either(own_postgres, standby))
    keyring = Keyring(store, lambda: Peppers((Pepper(b"p" * 32),)), clock)
    made = []
    for _ in range(2):
        key, _ = new_key(
            name="n", purpose="p", owner="o", grants=(), now=clock.now(), life=3600.0,
            pepper=b"p" * 32,
        )  # fmt: skip
        await store.create(key)
        made.append(key.id)
    await keyring.refresh()
    await keyring.refresh()
    await received(own_postgres, standby)
    await cut_off(standby)
    await store.change(made[0], lambda found: lifecycle.revoke(found, clock.now(), "lost"))
    assert [key.id for key in (await keyring.refresh()).keys] == [made[0]]
    for key_id in made:
        assert await keyring.get(key_id) is not None
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(standby.promote)
    other = await PostgresKeys.open(standby.url())
    await other.change(made[1], lambda found: lifecycle.revoke(found, clock.now(), ""))
    await other.close()
    async with asyncio.timeout(patience(30)):
        while True:
            try:
                await keyring.refresh()
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    lost, revoked = [await keyring.get(key_id) for key_id in made]
    assert lost is not None
    assert lost.revoked_at is None
    assert revoked is not None
    assert revoked.revoked_at is not None
    await store.close()


async def test_a_standby_that_lags_behind_has_lost_no_change_of_a_key(
    own_postgres: PostgresServer, standby: PostgresCopy
) -> None:
    await (await PostgresKeys.open(own_postgres.url())).close()
    await received(own_postgres, standby)
    lagging = PostgresKeys(standby.url(), SCHEMA)
    assert await lagging.changed_since(7) == (7, [])
    assert await lagging.roles_since(7) == (7, {})
    await asyncio.to_thread(standby.promote)
    assert await lagging.changed_since(7) == (0, [])
    assert (await lagging.roles_since(7))[0] == 0
    await lagging.close()
