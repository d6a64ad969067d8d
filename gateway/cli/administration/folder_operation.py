"""Health and findings on the stores of a gateway, without asking its processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gateway.cli.base.key_folder import key_store, run
from gateway.cli.base.operator import this_operator
from gateway.cli.base.stores import log_to_read

if TYPE_CHECKING:
    from gateway.cli.administration.ports import Members
    from gateway.fleet.health import Fault, LogHealth
    from gateway.oversight.detection.finding import Finding
    from gateway.settings.declarations import Settings
    from gateway.trusted_clock import TrustedClock


class FindingsInFolder:
    """Implements `gateway.cli.administration.ports.FindingCommands`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def all(self, wanted: dict[str, str], limit: int) -> list[Members]:
        from gateway.oversight.detection.findings import StoredFindings

        async def work() -> list[Members]:
            async with key_store(self._settings) as (store, clock):
                found = await StoredFindings(store, clock).all()
            shown = [_members(one.public()) for one in found]
            # As over HTTP, a key that is not said is null.
            return [
                one for one in shown if all(one.get(name) == text for name, text in wanted.items())
            ][:limit]

        return run(work())

    def mark(self, finding_id: str, reason: str, *, expected: bool) -> Members:
        from gateway.access.keys.lifecycle import check_reason
        from gateway.errors import NotFound
        from gateway.oversight.detection.findings import StoredFindings

        operator, checked = this_operator(), check_reason(reason)

        async def work() -> Members:
            async with key_store(self._settings, change=True) as (store, clock):
                findings = StoredFindings(store, clock)
                known = await findings.get(finding_id)
                if known is not None:
                    _refuse_own(known, operator.person)
                marked = await findings.mark(
                    finding_id, expected=expected, by=operator, reason=checked
                )
            if marked is None:
                raise NotFound("there is no finding with this id", code="unknown_finding")
            members: Members = _members(marked.public())
            return members

        return run(work())


class HealthOfFolder:
    """Implements `gateway.cli.administration.ports.HealthCommands`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def status(self) -> Members:
        from gateway.clock import format_time
        from gateway.fleet.health import reasons_of, worst
        from gateway.oversight.detection.findings import StoredFindings

        async def work() -> Members:
            async with key_store(self._settings) as (store, clock):
                found: list[Fault] = []
                log = await self._log(found)
                destinations = [] if log is None else await self._destinations(found, clock)
                findings = await StoredFindings(store, clock).all()
                opened = sum(one.state == "open" for one in findings)
            level, now = worst(found), clock.now()
            return {
                "delivery": None if level == "ok" else level,
                "since": format_time(now),
                "reasons": _members(reasons_of(("", _since(one, now)) for one in found)),
                "gateways": [],
                "log": log and _members(log),
                "streams": None,
                "destinations": destinations,
                "findings": {"open": opened},
            }

        return run(work())

    def doctor(self) -> Members:
        from gateway.cli.administration.folder_doctor import examined

        return run(examined(self._settings))

    async def _log(self, found: list[Fault]) -> LogHealth | None:
        from gateway.errors import GatewayError
        from gateway.fleet.health import Fault
        from gateway.health.stores import log_ages, log_health

        try:
            async with log_to_read(self._settings) as log:
                return log_health(log, self._settings, await log_ages(log))
        except GatewayError as error:
            found.append(Fault("store_away", error.detail))
            return None

    async def _destinations(self, found: list[Fault], clock: TrustedClock) -> list[Members]:
        from gateway.delivery.running.meter import DestinationMeter
        from gateway.health.stores import destination_faults, destination_health
        from gateway.runtime.stores import open_consumers, open_destinations

        consumers = await open_consumers(self._settings)
        store = await open_destinations(self._settings)
        try:
            async with log_to_read(self._settings) as log:
                numbers = await DestinationMeter(store, consumers, log, clock).numbers()
        finally:
            await store.close()
            await consumers.close()
        found += destination_faults(numbers)
        return [_members(destination_health(one)) for one in numbers]


def _since(fault: Fault, now: float) -> Fault:
    return fault if fault.since else msgspec.structs.replace(fault, since=now)


def _refuse_own(finding: Finding, person: str) -> None:
    """Raise if a finding is about whoever is to judge it."""
    from gateway.errors import Forbidden

    if finding.operator == person:
        raise Forbidden(
            "this finding is about what you have done at the command line; have somebody else "
            "review it",
            code="own_case",
        )


def _members(answer: Any) -> Any:
    return msgspec.to_builtins(answer)
