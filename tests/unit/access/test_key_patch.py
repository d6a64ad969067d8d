"""What becomes of a key by a merge patch, and whether it may do more then."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.access.administration.key_patch import parse_key_patch, patched, widens
from gateway.access.grants.grant import parse_grant
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import NO_LIMITS, KeyLimits
from gateway.access.keys.rotation_schedule import RotationSchedule
from gateway.access.policy.subsumption import run_steps
from gateway.errors import InvalidRequest
from gateway.settings.declarations import KeySettings
from tests.support.cases import every

NOW = 1_700_000_000.0
DAY = 86_400
TERMS = KeySettings(default_life=30 * DAY, max_life=90 * DAY)
WIDE = {"actions": ["stream", "pull"], "categories": ["auth.**"], "tenants": ["acme", "globex"]}
NARROW = {**WIDE, "tenants": ["acme"]}
MASKED = {**WIDE, "fields": {"mask": ["actor.name"]}}
ROLES = {"all": (parse_grant({"actions": ["pull"], "categories": ["**"]}),)}
KEY = Key(
    id="k" * 12, digest=b"", name="n", purpose="p", owner="o", created_at=NOW,
    expires_at=NOW + 30 * DAY, grants=(parse_grant(WIDE),),
    limits=KeyLimits(events_per_second=10, bytes_per_day=0),
    rotate=RotationSchedule("30d", "1d"),
)  # fmt: skip


def after(patch: Any, key: Key = KEY) -> Key:
    return patched(key, parse_key_patch(patch), NOW, TERMS)


def test_what_a_patch_does_not_name_stays() -> None:
    assert after({}) == KEY
    changed = after({"owner": "soc", "name": "siem"})
    assert msgspec.structs.replace(changed, owner="o", name="n") == KEY


def test_lists_are_replaced_and_members_of_objects_are_merged() -> None:
    assert after({"grants": [NARROW]}).grants == (parse_grant(NARROW),)
    assert after({"roles": ["auditor"]}).roles == ("auditor",)
    merged = after({"limits": {"events_per_second": 5, "bytes_per_day": None}})
    assert merged.limits == KeyLimits(events_per_second=5)
    assert after({"rotate": {"overlap": "2h"}}).rotate == RotationSchedule("30d", "2h")


def test_null_takes_away_what_a_key_can_be_without() -> None:
    none = after({"grants": None, "roles": None, "limits": None, "rotate": None})
    assert (none.grants, none.roles, none.limits, none.rotate) == ((), (), NO_LIMITS, None)


def test_a_life_is_counted_from_now_or_ends_at_a_moment() -> None:
    assert after({"expires_in": "2d"}).expires_at == NOW + 2 * DAY
    assert after({"expires_at": "2023-11-15T22:13:20Z"}).expires_at == NOW + DAY


@every(
    [
        ({"nme": "x"}, "unknown member 'nme'; there are name, purpose, owner, expires_at"),
        ({"managed_by": "prod/x"}, "unknown member 'managed_by'"),
        ({"revoked_at": None}, "unknown member 'revoked_at'"),
        ([], "the body must be a JSON object"),
        ({"name": None}, "name: a string is needed"),
        ({"owner": ""}, "owner: a string of at least 1"),
        ({"purpose": "a\nb"}, "purpose: 1 to 256 printable characters"),
        ({"expires_in": None}, "expires_in: a string is needed"),
        ({"expires_in": "0s"}, "the key would have expired already"),
        ({"expires_in": "91d"}, "a key may live 90 days at most"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "the key would have expired already"),
        ({"expires_in": "1d", "expires_at": "2023-11-15T22:13:20Z"}, "send either"),
        ({"grants": [{"actions": ["stream"]}]}, "invalid grant: grants[0].categories"),
        ({"limits": {"events_per_secnd": 1}}, "limits: there is no 'events_per_secnd'"),
        ({"rotate": {"every": None}}, "rotate: every: required"),
        ({"rotate": {"overlap": "8d"}}, "rotate.overlap: at most 168 hours"),
    ]
)
def test_a_patch_that_makes_no_sense_is_refused_by_name(case: tuple[Any, str]) -> None:
    patch, said = case
    with pytest.raises(InvalidRequest) as refused:
        after(patch)
    assert refused.value.detail.startswith(said), refused.value.detail


def test_a_key_that_lives_longer_than_keys_may_now_can_still_be_shortened() -> None:
    long = msgspec.structs.replace(KEY, expires_at=NOW + 300 * DAY)
    assert after({"expires_in": "200d"}, long).expires_at == NOW + 200 * DAY


def test_a_break_glass_key_is_not_prolonged_past_its_hours() -> None:
    key = msgspec.structs.replace(KEY, break_glass=True, expires_at=NOW + 3600)
    assert after({"expires_in": "4h"}, key).expires_at == NOW + 4 * 3600
    with pytest.raises(InvalidRequest, match="4 hours at most"):
        after({"expires_in": "5h"}, key)


@every(
    [
        ({"name": "x", "purpose": "y", "owner": "z", "rotate": None}, False),
        ({"grants": [NARROW]}, False),
        ({"grants": [MASKED]}, False),
        ({"grants": None}, False),
        ({"grants": [WIDE, NARROW]}, False),
        ({"grants": [{**WIDE, "tenants": ["acme", "initech"]}]}, True),
        ({"grants": [{**NARROW, "categories": ["**"]}]}, True),
        ({"grants": [{**NARROW, "actions": ["stream", "ingest"]}]}, True),
        ({"roles": ["all"]}, True),
        ({"roles": ["there-is-none"]}, False),
        ({"expires_in": "29d"}, False),
        ({"expires_in": "31d"}, True),
        ({"limits": {"events_per_second": 9}}, False),
        ({"limits": {"events_per_second": 11}}, True),
        ({"limits": {"events_per_second": 0}}, True),
        ({"limits": {"events_per_second": None}}, True),
        ({"limits": {"bytes_per_day": 5}}, True),
        ({"limits": {"concurrent_streams": 5}}, True),
        ({"limits": None}, True),
    ]
)
def test_a_change_widens_a_key_unless_it_is_shown_not_to(case: tuple[Any, bool]) -> None:
    patch, wider = case
    assert run_steps(widens(KEY, after(patch), ROLES)) is wider, patch


def test_a_mask_that_is_taken_away_widens_a_key() -> None:
    masked = msgspec.structs.replace(KEY, grants=(parse_grant(MASKED),))
    assert run_steps(widens(masked, after({"grants": [WIDE]}, masked), ROLES))
