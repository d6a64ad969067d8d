"""Administration of keys and roles on the stores of a gateway."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.cli.base.key_folder import administer, key_store, run
from gateway.cli.base.stores import log_to_read

if TYPE_CHECKING:
    from gateway.access.administration.administration import Administration
    from gateway.access.keys.key import Key
    from gateway.cli.administration.ports import Members
    from gateway.oversight.review.document import Facts
    from gateway.runtime.stored_keys import Documents
    from gateway.settings.declarations import Settings

_SECONDS = 600.0
_EVENTS = 1_000_000
_HISTORY_EVENTS = 1000


class KeysInFolder:
    """Implements `gateway.cli.administration.ports.KeyAdministration`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def create(self, body: Members, reason: str) -> Members:
        from gateway.access.keys.issuance import parse_key_request

        request = parse_key_request(body, self._settings.keys)
        issued = administer(
            self._settings, lambda admin: admin.create(request), make=True, change=True,
            reason=reason,
        )  # fmt: skip
        return _members(issued.public())

    def all(self) -> list[Members]:
        async def work(admin: Administration) -> list[Members]:
            return [_members(key.public(admin.now())) async for key in admin.all_keys()]

        return administer(self._settings, work)

    def show(self, key_id: str) -> Members:
        from gateway.access.keys.key_lookup import known_key
        from gateway.oversight.detection.profile_store import ProfileStore

        async def work() -> Members:
            async with key_store(self._settings) as (store, clock):
                key = await known_key(store, key_id)
                profile = await ProfileStore(store).of(key_id)
                return {**_members(key.public(clock.now())), "last_used": profile.last_use()}

        return run(work())

    def change(self, key_id: str, patch: Members, reason: str) -> Members:
        from gateway.access.administration.key_patch import parse_key_patch

        parsed = parse_key_patch(patch)
        return self._change(lambda admin: admin.change(key_id, parsed), reason)

    def rotate(
        self, key_id: str, overlap: str | None, reason: str, *, hold: bool = False
    ) -> Members:
        issued = administer(
            self._settings, lambda admin: admin.rotate(key_id, overlap, hold=hold), change=True,
            reason=reason,
        )  # fmt: skip
        return _members(issued.public())

    def confirm(self, key_id: str, reason: str) -> Members:
        return self._change(lambda admin: admin.confirm(key_id), reason)

    def suspend(self, key_id: str, reason: str) -> Members:
        return self._change(lambda admin: admin.suspend(key_id, reason))

    def resume(self, key_id: str, reason: str) -> Members:
        return self._change(lambda admin: admin.resume(key_id), reason)

    def revoke(self, key_id: str, reason: str, *, with_descendants: bool) -> Members:
        revocation = administer(
            self._settings,
            lambda admin: admin.revoke(key_id, reason, with_descendants=with_descendants),
            change=True,
        )
        return _members(revocation.public())

    def document(self, key_id: str, kind: str) -> str:
        from gateway.oversight.review.document import as_json, blocks
        from gateway.oversight.review.document_text import to_html, to_markdown

        facts = run(self._facts(key_id))
        if kind == "json":
            return msgspec.json.encode(as_json(facts)).decode()
        return (to_html if kind == "html" else to_markdown)(blocks(facts))

    def explain(self, key_id: str, question: Members) -> Members:
        from gateway.access.administration.role_lookup import grants_by_role
        from gateway.access.keys.key_lookup import known_key
        from gateway.access.keys.rotation_chain import ended_issuer
        from gateway.access.policy.attributed_grant import grants_of_key
        from gateway.oversight.review.access_query import parse_access_query
        from gateway.oversight.review.explain import explain

        async def work() -> Members:
            async with key_store(self._settings) as (store, clock):
                key = await known_key(store, key_id)
                grants = grants_of_key(key, await grants_by_role(store))
                query = parse_access_query(question, clock.now())
                found = explain(key, grants, query, await ended_issuer(store, key, query.now))
                return _members(found.public())

        return run(work())

    def simulate(self, key_id: str, proposal: Members) -> Members:
        return run(self._simulated(key_id, proposal))

    def history(self, key_id: str, since: str | None) -> Iterator[bytes]:
        # Read while it is printed, by a loop of its own: it may be long.
        import asyncio

        lines = self._lines(key_id, since)
        with asyncio.Runner() as runner:
            try:
                while (line := runner.run(anext(lines, None))) is not None:
                    yield line
            finally:
                runner.run(lines.aclose())

    def usage(self, key_id: str, window: str, step: str) -> Members:
        from gateway.access.keys.key_lookup import known_key
        from gateway.access.usage.meter import Meter
        from gateway.clock import parse_duration
        from gateway.runtime.select_backend import ledger_to_read

        async def work() -> Members:
            async with key_store(self._settings) as (store, clock):
                await known_key(store, key_id)
            async with ledger_to_read(self._settings, clock) as ledger:
                meter = Meter(ledger, clock)
                rows = await meter.rows(key_id, parse_duration(window), parse_duration(step))
            return {"id": key_id, "rows": [_members(row.public()) for row in rows]}

        return run(work())

    def stored(self) -> tuple[list[Members], list[Members]]:
        """Read as they are stored, without a look at keys: also stores of earlier versions."""
        from gateway.access.keys.unreadable import read_key, read_role

        keys, roles = run(_documents(self._settings))
        read = (read_key(key_id, document, b"", 0) for key_id, document in keys.items())
        named = (read_role(name, document) for name, document in roles.items())
        return (
            [_members(key.public(0.0)) for key in read],
            [_members(role.public()) for role in named],
        )

    def _change(
        self, change: Callable[[Administration], Awaitable[Key]], reason: str = ""
    ) -> Members:
        async def work(admin: Administration) -> Members:
            return _members((await change(admin)).public(admin.now()))

        return administer(self._settings, work, change=True, reason=reason)

    async def _facts(self, key_id: str) -> Facts:
        from gateway.access.administration.role_lookup import grants_by_role
        from gateway.access.keys.key_lookup import known_key
        from gateway.access.keys.rotation_chain import ended_issuer, rotation_chain_of
        from gateway.access.policy.attributed_grant import grants_of_key
        from gateway.access.policy.reader import SEES_EVERYTHING
        from gateway.oversight.access_log.past_access import Presence
        from gateway.oversight.detection.profile_store import ProfileStore
        from gateway.oversight.review.key_review import ReviewBudget, key_facts
        from gateway.scheduling.loop_work import LoopWork

        async with key_store(self._settings) as (store, clock):
            key = await known_key(store, key_id)
            grants = grants_of_key(key, await grants_by_role(store))
            profile = await ProfileStore(store).of(key_id)
            line = await rotation_chain_of(store, key)
            ended = await ended_issuer(store, key, clock.now())
        async with log_to_read(self._settings) as log:
            return await key_facts(
                log, clock, key, grants, rotation_chain=line, ended_issuer=ended,
                last_use=profile.last_use(),
                presence=Presence((), profile.used_at, profile.address),
                reader=SEES_EVERYTHING, patience=ReviewBudget(_SECONDS, _EVENTS),
                slices=LoopWork(clock).slices(key_id),
            )  # fmt: skip

    async def _simulated(self, key_id: str, proposal: Members) -> Members:
        from gateway.access.administration.role_lookup import combined_grants, grants_by_role
        from gateway.access.grants.grant import parse_grants
        from gateway.access.grants.role import parse_role_names
        from gateway.access.keys.key_lookup import known_key
        from gateway.access.policy.attributed_grant import grants_of_key
        from gateway.access.policy.reader import SEES_EVERYTHING
        from gateway.clock import parse_duration
        from gateway.oversight.access_log.past_access import Presence
        from gateway.oversight.detection.profile_store import ProfileStore
        from gateway.oversight.review import key_review
        from gateway.oversight.review.simulation import Simulation
        from gateway.scheduling.loop_work import LoopWork

        own, wanted = parse_grants(proposal["grants"]), parse_role_names(proposal["roles"])
        async with key_store(self._settings) as (store, clock):
            key, known = await known_key(store, key_id), await grants_by_role(store)
            profile = await ProfileStore(store).of(key_id)
            after = combined_grants(own, wanted, known)
        simulation = Simulation(grants_of_key(key, known), after)
        async with log_to_read(self._settings) as log:
            patience = key_review.ReviewBudget(_SECONDS, _EVENTS)
            review = key_review.Review(log, clock, patience, LoopWork(clock).slices(key_id))
            found = await key_review.simulate(
                simulation, review, key_id, clock.now() - parse_duration(proposal["since"]),
                presence=Presence((), profile.used_at, profile.address), reader=SEES_EVERYTHING,
                with_uses=True,
            )  # fmt: skip
        return {"key": key_id, "complete": review.complete, **_members(found)}

    async def _lines(self, key_id: str, since: str | None) -> AsyncGenerator[bytes]:
        from gateway.access.grants.mask import Masks
        from gateway.access.keys.key_lookup import known_key
        from gateway.clock import SystemClock, parse_duration
        from gateway.log.ports import RetentionExceeded
        from gateway.oversight.access_log.history import history_start, read_history
        from gateway.scheduling.loop_work import LoopWork

        async with key_store(self._settings) as (store, clock):
            key = await known_key(store, key_id)
        start = key.created_at if since is None else clock.now() - parse_duration(since)
        async with log_to_read(self._settings) as log:
            reached = await history_start(log, start)
            slices = LoopWork(SystemClock()).slices(key_id)
            while reached < log.head:
                try:
                    page = await read_history(
                        log, SystemClock(), key_id, reached, lambda event: Masks(),
                        limit=_HISTORY_EVENTS, seconds=_SECONDS, slices=slices,
                    )  # fmt: skip
                except RetentionExceeded:
                    reached = log.floor
                    continue
                for event in page.events:
                    yield event.json
                reached = page.reached


class RolesInFolder:
    """Implements `gateway.cli.administration.ports.RoleAdministration`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def all(self) -> list[Members]:
        roles = administer(self._settings, lambda admin: admin.all_roles())
        return [_members(role.public()) for role in roles.values()]

    def show(self, name: str) -> Members:
        return _members(administer(self._settings, lambda admin: admin.role(name)).public())

    def put(self, name: str, body: Members, reason: str) -> Members:
        from gateway.access.grants.role import parse_role

        role = parse_role(name, body)

        async def work(admin: Administration) -> Members:
            await admin.put_role(role)
            return _members((await admin.role(name)).public())

        return administer(self._settings, work, make=True, change=True, reason=reason)

    def delete(self, name: str, reason: str) -> list[str]:
        return administer(
            self._settings, lambda admin: admin.delete_role(name), change=True, reason=reason
        )


async def _documents(settings: Settings) -> Documents:
    from gateway.errors import NotFound
    from gateway.runtime.stored_keys import read_postgres, read_sqlite

    if settings.on_postgres:
        return await read_postgres(settings.store_url)
    path = settings.data / "keys.db"
    if not path.exists():
        raise NotFound(
            f"there are no keys in {settings.data}; name the folder of the gateway with --data",
            code="no_keys",
        )
    return read_sqlite(path)


def _members(answer: Any) -> Members:
    members: Members = msgspec.to_builtins(answer)
    return members
