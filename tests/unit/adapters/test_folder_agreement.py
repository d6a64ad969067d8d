"""The secrets of the data folder: made once, claimed in the store, never replaced by others."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.access.credentials.pepper import pepper_id
from gateway.access.keys import lifecycle
from gateway.access.keys.issuance import new_key
from gateway.adapters.files.agreement import agree_on_secrets
from gateway.adapters.files.folder import DataFolder
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.cli.main import cli
from gateway.errors import GatewayError, InvalidSetting
from gateway.settings.load import load
from gateway.settings.server import ServerSettings

NOW = 1_700_000_000.0
DAY = 86_400.0
OTHER = bytes(range(32))


@pytest.fixture
async def keys(tmp_path: Path) -> AsyncIterator[SqliteKeys]:
    """The keys that all folders of a test share, as on PostgreSQL."""
    store = SqliteKeys(tmp_path / "keys.db")
    yield store
    await store.close()


async def add_key(keys: SqliteKeys, folder: DataFolder, life: int = 3600) -> str:
    pepper = folder.peppers.read().current.secret
    key, _ = new_key(
        name="siem", purpose="p", owner="o", grants=(), now=NOW, life=life, pepper=pepper
    )
    await keys.create(key)
    return key.id


async def agreed(folder: DataFolder, keys: SqliteKeys, now: float = NOW) -> DataFolder:
    await agree_on_secrets(folder, keys, now, fleet=True)
    return folder


async def refused(
    folder: DataFolder, keys: SqliteKeys, code: str, *, now: float = NOW, fleet: bool = True
) -> str:
    with pytest.raises(GatewayError) as error:
        await agree_on_secrets(folder, keys, now, fleet=fleet)
    assert error.value.code == code
    assert "\n" not in error.value.detail
    return error.value.detail


def copy(name: str, source: DataFolder, target: DataFolder) -> None:
    (target.path / name).write_bytes((source.path / name).read_bytes())


async def test_a_first_start_makes_both_secrets_and_a_second_one_keeps_them(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    folder = await agreed(DataFolder(tmp_path / "a"), keys)
    pepper, secret = folder.peppers.read(), folder.log_secret()
    assert len(secret) == 32
    for name in ("pepper", "log-secret"):
        assert (folder.path / name).stat().st_mode & 0o777 == 0o600
    await agreed(folder, keys, NOW + DAY)
    assert (folder.peppers.read(), folder.log_secret()) == (pepper, secret)


async def test_a_folder_without_the_pepper_that_living_keys_need_is_refused_and_gets_none(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    key_id = await add_key(keys, await agreed(DataFolder(tmp_path / "a"), keys))
    other = DataFolder(tmp_path / "b")
    detail = await refused(other, keys, "pepper_missing", now=NOW + 1800)
    assert f"{key_id} (siem)" in detail
    assert "server.pepper_file" in detail
    assert list(other.path.iterdir()) == []
    # Nor where there is one of its own.
    (other.path / "pepper").write_bytes(OTHER)
    await refused(other, keys, "pepper_missing", now=NOW + 1800)
    copy("pepper", DataFolder(tmp_path / "a"), other)
    await agreed(other, keys)


async def test_a_key_that_needs_a_pepper_beside_the_one_of_all_is_missed_too(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    folder = await agreed(DataFolder(tmp_path / "a"), keys)
    await add_key(keys, folder)
    key, _ = new_key(
        name="elsewhere", purpose="p", owner="o", grants=(), now=NOW, life=3600, pepper=OTHER
    )
    await keys.create(key)
    detail = await refused(folder, keys, "pepper_missing")
    assert "a living key needs" in detail
    assert pepper_id(OTHER) in detail
    await keys.change(key.id, lambda found: lifecycle.revoke(found, NOW, "made by mistake"))
    await agreed(folder, keys)


async def test_when_no_key_lives_that_needs_a_lost_pepper_another_is_made(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    first = await agreed(DataFolder(tmp_path / "a"), keys)
    key_id = await add_key(keys, first)
    await keys.change(key_id, lambda found: lifecycle.revoke(found, NOW, "the pepper is lost"))
    (first.path / "pepper").unlink()
    await agreed(first, keys, NOW + 3600)
    assert (first.path / "pepper").exists()


async def test_of_two_that_begin_on_an_empty_store_the_second_is_refused(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    await agreed(DataFolder(tmp_path / "a"), keys)
    other = DataFolder(tmp_path / "b")
    (other.path / "pepper").write_bytes(OTHER)
    claimed = DataFolder(tmp_path / "a").peppers.read().current.id
    assert claimed in await refused(other, keys, "pepper_missing")


async def test_the_claim_follows_a_rotation_step_by_step(tmp_path: Path, keys: SqliteKeys) -> None:
    first = await agreed(DataFolder(tmp_path / "a"), keys)
    await add_key(keys, first)
    second = DataFolder(tmp_path / "b")
    copy("pepper", first, second)
    first.peppers.change(lambda peppers: peppers.with_coming(OTHER))
    await agreed(first, keys)
    await agreed(second, keys)
    behind = DataFolder(tmp_path / "c")
    copy("pepper", second, behind)
    copy("pepper", first, second)
    first.peppers.change(lambda peppers: peppers.switched(leaked=False))
    await agreed(first, keys)
    await agreed(second, keys)
    assert pepper_id(OTHER) in await refused(behind, keys, "pepper_missing")


async def test_gateways_that_share_a_pepper_come_to_the_same_log_secret(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    digits = OTHER.hex()
    one = await agreed(DataFolder(tmp_path / "a", ServerSettings(pepper=digits)), keys)
    await add_key(keys, one)
    other = await agreed(DataFolder(tmp_path / "b", ServerSettings(pepper=digits)), keys)
    assert one.log_secret() == other.log_secret()
    # Also after a rotation, as long as the former one is there.
    rotated = ServerSettings(pepper=f"current {bytes(32).hex()}, previous {digits}")
    third = await agreed(DataFolder(tmp_path / "c", rotated), keys)
    assert third.log_secret() == one.log_secret()
    assert third.log_secret() != OTHER


async def test_a_log_secret_that_is_lost_or_another_is_refused(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    folder = DataFolder(tmp_path / "a")
    await agree_on_secrets(folder, keys, NOW, fleet=False)
    kept = (folder.path / "log-secret").read_bytes()
    (folder.path / "log-secret").unlink()
    detail = await refused(folder, keys, "log_secret_missing", fleet=False)
    assert "restore it from backup" in detail
    (folder.path / "log-secret").write_bytes(OTHER)
    await refused(folder, keys, "log_secret_differs", fleet=False)
    (folder.path / "log-secret").write_text(f"{kept.hex()}\n")
    await agree_on_secrets(folder, keys, NOW, fleet=False)
    assert folder.log_secret() == kept


@pytest.mark.parametrize("name", ["pepper", "log-secret"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.symlink_to("/nowhere/secret"), "is a link to /nowhere/secret"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is damaged"),
        (lambda path: path.write_bytes(b"short"), "is damaged"),
        (lambda path: os.mkfifo(path), "is no file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["dangling", "folder", "empty", "short", "pipe", "circle"],
)
async def test_what_stands_in_a_secrets_place_and_is_none_is_one_clear_line(
    tmp_path: Path, keys: SqliteKeys, name: str, make: object, said: str
) -> None:
    folder = DataFolder(tmp_path / "a")
    make(folder.path / name)  # type: ignore[operator]
    code = f"{name.replace('-', '_')}_damaged"
    detail = await refused(folder, keys, code)
    assert said in detail
    assert str(folder.path / name) in detail


async def test_files_that_settings_name_are_used_and_never_made(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    named = ServerSettings(pepper_file=str(tmp_path / "p"), log_secret_file=str(tmp_path / "s"))
    folder = DataFolder(tmp_path / "a", named)
    assert "server.pepper_file" in await refused(folder, keys, "pepper_missing")
    (tmp_path / "p").write_bytes(OTHER)
    assert str(tmp_path / "s") in await refused(folder, keys, "log_secret_missing")
    (tmp_path / "s").write_bytes(bytes(32))
    await agreed(folder, keys)
    assert folder.peppers.read().current.secret == OTHER
    assert folder.log_secret() == bytes(32)
    assert list(folder.path.iterdir()) == []


async def test_a_pepper_may_be_a_file_of_hexadecimal_digits_alone(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    folder = DataFolder(tmp_path / "a")
    (folder.path / "pepper").write_text(f"{OTHER.hex()}\n")
    await agreed(folder, keys)
    assert folder.peppers.read().current.secret == OTHER


async def test_secrets_in_the_environment_are_used_and_not_shown(
    tmp_path: Path, keys: SqliteKeys
) -> None:
    digits = OTHER.hex()
    environ = {
        "AUDIT_GATEWAY_SERVER__PEPPER": digits,
        "AUDIT_GATEWAY_SERVER__LOG_SECRET": digits,
    }
    settings = load(None, environ, {"data": str(tmp_path / "a")})
    folder = await agreed(DataFolder.of(settings), keys)
    assert folder.peppers.newest().current.secret == folder.log_secret() == OTHER
    assert list(folder.path.iterdir()) == []
    shown = CliRunner(env=environ).invoke(cli, ["config", "check"])
    assert shown.exit_code == 0
    assert digits[:8] not in shown.output + repr(settings)
    with pytest.raises(GatewayError, match=r"server\.pepper"):
        folder.peppers.change(lambda peppers: peppers.with_coming(bytes(32)))


@pytest.mark.parametrize("value", ["0f1e", "x" * 64, f"current {'a' * 63}", f"newest {'a' * 64}"])
def test_a_secret_that_is_none_is_refused_without_repeating_it(value: str) -> None:
    with pytest.raises(InvalidSetting) as error:
        load(None, {"AUDIT_GATEWAY_SERVER__PEPPER": value}, {})
    assert value not in error.value.detail


def test_two_places_for_one_secret_are_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"server\.pepper_file is set, too"):
        load(None, {}, {"server.pepper": "0" * 64, "server.pepper_file": "p"})


def test_the_commands_make_no_key_under_another_pepper_and_say_which_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUDIT_GATEWAY_DATA", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        done = CliRunner().invoke(cli, [*arguments, "--data", str(tmp_path / "data")])
        message = getattr(done.exception, "detail", "")
        return done.exit_code, done.stdout, done.stderr + message

    create = ("keys", "create", "--name", "siem", "--purpose", "p", "--role", "producer")
    _, out, _ = run(*create, "--json")
    key_id = json.loads(out)["id"]
    pepper = tmp_path / "data" / "pepper"
    needed = pepper_id(pepper.read_bytes())
    pepper.unlink()
    code, _, said = run(*create)
    assert code != 0
    assert needed in said
    assert not pepper.exists()
    assert run("keys", "rotate", key_id)[0] != 0
    code, out, said = run("pepper", "status")
    assert code == 1
    assert f"{needed}  missing   1 keys" in out
    assert "restore it from backup" in said
    # Keys can still be seen and revoked.
    assert key_id in run("keys", "list")[1]
    assert run("keys", "revoke", key_id)[0] == 0
    assert run("pepper", "status")[0] == 0
