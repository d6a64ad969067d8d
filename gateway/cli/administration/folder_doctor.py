"""Checks of a gateway on its stores and files, without its processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.access.keys.lifecycle import living_by_pepper
from gateway.adapters.files.folder import DataFolder
from gateway.cli.base.key_folder import key_store
from gateway.cli.base.stores import log_to_read
from gateway.delivery.running.meter import DestinationMeter, DestinationNumbers
from gateway.errors import GatewayError
from gateway.health.collect import (
    SILENT_CONSUMER,
    DoctorStore,
    file_facts,
    newest_backup,
    tally_keys,
)
from gateway.health.doctor import DoctorFacts, ReasonFact, examine
from gateway.health.stores import Ages, destination_faults, log_ages
from gateway.http.tls.certificate import CertificateRefused, expiry_warning, load_certificate
from gateway.oversight.detection.findings import StoredFindings
from gateway.runtime.stores import open_consumers, open_destinations
from gateway.scheduling.loop_work import LoopWork
from gateway.settings.declarations import Settings
from gateway.settings.server import PLAIN_TEXT_WARNING
from gateway.trusted_clock import TrustedClock

_LOOKED_FOR = frozenset({
    "store_away", "destination_failing", "destination_disabled", "pepper_missing", "plain_text",
    "certificate_refused", "certificate_expiring",
})  # fmt: skip


async def examined(settings: Settings) -> dict[str, Any]:
    """All checks whose facts the stores and files have. Raises `GatewayError` where there are no
    keys that can be read."""
    # First, as to open a store mends the modes of its files.
    files = await asyncio.to_thread(file_facts, settings)
    try:
        async with key_store(settings) as (store, clock):
            facts = DoctorFacts(
                now=clock.now(), settings=settings, files=files, looked_for=_LOOKED_FOR,
                reasons=[*_of_settings(settings, clock.now())],
            )  # fmt: skip
            await _look(facts, store, clock)
    except GatewayError as error:
        if not error.code.startswith("schema_"):
            raise
        facts = DoctorFacts(
            now=0.0, settings=settings, files=files, looked_for=frozenset(), reasons=(),
            store_error=error.detail,
        )  # fmt: skip
    answer: dict[str, Any] = msgspec.to_builtins(examine(facts))
    return answer


async def _look(facts: DoctorFacts, store: DoctorStore, clock: TrustedClock) -> None:
    settings, found = facts.settings, list(facts.reasons)
    found += await _of_peppers(settings, store, facts.now)
    findings = [one for one in await StoredFindings(store, clock).all() if one.state == "open"]
    facts.findings = len(findings)
    facts.silent_consumers = sum(one.signal == SILENT_CONSUMER for one in findings)
    facts.key_tally = await tally_keys(store, LoopWork(clock).slices(""), facts.now)
    facts.backup_at = await newest_backup(store)
    try:
        (newest, oldest), numbers = await _of_log(settings, clock)
    except GatewayError as error:
        found.append(ReasonFact("store_away", error.detail))
    else:
        facts.log_span = None if newest is None or oldest is None else newest - oldest
        facts.lags = {one.name: one.lag.seconds for one in numbers}
        found += [ReasonFact(one.code, one.detail) for one in destination_faults(numbers)]
    facts.reasons = found


async def _of_log(settings: Settings, clock: TrustedClock) -> tuple[Ages, list[DestinationNumbers]]:
    async with log_to_read(settings) as log:
        ages = await log_ages(log)
        consumers = await open_consumers(settings)
        destinations = await open_destinations(settings)
        try:
            numbers = await DestinationMeter(destinations, consumers, log, clock).numbers()
        finally:
            await destinations.close()
            await consumers.close()
    return ages, list(numbers)


def _of_settings(settings: Settings, now: float) -> Iterator[ReasonFact]:
    if settings.server.is_readable_on_the_way:
        yield ReasonFact("plain_text", PLAIN_TEXT_WARNING)
    if settings.server.tls.certificate:
        try:
            certificate = load_certificate(settings.server.tls)
        except CertificateRefused as error:
            yield ReasonFact("certificate_refused", error.detail)
        else:
            if line := expiry_warning(certificate, now):
                yield ReasonFact("certificate_expiring", line)


async def _of_peppers(settings: Settings, store: DoctorStore, now: float) -> list[ReasonFact]:
    """Peppers that living keys need, and that are not here. None is made."""
    living = living_by_pepper(await store.all(), now)
    found = DataFolder.of(settings).peppers.find()
    known = {} if found is None else found.by_id()
    return [
        ReasonFact("pepper_missing", f"{len(keys)} living keys need the pepper {one or '(first)'}")
        for one, keys in sorted(living.items())
        if one not in known and (one or found is None)
    ]
