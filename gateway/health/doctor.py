"""Checks of how a gateway is set up, and of what it runs into, from facts about it. Pure.

Each check has a code, which is a heading of deploy/doctor.md. A check of which the facts are not
known, as on a folder whose processes are not asked, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from gateway.fleet.health import REASONS, GatewayAnswer
from gateway.json_members import about
from gateway.network import Network
from gateway.settings.declarations import Settings

CheckResult = Literal["ok", "warn", "fail"]
_DAY = 86400
_GIB = 1 << 30
# Share of a disk, and bytes, below which it is nearly full; and so full that writes fail soon.
_LITTLE, _NONE = (0.10, 2 * _GIB), (0.03, _GIB // 4)
_BACKUP_SECONDS = 7 * _DAY
_BEHIND_SECONDS = 300.0
_FEW_DESCRIPTORS = 1024
_SPARE_DESCRIPTORS = 64
_MOST_NAMED = 5
# Prefixes of networks that are more than the proxies of one house.
_WIDE = {4: 8, 6: 32}
# Of these reasons of a status a gateway delivers all the same, but not to everybody.
_FAILURES = frozenset({"pepper_missing", "certificate_refused"})


class CheckAnswer(msgspec.Struct, kw_only=True):
    """One check."""

    result: CheckResult
    code: Annotated[str, about("A heading of deploy/doctor.md.")]
    detail: str
    advice: Annotated[str, about("What to do; empty if it is ok.")]


class DoctorAnswer(msgspec.Struct):
    """All checks whose facts are known."""

    checks: list[CheckAnswer]


class KeyTally(msgspec.Struct):
    """Ids of living keys that want looking at, each in the order of the store."""

    living: int = 0
    ownerless: list[str] = []
    expiring: list[str] = []
    unused: list[str] = []
    never_used: list[str] = []
    every_tenant: list[str] = []


class FileFacts(msgspec.Struct, frozen=True):
    """The data folder: files that others can read, and the room on its disk. `log_bytes` is None
    for a log that is not there."""

    readable: tuple[str, ...] = ()
    free_bytes: int = 0
    total_bytes: int = 0
    log_bytes: int | None = None


class ReasonFact(NamedTuple):
    """Reason of a status that was found, of those that could be."""

    code: str
    detail: str


class DoctorFacts(msgspec.Struct, kw_only=True):
    """What is known of a gateway at `now` (seconds since 1970)."""

    now: float
    settings: Settings
    files: FileFacts
    # What of `REASONS` was looked for, and what was found.
    looked_for: frozenset[str]
    reasons: Sequence[ReasonFact]
    key_tally: KeyTally | None = None
    store_error: str = ""
    log_span: float | None = None
    backup_at: float | None = None
    descriptors: int | None = None
    gateways: Sequence[GatewayAnswer] = ()
    lags: dict[str, float] = {}
    findings: int | None = None
    silent_consumers: int | None = None


class _Check(NamedTuple):
    """A check: what to do, and its answer as `(result, detail)`; None if it is not known."""

    advice: str
    decide: Callable[[DoctorFacts], tuple[CheckResult, str] | None]


def examine(facts: DoctorFacts) -> DoctorAnswer:
    """All checks in their order."""
    return DoctorAnswer(list(_of_reasons(facts)) + list(_of_checks(facts)))


def _of_reasons(facts: DoctorFacts) -> Iterator[CheckAnswer]:
    for code, kind in REASONS.items():
        if code not in facts.looked_for:
            continue
        found = [one.detail for one in facts.reasons if one.code == code]
        bad = kind.delivery not in ("ok", "slow") or code in _FAILURES
        for detail in found:
            yield _answer("fail" if bad else "warn", code, detail, kind.advice)
        if not found:
            yield _answer("ok", code, "not found", "")


def _of_checks(facts: DoctorFacts) -> Iterator[CheckAnswer]:
    for code, check in CHECKS.items():
        decided = check.decide(facts)
        if decided is not None:
            yield _answer(decided[0], code, decided[1], check.advice)


def _answer(result: CheckResult, code: str, detail: str, advice: str) -> CheckAnswer:
    shown = "" if result == "ok" else advice
    return CheckAnswer(result=result, code=code, detail=detail, advice=shown)


def _store_version(facts: DoctorFacts) -> tuple[CheckResult, str]:
    if facts.store_error:
        return "fail", facts.store_error
    return "ok", "this version reads the stores"


def _files_readable(facts: DoctorFacts) -> tuple[CheckResult, str]:
    found = facts.files.readable
    if found:
        return "warn", f"others on this machine can read {', '.join(found)}"
    return "ok", "the data folder is its user's alone"


def _disk_full(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
    free, total = facts.files.free_bytes, facts.files.total_bytes
    if not total:
        return None
    told = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB are free on the disk of the data folder"
    for result, (share, least) in (("fail", _NONE), ("warn", _LITTLE)):
        if free < min(share * total, least):
            return "fail" if result == "fail" else "warn", told
    return "ok", told


def _retention(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
    store, files = facts.settings.store, facts.files
    if not store.retention_age and not store.retention_bytes:
        return "warn", "events are kept for ever, and the log grows without end"
    if store.retention_bytes:
        return "ok", "the log has a largest size"
    if files.log_bytes is None or not facts.log_span:
        return None
    wanted = files.log_bytes / facts.log_span * store.retention_age
    room = files.log_bytes + files.free_bytes
    if facts.log_span >= _DAY and wanted > room:
        return "warn", (
            f"as it grows now the log takes {wanted / _GIB:.1f} GiB until events are old enough to "
            f"be deleted, and there are {room / _GIB:.1f}"
        )
    return "ok", "events are deleted before the disk is full, as the log grows now"


def _descriptors(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
    if facts.descriptors is None:
        return None
    most = facts.settings.server.max_connections
    wanted = most + _SPARE_DESCRIPTORS if most else _FEW_DESCRIPTORS
    told = f"each process may have {facts.descriptors} descriptors open"
    if facts.descriptors < wanted:
        return "warn", f"{told}, and {wanted} are wanted for its connections"
    return "ok", told


def _redis_open(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
    url = facts.settings.redis.url
    if not url:
        return None
    parts = urlsplit(url)
    near = parts.hostname in (None, "localhost", "127.0.0.1", "::1")
    if parts.password or near:
        return "ok", "Redis asks for a password, or is reached on this machine alone"
    return "warn", "Redis is on another machine, and asks for no password"


def _proxies_wide(facts: DoctorFacts) -> tuple[CheckResult, str]:
    wide = [str(one) for one in facts.settings.server.trusted_proxies if _is_wide(one)]
    if wide:
        return "warn", (
            f"server.trusted_proxies has {', '.join(wide)}: whoever is there may name any address "
            "as the client's"
        )
    return "ok", "only a few proxies are believed"


def _is_wide(network: Network) -> bool:
    return network.prefixlen < _WIDE[network.version]


def _backup_old(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
    if facts.settings.on_postgres:
        # Made by the tools of the database, which tell nobody.
        return None
    if facts.backup_at is None:
        return "warn", "no backup was made with `audit-gateway log backup`"
    age = facts.now - facts.backup_at
    told = f"the newest backup is {age / _DAY:.0f} days old"
    return ("warn" if age > _BACKUP_SECONDS else "ok"), told


def _uneven(facts: DoctorFacts, member: str, what: str) -> tuple[CheckResult, str] | None:
    found: dict[str, list[str]] = {}
    for one in facts.gateways:
        if one.answers:
            found.setdefault(str(getattr(one, member)), []).append(one.name)
    if not found:
        return None
    if len(found) > 1:
        told = "; ".join(f"{value}: {_named(names)}" for value, names in sorted(found.items()))
        return "warn", f"processes have different {what}: {told}"
    return "ok", f"all processes have the same {what}"


def _destinations(facts: DoctorFacts) -> tuple[CheckResult, str]:
    late = {name: lag for name, lag in facts.lags.items() if lag > _BEHIND_SECONDS}
    if late:
        told = _named([f"{name} ({lag:.0f} s)" for name, lag in late.items()])
        return "warn", f"destinations are behind the log: {told}"
    return "ok", f"{len(facts.lags)} destinations, none over 5 minutes behind"


def _findings(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
    if facts.findings is None:
        return None
    return ("warn" if facts.findings else "ok"), f"{facts.findings} findings are open"


def _silent(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
    count = facts.silent_consumers
    if count is None:
        return None
    return ("warn" if count else "ok"), f"{count} open findings are of readers that take nothing"


def _keys(member: str, told: str) -> Callable[[DoctorFacts], tuple[CheckResult, str] | None]:
    def decide(facts: DoctorFacts) -> tuple[CheckResult, str] | None:
        if facts.key_tally is None:
            return None
        found: list[str] = getattr(facts.key_tally, member)
        if not found:
            return "ok", f"none of {facts.key_tally.living} living keys {told}"
        return (
            "warn",
            f"{len(found)} of {facts.key_tally.living} living keys {told}: {_named(found)}",
        )

    return decide


def _named(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


CHECKS: dict[str, _Check] = {
    "store_version": _Check(
        "run the version that wrote the store, or migrate it: deploy/upgrading.md",
        _store_version),
    "files_readable": _Check(
        "chmod 700 the data folder, and 600 the secrets in it", _files_readable),
    "disk_full": _Check(
        "make room, or lower store.retention_age or store.retention_bytes", _disk_full),
    "retention_unbounded": _Check(
        "set store.retention_age or store.retention_bytes to what the disk holds", _retention),
    "descriptors_few": _Check(
        "raise the limit of open files (LimitNOFILE of the service)", _descriptors),
    "redis_open": _Check("set a password in Redis, and in redis.url", _redis_open),
    "proxies_wide": _Check(
        "name the addresses of your proxies alone in server.trusted_proxies", _proxies_wide),
    "backup_old": _Check(
        "run `audit-gateway log backup FOLDER` from a timer, and keep its copies elsewhere",
        _backup_old),
    "versions_uneven": _Check(
        "finish the upgrade: run one version everywhere",
        lambda facts: _uneven(facts, "version", "versions")),
    "settings_uneven": _Check(
        "give all replicas the same settings but for their own addresses, and restart them",
        lambda facts: _uneven(facts, "settings", "settings")),
    "destinations_behind": _Check(
        "see GET /v1/destinations/{name} for the last error, and whether the receiver keeps up",
        _destinations),
    "consumers_silent": _Check(
        "see GET /v1/streams?state=stalled, and whether these readers still run", _silent),
    "findings_open": _Check(
        "look at each with `audit-gateway findings list --state open`", _findings),
    "keys_without_owner": _Check(
        "find out whose they are, and give them an owner, or revoke them",
        _keys("ownerless", "have no owner")),
    "keys_expiring": _Check(
        "rotate those that are in use, before they end", _keys("expiring", "end within 14 days")),
    "keys_unused": _Check(
        "ask their owners, and revoke those that nobody needs",
        _keys("unused", "were not used for 30 days")),
    "keys_never_used": _Check(
        "ask who was to use them, and revoke them otherwise",
        _keys("never_used", "were never used")),
    "keys_every_tenant": _Check(
        "narrow their grants by `tenants`, unless they are meant to read all",
        _keys("every_tenant", "may read events of every tenant")),
}  # fmt: skip
