"""Agreement of all gateways of one store on their secrets; creates missing ones once.

The store holds the ids of the secrets in use, as notes beside the keys. A gateway with other
secrets is refused at start: it would reject valid keys and store resent events twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gateway.access.credentials.pepper import Peppers
from gateway.access.keys.key import Key
from gateway.access.keys.key_store import NotesOfKeys
from gateway.access.keys.lifecycle import living_by_pepper
from gateway.adapters.files.folder import DataFolder
from gateway.adapters.files.log_secret import MISSING as LOG_SECRET_MISSING
from gateway.adapters.files.log_secret import LogSecretFile, derived_from, log_secret_id
from gateway.adapters.files.pepper_file import MISSING as PEPPER_MISSING
from gateway.adapters.files.pepper_file import PepperFile
from gateway.errors import GatewayError

KIND = "secret"
PEPPER = "pepper"
LOG = "log"
# A claim that no living key depends on expires after this time: its gateway is gone.
_CLAIM_SECONDS = 600.0
_MOST_NAMED = 3


class Claim(msgspec.Struct, frozen=True):
    """Id of a secret in use, and when it was claimed (seconds since 1970)."""

    id: str
    at: float


_DECODE = msgspec.json.Decoder(Claim).decode
_ENCODE = msgspec.json.Encoder().encode


async def agree_on_secrets(
    folder: DataFolder, store: NotesOfKeys, now: float, *, fleet: bool
) -> None:
    """Ensure that the folder holds the secrets of the store; create what is missing.

    `fleet`: other gateways may have other folders. Raises `GatewayError` with the remedy.
    """
    peppers = await agree_on_pepper(folder.peppers, store, now)
    await _agree_on_log_secret(folder.log_secret_file, store, now, peppers if fleet else None)


async def agree_on_pepper(file: PepperFile, store: NotesOfKeys, now: float) -> Peppers:
    """Peppers of the store; created only if no living key needs others. Raises `GatewayError`."""
    living = living_by_pepper(await store.all(), now)
    found = file.find()
    if found is None:
        claim = await _claim(store, PEPPER)
        if living or (claim is not None and now - claim.at < _CLAIM_SECONDS):
            needed = set(living) - {""} or ({claim.id} if claim is not None else set())
            raise _missing(file, needed, [key for keys in living.values() for key in keys])
        if file.named:
            raise GatewayError(
                f"server.pepper_file: there is no file {file.path}; mount it, or make it once for "
                f"all gateways: head -c 32 /dev/urandom > {file.path}",
                code=PEPPER_MISSING,
            )
        found = file.make()
    known = found.by_id()
    missing = {pepper: keys for pepper, keys in living.items() if pepper not in known}
    if missing:
        raise _missing(file, set(missing), [key for keys in missing.values() for key in keys])
    await claim_pepper(file, found, store, now, is_needed=bool(living))
    return found


async def claim_pepper(
    file: PepperFile, peppers: Peppers, store: NotesOfKeys, now: float, *, is_needed: bool = True
) -> None:
    """Claim the current pepper for all gateways. Raises `GatewayError` if the claim differs."""
    known = peppers.by_id()

    def choose(claim: Claim | None) -> str | None:
        if claim is None or (claim.id in known and known[claim.id].replaced):
            return peppers.current.id
        if claim.id in known:
            return claim.id
        return None if is_needed or now - claim.at < _CLAIM_SECONDS else peppers.current.id

    claimed = await _agree(store, PEPPER, choose, now)
    if claimed is not None:
        raise _missing(file, {claimed}, [])


async def _agree_on_log_secret(
    file: LogSecretFile, store: NotesOfKeys, now: float, shared: Peppers | None
) -> None:
    claim = await _claim(store, LOG)
    found = file.find()
    if found is None:
        secret = None
        if shared is not None:
            # Gateways with the same pepper derive the same secret. Until one is claimed, the oldest
            # pepper counts, because a rotation keeps it.
            made = [derived_from(one.secret) for one in reversed(shared.all)]
            secret = next((one for one in made if claim and log_secret_id(one) == claim.id), None)
            secret = secret or (made[0] if claim is None else None)
        if file.named or (claim is not None and secret is None):
            raise _log_secret_missing(file, claim)
        found = file.make(secret)
    own = log_secret_id(found)
    claimed = await _agree(
        store, LOG, lambda known: own if known is None or known.id == own else None, now
    )
    if claimed is not None:
        raise GatewayError(
            f"the secret of the log in {file.place} ({own}) is not the one of this log ({claimed}):"
            " copy log-secret from another gateway of this store, or restore it from backup; "
            "server.log_secret_file names it elsewhere",
            code="log_secret_differs",
        )


async def _claim(store: NotesOfKeys, name: str) -> Claim | None:
    document = await store.note(KIND, name)
    return None if document is None else _DECODE(document)


async def _agree(
    store: NotesOfKeys, name: str, choose: Callable[[Claim | None], str | None], now: float
) -> str | None:
    """Claim the id that `choose` returns. If it returns None, return the id claimed before."""
    differs: list[str] = []

    def noting(document: bytes | None) -> bytes | None:
        claim = None if document is None else _DECODE(document)
        chosen = choose(claim)
        differs.clear()
        if chosen is None:
            assert claim is not None
            differs.append(claim.id)
            return document
        return document if claim and claim.id == chosen else _ENCODE(Claim(chosen, now))

    await store.update_notes(KIND, {name: noting})
    return differs[0] if differs else None


def _missing(file: PepperFile, needed: set[str], keys: Sequence[Key]) -> GatewayError:
    """Error for keys that need an absent pepper; a new one would not make them work."""
    which = f"the pepper {', '.join(sorted(needed))}" if needed else "a pepper"
    who = f"{len(keys)} living keys need" if keys else "the gateways of this store have"
    if len(keys) == 1:
        who = "a living key needs"
    named = ", ".join(f"{key.id} ({key.name})" for key in keys[:_MOST_NAMED])
    named += ", .." if len(keys) > _MOST_NAMED else ""
    lost = "; if it is lost for good, revoke these keys first (`audit-gateway keys revoke`)"
    return GatewayError(
        f"{who} {which}, which is not in {file.place}: copy the file pepper from the folder of "
        "another gateway of this store, restore it from backup, or name it with "
        "server.pepper_file" + (f"{lost}: {named}" if keys else ""),
        code=PEPPER_MISSING,
    )


def _log_secret_missing(file: LogSecretFile, claim: Claim | None) -> GatewayError:
    if claim is None:
        how = f"make it once for all gateways: head -c 32 /dev/urandom > {file.path}"
    else:
        how = (
            f"copy log-secret ({claim.id}) from the folder of another gateway of this store, or "
            "restore it from backup"
        )
    return GatewayError(
        f"there is no secret of the log {file.place}; {how}", code=LOG_SECRET_MISSING
    )
