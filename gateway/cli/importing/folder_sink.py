"""Import into a data folder without a running gateway; decoding as over HTTP."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from gateway.adapters.files.agreement import agree_on_secrets
from gateway.adapters.files.folder import DataFolder
from gateway.cli.base.operator import record_act
from gateway.cli.base.stores import opened_keys
from gateway.clock import Clock
from gateway.errors import InvalidRequest
from gateway.event import Draft
from gateway.ingest.decode import decode_event
from gateway.ingest.ids import new_ids
from gateway.ingest.sink import Refusal, SendResult
from gateway.ingest.strict_json import Refused
from gateway.log.ports import Log
from gateway.runtime.stores import open_log
from gateway.settings.declarations import Settings
from gateway.settings.load import load


class FolderSink:
    """Sink that appends to the log of a folder. Raises `FolderLocked` if a gateway runs on it."""

    def __init__(self, data: Path, *, mapped: bool = False) -> None:
        self._mapped = mapped
        settings = load(None, os.environ, {"data": str(data)})
        DataFolder(settings.data)
        if settings.on_postgres:
            raise InvalidRequest(
                "--data writes into an embedded log, and the settings name PostgreSQL; "
                "import through a running gateway with --url"
            )
        self._runner = asyncio.Runner()
        try:
            self._log, clock = self._runner.run(_open(settings))
        except BaseException:
            self._runner.close()
            raise
        self._settings = settings
        self._sent = {"accepted": 0, "duplicates": 0, "refused": 0}
        self._ids = new_ids(clock.now)

    def send(self, lines: list[bytes]) -> SendResult:
        drafts: list[Draft] = []
        refused: list[Refusal] = []
        for index, line in enumerate(lines):
            try:
                drafts.append(decode_event(line, self._ids, mapped=self._mapped))
            except Refused as error:
                refused.append(Refusal(index, error.path, error.reason))
        [appended] = self._runner.run(self._log.append([drafts]))
        self._sent["accepted"] += appended.accepted
        self._sent["duplicates"] += appended.duplicates
        self._sent["refused"] += len(refused)
        return SendResult(appended.accepted, appended.duplicates, refused)

    def close(self) -> None:
        """Close the log and record the import, since it was written without a key."""
        try:
            self._runner.run(self._log.close())
            if any(self._sent.values()):
                recording = record_act(
                    self._settings, "log.imported", "log", {**self._sent}, make=True
                )
                self._runner.run(recording)
        finally:
            self._runner.close()


async def _open(settings: Settings) -> tuple[Log, Clock]:
    async with opened_keys(settings) as (keys, clock):
        await agree_on_secrets(DataFolder.of(settings), keys, clock.now(), fleet=False)
    return await open_log(settings, clock), clock
