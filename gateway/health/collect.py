"""DoctorFacts about a gateway that its stores and files hold, for `gateway.health.doctor`."""

from __future__ import annotations

import resource
import shutil
import stat
import sys
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.access.administration.role_lookup import grants_by_role
from gateway.access.keys.key_store import KeysAndRoles, Notes, NotesOfKeys
from gateway.access.policy.decision import effective_grants
from gateway.health.doctor import FileFacts, KeyTally
from gateway.oversight.access_log.past_access import READING
from gateway.oversight.detection.profile_store import ProfileStore
from gateway.oversight.inventory.key_query import KeyFacts
from gateway.scheduling.loop_work import Slices
from gateway.settings.declarations import Settings
from gateway.settings.kinds import SQLITE

SILENT_CONSUMER = "silent_consumer"
BACKUP, NEWEST = "backup", "newest"
_PRIVATE = ("keys.db", "consumers.db", "destinations.db", "pepper", "log-secret", "first-admin-key")
_OTHERS = stat.S_IRWXO | stat.S_IRWXG


class DoctorStore(KeysAndRoles, NotesOfKeys, Protocol):
    """Keys, roles and notes."""


def file_facts(settings: Settings) -> FileFacts:
    """DoctorFacts about the data folder. Blocking: call it on a thread."""
    folder, log = settings.data, Path(settings.store_url.removeprefix(SQLITE))
    readable = [one for one in (folder, *(folder / name for name in _PRIVATE)) if _is_open(one)]
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return FileFacts(tuple(map(str, readable)))
    size = None
    if not settings.on_postgres:
        parts = [log.with_name(f"{log.name}{end}") for end in ("", "-wal")]
        size = sum(part.stat().st_size for part in parts if part.exists())
    return FileFacts(tuple(map(str, readable)), disk.free, disk.total, size or None)


async def tally_keys(store: DoctorStore, slices: Slices, now: float) -> KeyTally:
    """Living keys that want looking at."""
    roles, uses = await grants_by_role(store), await ProfileStore(store).last_uses()
    tally = KeyTally()
    async for part in store.parts():
        await slices.rest()
        async for key in slices.each(part):
            use = uses.get(key.id)
            used_at = use.used_at if use is not None else 0.0
            facts = KeyFacts(key, effective_grants(key, roles), now, used_at, None)
            _count(tally, facts)
    return tally


def _count(tally: KeyTally, facts: KeyFacts) -> None:
    if not facts.living:
        return
    key = facts.key
    tally.living += 1
    for wanted, ids in (
        (not key.owner, tally.ownerless),
        (facts.expiring(), tally.expiring),
        (facts.unused() and not facts.never_used, tally.unused),
        (facts.unused() and facts.never_used, tally.never_used),
        (_reaches_every_tenant(facts), tally.every_tenant),
    ):
        if wanted:
            ids.append(key.id)


def _reaches_every_tenant(facts: KeyFacts) -> bool:
    return any(
        grant.effect == "allow"
        and not set(grant.actions).isdisjoint(READING)
        and not (grant.tenants or grant.resources)
        for grant in facts.grants
    )


async def note_backup(store: Notes, at: float) -> None:
    """Note that a backup was made."""
    note = msgspec.json.encode({"at": at})
    await store.update_notes(BACKUP, {NEWEST: lambda known: note})


async def newest_backup(store: Notes) -> float | None:
    """When the newest backup was made, in seconds since 1970."""
    note = await store.note(BACKUP, NEWEST)
    return None if note is None else float(msgspec.json.decode(note)["at"])


def descriptors() -> int:
    """Descriptors that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _is_open(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False
