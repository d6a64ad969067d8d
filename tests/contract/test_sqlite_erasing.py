"""What SQLite's files hold of secrets that were destroyed: nothing, while others have them open."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.adapters.sqlite.delivery.destinations import SqliteDestinations
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.delivery.definition import Definition
from gateway.delivery.destination import Destination, SealedSecret

PLANTED = b"planted-4711-of-a-secret"


def has_planted(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if PLANTED in path.read_bytes()]


@pytest.mark.parametrize("length", [100, 30_000])
async def test_nothing_is_left_of_a_note_that_is_erased(tmp_path: Path, length: int) -> None:
    keys, other = SqliteKeys(tmp_path / "keys.db"), SqliteKeys(tmp_path / "keys.db")
    secret = PLANTED + b"x" * length
    try:
        for number in range(20):
            await keys.update_notes("k", {f"n{number}": lambda _: b"y" * length})
        await keys.update_notes("k", {"secret": lambda _: secret})
        await keys.update_notes("k", {"n3": lambda _: None})
        assert await other.note("k", "secret") == secret
        assert has_planted(tmp_path), "it is stored"
        await keys.update_notes("k", {"secret": lambda _: b"z"}, erases=True)
        assert await other.note("k", "secret") == b"z"
        assert has_planted(tmp_path) == []
    finally:
        await keys.close()
        await other.close()


@pytest.mark.parametrize("deletes", [True, False])
async def test_nothing_is_left_of_the_secrets_of_a_destination_that_are_gone(
    tmp_path: Path, deletes: bool
) -> None:
    path = tmp_path / "destinations.db"
    store, other = SqliteDestinations(path), SqliteDestinations(path)
    definition = Definition(name="siem", type="http", key="k" * 12, settings={"url": "https://x"})
    secret = SealedSecret(pepper="p", sealed=b"s", set_at=1.5, fingerprint=PLANTED.decode())
    made = Destination(
        definition=definition, secrets={"token": (secret,)}, since=1.0, created_at=1.0
    )
    try:
        await store.change("siem", lambda before, others: made)
        assert has_planted(tmp_path), "it is stored"
        after = None if deletes else replace(made, secrets={})
        await store.change("siem", lambda before, others: after)
        assert len(await other.all()) == (0 if deletes else 1)
        assert has_planted(tmp_path) == []
    finally:
        await store.close()
        await other.close()
