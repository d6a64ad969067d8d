"""Checks of how a gateway is set up: each by the facts that bring it about."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.fleet.health import REASONS, GatewayAnswer
from gateway.health.doctor import (
    CHECKS,
    CheckAnswer,
    DoctorFacts,
    FileFacts,
    KeyTally,
    ReasonFact,
    examine,
)
from gateway.settings.declarations import RedisSettings, Settings, StoreSettings
from gateway.settings.server import ServerSettings

PAGE = Path(__file__).parents[3] / "deploy/doctor.md"
DAY, GIB = 86400.0, 1 << 30
WELL = DoctorFacts(
    now=100 * DAY,
    settings=Settings(store=StoreSettings(retention_age=30 * 86400)),
    files=FileFacts((), 50 * GIB, 100 * GIB, GIB),
    looked_for=frozenset(REASONS), reasons=(), key_tally=KeyTally(3), log_span=10 * DAY,
    backup_at=99 * DAY, descriptors=65536,
    gateways=[replace(GatewayAnswer.silent("gw", "gw", 0), answers=True, settings="a")],
    lags={"siem": 1.0}, findings=0, silent_consumers=0,
)  # fmt: skip


def found(facts: DoctorFacts) -> dict[str, CheckAnswer]:
    """Checks that are not ok, by code."""
    return {one.code: one for one in examine(facts).checks if one.result != "ok"}


def settings(**sections: Any) -> Settings:
    return Settings(**{"store": WELL.settings.store, **sections})


def test_a_gateway_that_is_set_up_well_has_all_checks_and_none_fails() -> None:
    checks = examine(WELL).checks
    wanted = [*REASONS, *(code for code in CHECKS if code != "redis_open")]
    assert [one.code for one in checks] == wanted
    assert found(WELL) == {}


WORSE: dict[str, tuple[str, dict[str, Any]]] = {
    "store_version": ("fail", {"store_error": "was written by a newer version"}),
    "files_readable": ("warn", {"files": replace(WELL.files, readable=("/data/keys.db",))}),
    "disk_full": ("fail", {"files": replace(WELL.files, free_bytes=GIB // 8, log_bytes=None)}),
    "retention_unbounded": ("warn", {"settings": Settings()}),
    "descriptors_few": ("warn", {"descriptors": 512}),
    "redis_open": ("warn", {"settings": settings(redis=RedisSettings(url="redis://far/0"))}),
    "proxies_wide": (
        "warn",
        {"settings": settings(server=ServerSettings(trusted_proxies=(ip_network("0.0.0.0/0"),)))},
    ),
    "backup_old": ("warn", {"backup_at": None}),
    "versions_uneven": (
        "warn", {"gateways": [*WELL.gateways, replace(WELL.gateways[0], version="9")]},
    ),
    "settings_uneven": (
        "warn", {"gateways": [*WELL.gateways, replace(WELL.gateways[0], settings="b")]},
    ),
    "destinations_behind": ("warn", {"lags": {"siem": 301.0}}),
    "consumers_silent": ("warn", {"silent_consumers": 1}),
    "findings_open": ("warn", {"findings": 2}),
    "keys_without_owner": ("warn", {"key_tally": KeyTally(1, ownerless=["k"])}),
    "keys_expiring": ("warn", {"key_tally": KeyTally(1, expiring=["k"])}),
    "keys_unused": ("warn", {"key_tally": KeyTally(1, unused=["k"])}),
    "keys_never_used": ("warn", {"key_tally": KeyTally(1, never_used=["k"])}),
    "keys_every_tenant": ("warn", {"key_tally": KeyTally(1, every_tenant=["k"] * 7)}),
}  # fmt: skip


def test_each_check_is_brought_about_here() -> None:
    assert WORSE.keys() == CHECKS.keys()


@pytest.mark.parametrize("code", WORSE)
def test_a_fact_that_is_wrong_is_told_with_what_to_do(code: str) -> None:
    result, facts = WORSE[code]
    [one] = found(replace(WELL, **facts)).values()
    assert (one.code, one.result, bool(one.advice)) == (code, result, True)


def test_a_log_that_outgrows_the_disk_before_retention_is_told() -> None:
    small = replace(WELL.files, free_bytes=3 * GIB - GIB // 2, total_bytes=20 * GIB)
    grown = replace(WELL, files=replace(small, log_bytes=2 * GIB))
    assert "takes 6.0 GiB" in found(grown)["retention_unbounded"].detail
    # Too short a time tells nothing.
    assert found(replace(grown, log_span=DAY / 2)) == {}


def test_reasons_of_a_status_warn_or_fail_by_what_they_mean_for_delivery() -> None:
    for code, kind in REASONS.items():
        [one] = found(replace(WELL, reasons=[ReasonFact(code, "it is so")])).values()
        bad = kind.delivery in ("stalled", "down") or code in (
            "pepper_missing", "certificate_refused",
        )  # fmt: skip
        assert (one.code, one.result) == (code, "fail" if bad else "warn")
        assert (one.detail, one.advice) == ("it is so", kind.advice)


def test_what_is_not_known_is_left_out() -> None:
    bare = DoctorFacts(
        now=0.0, settings=WELL.settings, files=FileFacts(), looked_for=frozenset(), reasons=()
    )
    assert {one.code for one in examine(bare).checks} == {
        "store_version", "files_readable", "proxies_wide", "backup_old", "destinations_behind",
    }  # fmt: skip


def test_every_code_is_a_heading_of_the_page() -> None:
    headings = re.findall(r"^### (\S+)$", PAGE.read_text(), re.MULTILINE)
    assert headings == [*REASONS, *CHECKS]
