"""What can become of a key: suspension, rotation, revocation, and what each leaves behind."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.access.credentials.token import digest, key_id_of
from gateway.access.grants.grant import parse_grant
from gateway.access.keys import lifecycle
from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import KeyLimits
from gateway.errors import Conflict, InvalidRequest

NOW = 1_700_000_000.0
DAY = 86400
PEPPER = b"p" * 32
GRANT = parse_grant({"actions": ["stream"], "categories": ["auth.*"]})


def key(**members: Any) -> Key:
    made = Key(
        id="k" * 12, digest=b"d", name="n", purpose="p", owner="o", grants=(GRANT,),
        roles=("auditor",), created_at=NOW, expires_at=NOW + 30 * DAY,
    )  # fmt: skip
    return msgspec.structs.replace(made, **members)


def rotated(one: Key, now: float = NOW + DAY, **options: Any) -> tuple[Key, Key, str]:
    given = {"overlap": 3600, "max_life": 90 * DAY, **options}
    return lifecycle.rotate(one, now, pepper=PEPPER, **given)


# Suspending


def test_a_suspended_key_is_suspended_until_it_is_resumed() -> None:
    suspended = lifecycle.suspend(key(), NOW, "odd traffic", by="admin")
    assert suspended.state(NOW + 20 * DAY) == "suspended"
    assert (suspended.change, suspended.changed_by, suspended.changed_at) == (
        "suspended", "admin", NOW,
    )  # fmt: skip
    resumed = lifecycle.resume(suspended, NOW + 60, by="admin")
    assert resumed.state(NOW + 60) == "active"
    assert "suspended_at" not in msgspec.to_builtins(resumed.public(NOW + 60))
    assert (resumed.change, resumed.changed_at) == ("resumed", NOW + 60)


def test_a_suspension_with_an_end_ends_by_itself() -> None:
    suspended = lifecycle.suspend(key(), NOW, "watch", NOW + 900)
    assert [suspended.state(NOW + age) for age in (899, 900)] == ["suspended", "active"]
    with pytest.raises(Conflict, match="active, not suspended"):
        lifecycle.resume(suspended, NOW + 900)


def test_a_suspended_key_expires_all_the_same() -> None:
    suspended = lifecycle.suspend(key(), NOW, "")
    assert suspended.state(NOW + 30 * DAY) == "expired"
    with pytest.raises(Conflict):
        lifecycle.resume(suspended, NOW + 30 * DAY)


@pytest.mark.parametrize(
    "ended",
    [key(revoked_at=NOW), key(expires_at=NOW), key(drains_until=NOW)],
    ids=["revoked", "expired", "drained"],
)
def test_what_has_ended_is_neither_suspended_nor_resumed_nor_rotated(ended: Key) -> None:
    for change in (
        lambda: lifecycle.suspend(ended, NOW + 1, ""),
        lambda: lifecycle.resume(ended, NOW + 1),
        lambda: rotated(ended),
    ):
        with pytest.raises(Conflict):
            change()


# Revoking


def test_revoked_is_for_good_and_the_first_reason_stands() -> None:
    revoked = lifecycle.revoke(key(), NOW, "left", "admin")
    again = lifecycle.revoke(revoked, NOW + 5, "other", "other")
    assert again is revoked
    assert (again.revoked_reason, again.revoked_at, again.changed_by) == ("left", NOW, "admin")
    assert again.state(NOW + 100 * DAY) == "revoked"


def test_a_suspended_or_expired_key_can_be_revoked() -> None:
    for one in (lifecycle.suspend(key(), NOW, ""), key(expires_at=NOW)):
        assert lifecycle.revoke(one, NOW + 1, "x").state(NOW + 1) == "revoked"


# Rotating


def test_the_successor_has_the_same_rights_and_another_secret() -> None:
    old, successor, token = rotated(key(limits=KeyLimits(events_per_second=5)))
    assert key_id_of(token) == successor.id != old.id
    assert successor.digest == digest(PEPPER, token) != old.digest
    for member in ("name", "purpose", "owner", "grants", "roles", "limits"):
        assert getattr(successor, member) == getattr(old, member)
    assert (successor.predecessor, old.successor) == (old.id, successor.id)
    assert (successor.successor, successor.drains_until) == ("", None)
    assert (old.change, successor.change) == ("rotated", "created")


def test_both_work_during_the_overlap_and_then_only_the_successor() -> None:
    old, successor, _ = rotated(key(), NOW, overlap=3600)
    assert [old.state(NOW + age) for age in (0, 3599, 3600)] == ["draining", "draining", "expired"]
    assert successor.state(NOW + 3600) == "active"


def test_no_overlap_ends_the_old_key_at_once() -> None:
    assert rotated(key(), NOW, overlap=0)[0].state(NOW) == "expired"


def test_an_overlap_never_makes_the_old_key_live_longer() -> None:
    old, _, _ = rotated(key(expires_at=NOW + DAY), NOW, overlap=7 * DAY)
    assert old.state(NOW + DAY) == "expired"


@pytest.mark.parametrize(("max_life", "life"), [(90 * DAY, 30 * DAY), (10 * DAY, 10 * DAY)])
def test_the_successor_lives_as_long_as_it_was_made_for_and_policy_allows(
    max_life: int, life: int
) -> None:
    _, successor, _ = rotated(key(), NOW + 5 * DAY, max_life=max_life)
    assert successor.created_at == NOW + 5 * DAY
    assert successor.expires_at == NOW + 5 * DAY + life


def test_rotation_after_rotation_never_adds_life() -> None:
    one, now = key(), NOW
    for _ in range(5):
        now += DAY
        _, one, _ = rotated(one, now, max_life=7 * DAY)
        assert one.expires_at == now + 7 * DAY


@pytest.mark.parametrize("state", ["suspended", "draining"])
def test_only_an_active_key_is_rotated(state: str) -> None:
    one = {"suspended": lifecycle.suspend(key(), NOW, ""), "draining": rotated(key(), NOW)[0]}[
        state
    ]
    with pytest.raises(Conflict) as refused:
        rotated(one, NOW + 1)
    assert refused.value.code == "not_active"
    assert state in refused.value.detail


def test_nothing_of_an_ended_suspension_is_handed_on() -> None:
    old = lifecycle.suspend(key(), NOW, "watch", NOW + 60)
    _, successor, _ = rotated(old, NOW + 61)
    assert not {
        name
        for name in msgspec.to_builtins(successor.public(NOW + 61))
        if name.startswith("suspended")
    }


def test_draining_can_end_early_and_never_late() -> None:
    old, _, _ = rotated(key(), NOW, overlap=3600)
    assert lifecycle.end_draining(old, NOW + 60).state(NOW + 60) == "expired"
    assert lifecycle.end_draining(old, NOW + 7200).ends_at == NOW + 3600


def test_a_change_to_what_has_changed_meanwhile_is_refused() -> None:
    looked_at = key(revision=4)
    change = lifecycle.unless_changed(looked_at, key(name="new"))
    assert change(key(revision=4)).name == "new"
    with pytest.raises(Conflict):
        change(key(revision=5))


@pytest.mark.parametrize("text", ["", "1", "an hour", "-1h", "7d1s", "8d", 3600, None, ["1h"]])
def test_an_overlap_is_a_duration_within_bounds(text: object) -> None:
    with pytest.raises(InvalidRequest, match="overlap"):
        lifecycle.check_overlap(text, 7 * DAY)


def test_an_overlap_may_be_as_long_as_the_bound() -> None:
    assert lifecycle.check_overlap("7d", 7 * DAY) == 7 * DAY
    assert lifecycle.check_overlap("0s", 7 * DAY) == 0


@pytest.mark.parametrize("reason", [None, 7, ["x"], "x" * 257])
def test_a_reason_is_a_short_text(reason: object) -> None:
    with pytest.raises(InvalidRequest, match="reason"):
        lifecycle.check_reason(reason)
