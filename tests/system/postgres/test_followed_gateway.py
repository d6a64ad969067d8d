"""Rows of somebody's table on the streams of a gateway, from the settings on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import asyncpg
import pytest
from prometheus_client.utils import floatToGoString

from tests.support.gateway_process import GatewayProcess, run_program
from tests.support.machine_time import patience

pytestmark = pytest.mark.slow
TABLE = """
CREATE TABLE public.audit (
    id bigserial PRIMARY KEY, happened timestamptz DEFAULT now(), verb text, who jsonb, day date
)
"""
SETTINGS = """
[store]
table = "audit"
[store.columns]
category = "=billing"
action = "verb"
time = "happened"
actor.id = "who.id"
"""
_SECONDS = 30
Run = Callable[..., Any]


@pytest.fixture
async def table(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    yield connection
    connection.terminate()


@pytest.fixture
def config(tmp_path: Path, database: str) -> Callable[[str], str]:
    """Writes a file of settings, and gives its path."""

    def write(text: str = SETTINGS) -> str:
        file = tmp_path / "config.toml"
        file.write_text(text.replace("[store]", f'[store]\nurl = "{database}"', 1))
        return str(file)

    return write


async def program(*arguments: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(run_program, *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


class Stream:
    """What a stream over `category` has brought so far."""

    def __init__(self, gateway: GatewayProcess, key: str) -> None:
        self._url = f"{gateway.url}/v1/stream?from=start&category=billing&category=gateway.rejected"
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}

    async def events(self, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with (
            asyncio.timeout(patience(_SECONDS)),
            aiohttp.ClientSession(read_bufsize=1 << 20) as session,
            session.get(self._url, headers=self._headers) as answer,
        ):
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if line.startswith(b"data: ") and b'"category"' in line:
                    found.append(json.loads(line[6:]))
                    if len(found) == count:
                        break
        return found


def started(config: str, tmp_path: Path) -> GatewayProcess:
    return GatewayProcess(tmp_path / "data", "--config", config, shows_key=True)


async def text_of(url: str, words: str) -> str:
    """What is answered there once it has these words."""
    async with asyncio.timeout(patience(_SECONDS)), aiohttp.ClientSession() as session:
        while True:
            async with session.get(url) as answer:
                text = await answer.text()
                if words in text:
                    assert answer.status == 200
                    return text
            await asyncio.sleep(0.05)


async def test_rows_that_psql_inserts_are_on_a_stream_and_none_of_them_wedges_it(
    table: asyncpg.Connection, config: Callable[..., str], tmp_path: Path
) -> None:
    file = config()
    await table.execute("INSERT INTO audit (verb, who) VALUES ('old', '{\"id\": \"u-0\"}')")
    status, said, _ = await program("store", "prepare", "--dry-run", "--config", file)
    assert (status, said) == (
        0,
        "ALTER TABLE audit ADD COLUMN gateway_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),"
        " ADD UNIQUE (gateway_xid, id);\n".replace("TABLE audit", "TABLE public.audit"),
    )
    status, said, _ = await program("store", "check", "--config", file)
    assert status == 1
    assert "it is not prepared" in said
    status, _, errors = await program("serve", "--data", str(tmp_path / "data"), "--config", file)
    assert status == 1
    assert "run `audit-gateway store prepare`, or as its owner: ALTER TABLE" in errors
    assert (await program("store", "prepare", "--config", file))[0] == 0
    assert "is prepared already" in (await program("store", "prepare", "--config", file))[2]
    with started(file, tmp_path) as gateway:
        grant = {"actions": ["stream", "pull", "ingest"], "categories": ["**", "gateway.rejected"]}
        key = await asyncio.to_thread(gateway.make_key, grant)
        reading = asyncio.create_task(Stream(gateway, key).events(6))
        await table.execute("INSERT INTO audit (verb, who) VALUES ('pay', '{\"id\": \"u-1\"}')")
        await table.execute("INSERT INTO audit (who) VALUES ('{}')")
        await table.execute(
            "INSERT INTO audit (verb, who) SELECT 'large', to_jsonb(string_agg(md5(n::text), ''))"
            " FROM generate_series(1, 60000) AS n"
        )
        await table.execute("INSERT INTO audit (verb, happened) VALUES ('late', 'infinity')")
        await table.execute("INSERT INTO audit (verb) VALUES ('fine')")
        old, pay, bare, large, late, fine = await reading
        assert [event["action"] for event in (old, pay, fine)] == ["old", "pay", "fine"]
        assert (old["id"], pay["actor"]) == ("public.audit:1", {"id": "u-1"})
        for marked in (bare, large, late):
            assert marked["category"] == "gateway.rejected"
        figures = await text_of(gateway.url + "/metrics", "audit_gateway_followed_rows_total 6.0")
        assert "audit_gateway_followed_marked_total 3.0\n" in figures
        # What comes by HTTP is in the same log.
        event = {"id": "by-http", "category": "billing", "action": "pay"}
        await asyncio.to_thread(gateway.post, [event], key)
        assert (await Stream(gateway, key).events(7))[-1]["id"] == "by-http"
        # Nothing that looks like a row, whether there is one or not.
        forged = {**event, "id": "public.audit:7"}
        status, answer = await asyncio.to_thread(
            gateway.ask, "POST", "/v1/events", key, [event, forged]
        )
        assert (status, answer["code"]) == (422, "invalid_events")
        [error] = answer["errors"]
        assert (error["index"], error["path"]) == (1, "id")
        assert "'public.audit:' is the id of a row" in error["reason"]
        # A table that is gone is told of, and everything else goes on.
        await table.execute("ALTER TABLE audit RENAME TO elsewhere")
        said = await text_of(gateway.url + "/readyz", "is not followed")
        assert said.startswith("ready\npublic.audit is not followed: ")
        assert await reasons(gateway) == ["followed_away"]
        await text_of(gateway.url + "/metrics", "audit_gateway_followed_away 1.0\n")
        await table.execute("ALTER TABLE elsewhere RENAME TO audit")
        await table.execute("INSERT INTO audit (verb) VALUES ('again')")
        assert (await Stream(gateway, key).events(8))[-1]["action"] == "again"
        assert await text_of(gateway.url + "/readyz", "ready\n") == "ready\n"


async def reasons(gateway: GatewayProcess) -> list[str]:
    """Codes of what is wrong, as `/readyz` tells them."""

    def asked() -> list[str]:
        request = Request(f"{gateway.url}/readyz", headers={"Accept": "application/json"})
        with urlopen(request) as answer:
            return [one["code"] for one in json.load(answer)["reasons"]]

    return await asyncio.to_thread(asked)


async def test_an_id_that_is_not_unique_is_warned_of_and_its_rows_are_counted(
    table: asyncpg.Connection, config: Callable[..., str], tmp_path: Path
) -> None:
    file = config(SETTINGS + 'id = "verb"\n')
    for command in ("prepare", "check"):
        status, _, errors = await program("store", command, "--config", file)
        assert status == 0
        assert "warning: id is made of verb, and no unique index of public.audit sees" in errors
    with started(file, tmp_path) as gateway:
        await table.execute("INSERT INTO audit (verb) VALUES ('pay'), ('pay'), ('pay')")
        await text_of(gateway.url + "/metrics", "audit_gateway_followed_renamed_total 2.0\n")
    await table.execute("CREATE UNIQUE INDEX ON audit (verb, id); TRUNCATE audit")
    await table.execute("CREATE UNIQUE INDEX ON audit (verb)")
    assert "warning" not in (await program("store", "check", "--config", file))[2]


async def test_a_table_that_is_only_read_tells_what_its_rows_wait_for(
    database: str, table: asyncpg.Connection, config: Callable[..., str], tmp_path: Path
) -> None:
    file = config(SETTINGS.replace("[store]", '[store]\ntable_mode = "read-only"'))
    status, said, _ = await program("store", "check", "--config", file)
    assert status == 0
    assert "it is only read" in said
    with started(file, tmp_path) as gateway:
        key = await asyncio.to_thread(
            gateway.make_key, {"actions": ["stream"], "categories": ["**"]}
        )
        blocking = await asyncpg.connect(database)
        await blocking.execute("BEGIN; INSERT INTO audit (verb) VALUES ('first')")
        await table.execute("INSERT INTO audit (verb) VALUES ('second')")
        pid = blocking.get_server_pid()
        words = f"for the transaction of process {pid}\n"
        said = await text_of(gateway.url + "/readyz", words)
        assert said.startswith("ready\nrows of public.audit have been waiting for ")
        assert await reasons(gateway) == ["followed_waiting"]
        figures = await text_of(
            gateway.url + "/metrics",
            f"audit_gateway_followed_blocking_pid {floatToGoString(pid)}\n",
        )
        assert "audit_gateway_followed_horizon_seconds " in figures
        await blocking.execute("COMMIT")
        await blocking.close()
        found = await Stream(gateway, key).events(2)
        assert [event["action"] for event in found] == ["first", "second"]
        assert await text_of(gateway.url + "/readyz", "ready\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('table = "audit"', 'table = "nothing"'), "store.table: there is no table public.nothing"),
        (('"verb"', '"vreb"'), "store.columns: action names the column vreb, which public.audit"),
        (('"happened"', '"day"'), "store.columns: time is made of the column day, which is date"),
        (('"who.id"', '"day.id"'), "store.columns: actor.id looks for id in the column day, which"),
        (("actor.id", "actor.mail"), "store.columns: an event has no member 'actor.mail'"),
    ],
)
async def test_settings_that_cannot_work_stop_the_start_and_say_what_to_do(
    table: asyncpg.Connection, config: Callable[..., str], tmp_path: Path,
    change: tuple[str, str], words: str,
) -> None:  # fmt: skip
    file = config(SETTINGS.replace(*change))
    for command in (
        ("store", "check", "--config", file),
        ("serve", "--port", "0", "--data", str(tmp_path / "data"), "--config", file),
    ):
        status, _, errors = await program(*command)
        assert status == 2
        assert f"error: {words}" in errors


async def test_a_user_who_may_not_read_or_change_the_table_is_told_what_to_grant(
    database: str, table: asyncpg.Connection, config: Callable[..., str]
) -> None:
    role = f"reader_{database.rpartition('_')[2]}"
    await table.execute(f"CREATE ROLE {role} LOGIN")
    file = config()
    text = Path(file).read_text().replace("gateway@", f"{role}@")
    Path(file).write_text(text)
    status, _, errors = await program("store", "check", "--config", file)
    assert status == 2
    assert f"GRANT SELECT ON public.audit TO {role}" in errors
    await table.execute(f"GRANT SELECT ON public.audit TO {role}")
    status, _, errors = await program("store", "prepare", "--config", file)
    assert status == 1
    assert "this user does not own public.audit; let its owner run: ALTER TABLE" in errors
    await table.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
