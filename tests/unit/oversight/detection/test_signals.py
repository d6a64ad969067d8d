"""Signals of unusual activity that are certain, each at the edge of its rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.keys.key import Key
from gateway.access.usage.access import DENIED, FAILED, OPENED, PULLED, Access
from gateway.oversight.detection import signals
from gateway.oversight.detection.signals import Signal, evaluate
from gateway.oversight.detection.usage_profile import (
    MOST_NETWORKS,
    ProfileDelta,
    UsageProfile,
    merged,
    network_of,
)
from gateway.settings.oversight import CERTAIN

NOW = 1_700_000_000.0
DAY = 86400
KEY = Key(id="A" * 12, digest=b"", name="n", purpose="p", created_at=NOW - DAY, expires_at=9e9)


def use(at: float = NOW, **members: Any) -> Access:
    return Access(**{"key": KEY, "action": PULLED, "address": "10.0.0.1", "at": at, **members})


def denied(at: float = NOW, reason: str = "action_not_granted", **members: Any) -> Access:
    return use(at, action=DENIED, outcome="denied", reason=reason, **members)


def follow(*uses: Access, profile: UsageProfile | None = None) -> tuple[UsageProfile, list[Signal]]:
    """The trace after each use was brought in on its own, and all that was found."""
    profile = profile or UsageProfile()
    found: list[Signal] = []
    for one in uses:
        delta = ProfileDelta()
        delta.add(one, profile)
        profile, signals = evaluate(profile, delta)
        found += signals
    return profile, found


def names(signals: list[Signal]) -> list[str]:
    return [signal.name for signal in signals]


# Denials


def test_five_denials_within_ten_minutes_are_a_signal_and_four_are_none() -> None:
    assert names(follow(*(denied(NOW + 150 * n) for n in range(4)))[1]) == []
    _, [signal] = follow(*(denied(NOW + 150 * n) for n in range(5)))
    assert (signal.name, signal.count, signal.at) == ("denials", 5, NOW + 600)


def test_five_denials_in_more_than_ten_minutes_are_no_signal() -> None:
    assert follow(*(denied(NOW + 150.2 * n) for n in range(20)))[1] == []


def test_further_denials_add_to_the_count() -> None:
    _, signals = follow(*(denied(NOW + n) for n in range(9)))
    assert [signal.count for signal in signals] == [5, 1, 1, 1, 1]


def test_denials_come_together_from_several_processes() -> None:
    one, other = ProfileDelta(), ProfileDelta()
    for n in range(3):
        one.add(denied(NOW + n), None)
        other.add(denied(NOW + 0.5 + n), None)
    profile, signals = evaluate(UsageProfile(), one)
    assert signals == []
    _, [signal] = evaluate(profile, other)
    assert (signal.name, signal.count) == ("denials", 6)


def test_requests_that_fail_are_no_denials() -> None:
    failed = [use(NOW + n, action=FAILED, outcome="failure", reason="bad") for n in range(9)]
    assert follow(*failed)[1] == []


def test_a_suspended_key_does_not_prolong_its_suspension_by_trying() -> None:
    profile, signals = follow(*(denied(NOW + n, "key_suspended") for n in range(9)))
    assert (signals, profile.denials) == ([], [])


# Categories


def test_three_forbidden_categories_within_an_hour_are_a_signal() -> None:
    asked = [use(NOW + 1800 * n, forbidden=(name,)) for n, name in enumerate("aab")]
    profile, signals = follow(*asked)
    assert signals == []
    _, [signal] = follow(use(NOW + 3600 + 1800, forbidden=("c",)), profile=profile)
    assert (signal.name, signal.count) == ("forbidden_categories", 3)
    assert signal.data["categories"] == ["a", "b", "c"]


def test_three_forbidden_categories_in_more_than_an_hour_are_none() -> None:
    asked = [use(NOW + 1800.2 * n, forbidden=(name,)) for n, name in enumerate("abcdef")]
    assert follow(*asked)[1] == []


def test_three_forbidden_categories_at_once_are_a_signal() -> None:
    _, [signal] = follow(use(forbidden=("a", "b", "c")))
    assert signal.count == 3


# Sleep


def test_a_key_that_wakes_after_thirty_days_is_a_signal() -> None:
    profile, _ = follow(use(NOW))
    _, [signal] = follow(use(NOW + 30 * DAY), profile=profile)
    assert (signal.name, signal.data["days"]) == ("dormant_woke", 30)
    assert follow(use(NOW + 30 * DAY - 1), profile=profile)[1] == []


def test_a_key_that_is_first_used_long_after_it_was_made_wakes_too() -> None:
    old = msgspec.structs.replace(KEY, created_at=NOW - 31 * DAY)
    assert names(follow(use(key=old))[1]) == ["dormant_woke"]
    assert follow(use())[1] == []


def test_an_open_stream_keeps_a_key_awake() -> None:
    profile, _ = follow(use(NOW, action=OPENED))
    for day in range(1, 90):
        delta = ProfileDelta()
        delta.touch(NOW + day * DAY)
        profile, signals = evaluate(profile, delta)
        assert signals == []
    assert profile.address == "10.0.0.1", "the last that was said"


def test_a_refused_key_is_not_awake() -> None:
    for reason in ("key_revoked", "key_expired", "key_suspended"):
        profile, signals = follow(denied(NOW, reason))
        assert profile.used_at == 0.0
        assert "dormant_woke" not in names(signals)
    assert follow(denied(NOW, "action_not_granted"))[0].used_at == NOW


# Networks


def test_a_network_that_the_key_never_came_from_is_a_signal_once() -> None:
    profile, signals = follow(use(address="198.51.100.7"), use(address="198.51.100.200"))
    assert signals == [], "the first one is where it lives"
    profile, [signal] = follow(use(address="203.0.113.9"), profile=profile)
    assert signal.name == "new_network"
    assert signal.data["networks"] == ["203.0.0.0/16"]
    assert follow(use(address="203.0.113.9"), use(address="198.51.100.7"), profile=profile)[1] == []


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.0.0/16"),
        ("8.8.8.8", "8.8.8.0/24"),
        ("10.1.2.3", "10.1.0.0/16"),
        ("127.1.0.1", "127.1.0.0/16"),
        ("::ffff:8.8.4.4", "8.8.4.0/24"),
        ("2a00:1450:4001:80b::200e", "2a00:1450:4001::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("no address", "no address"),
    ],
)
def test_addresses_fall_into_networks(address: str, network: str) -> None:
    assert network_of(address) == network


def test_two_networks_that_are_heard_of_together_are_told_apart() -> None:
    delta = ProfileDelta()
    for address in ("8.8.8.8", "45.1.2.3", "8.8.8.9"):
        delta.add(use(address=address), None)
    _, [signal] = evaluate(UsageProfile(), delta)
    assert (signal.name, signal.data["networks"]) == ("new_network", ["45.1.2.0/24"])


def test_more_denials_than_are_remembered_are_counted() -> None:
    delta = ProfileDelta()
    for n in range(100):
        delta.add(denied(NOW + n / 10), None)
    profile, [signal] = evaluate(UsageProfile(), delta)
    assert (signal.count, len(profile.denials)) == (100, 16)


def test_the_networks_that_are_remembered_are_those_seen_last() -> None:
    profile, _ = follow(*(use(NOW + n, address=f"8.8.{n}.1") for n in range(MOST_NETWORKS + 9)))
    assert len(profile.networks) == MOST_NETWORKS
    assert "8.8.0.0/24" not in profile.networks


# Keys that are over


def test_a_revoked_key_that_is_presented_is_a_signal_each_time() -> None:
    _, signals = follow(denied(NOW, "key_revoked"), denied(NOW + 9, "key_revoked"))
    assert [(signal.name, signal.count) for signal in signals] == [("revoked_presented", 1)] * 2


def test_a_key_that_its_successor_has_replaced_is_a_signal_and_an_expired_one_is_none() -> None:
    may_end_early = msgspec.structs.replace(KEY, successor="B" * 12)
    _, [signal] = follow(denied(NOW, "key_expired", key=may_end_early))
    assert (signal.name, signal.data["successor"]) == ("drained_presented", "B" * 12)
    assert follow(denied(NOW, "key_expired"))[1] == []


# Depth


@pytest.mark.parametrize(
    ("before", "behind", "found"),
    [
        (0, 9_999, False),
        (0, 10_000, True),
        (2_500, 10_000, True),
        (2_501, 10_000, False),
        (100_000, 399_999, False),
        (100_000, 400_000, True),
    ],
)
def test_a_read_that_begins_far_further_back_than_ever_is_a_signal(
    before: int, behind: int, found: bool
) -> None:
    profile, _ = follow(use(behind=before))
    profile, signals = follow(use(NOW + 1, behind=behind), profile=profile)
    assert names(signals) == ["deep_replay"] * found
    assert follow(use(NOW + 2, behind=behind), profile=profile)[1] == [], "it is known then"


def test_the_first_read_of_a_key_is_no_deep_one() -> None:
    assert follow(use(behind=10**9))[1] == []


def test_requests_that_read_nothing_say_nothing_of_depth() -> None:
    profile, _ = follow(use(behind=-1))
    assert profile.deepest == -1
    assert follow(use(behind=10**6), profile=profile)[1] == []


# What is urgent, and what is brought together


def test_an_ordinary_use_can_wait_and_an_unusual_one_cannot() -> None:
    known, _ = follow(use(behind=10, address="8.8.8.8"))

    def urgent(one: Access) -> bool:
        delta = ProfileDelta()
        delta.add(one, known)
        return delta.urgent

    assert not urgent(use(behind=10, address="8.8.8.9"))
    assert not urgent(use(behind=9_999, address="8.8.8.8"))
    assert urgent(use(behind=10_000, address="8.8.8.8"))
    assert urgent(use(behind=0, address="8.8.4.4"))
    assert urgent(denied(address="8.8.8.8"))
    assert urgent(use(forbidden=("a",), address="8.8.8.8"))
    first = ProfileDelta()
    first.add(use(), None)
    assert first.urgent, "its trace has to be looked at"


USES = st.lists(
    st.builds(
        use,
        st.floats(NOW, NOW + 10 * DAY, allow_nan=False).map(round),
        address=st.sampled_from(["8.8.8.8", "8.8.4.4", "10.0.0.1"]),
        behind=st.integers(-1, 10**6),
        outcome=st.sampled_from(["success", "denied"]),
        reason=st.sampled_from(["", "key_revoked", "action_not_granted"]),
        forbidden=st.sampled_from([(), ("a",), ("b", "c")]),
    ),
    max_size=12,
)


@given(USES, st.data())
def test_news_in_any_parts_twice_or_in_another_order_make_the_same_trace(
    uses: list[Access], data: st.DataObject
) -> None:
    whole = ProfileDelta()
    for one in uses:
        whole.add(one, None)
    once = merged(UsageProfile(), whole)
    assert merged(once, whole) == once, "twice"
    parts = []
    for one in data.draw(st.permutations(uses)):
        if not parts or data.draw(st.booleans()):
            parts.append(ProfileDelta())
        parts[-1].add(one, None)
    profile = UsageProfile()
    for part in parts:
        profile = merged(profile, part)
    # Of two uses at the same moment either may be the last.
    same = {"address": "", "client": ""}
    assert msgspec.structs.replace(profile, **same) == msgspec.structs.replace(once, **same)


@given(USES, USES)
def test_news_that_could_not_be_brought_in_lose_nothing_by_waiting(
    first: list[Access], later: list[Access]
) -> None:
    whole, one, two = ProfileDelta(), ProfileDelta(), ProfileDelta()
    for use_ in first:
        whole.add(use_, None)
        one.add(use_, None)
    for use_ in later:
        whole.add(use_, None)
        two.add(use_, None)
    both = one.followed_by(two)
    for name in (
        "first_at",
        "home",
        "refusals",
        "deepest",
        "denials",
        "forbidden",
        "networks",
        "urgent",
    ):
        assert getattr(both, name) == getattr(whole, name), name
    assert {name: one[0] for name, one in both.certain.items()} == {
        name: one[0] for name, one in whole.certain.items()
    }


def test_what_comes_late_is_not_the_last_use() -> None:
    profile, _ = follow(use(NOW, address="8.8.8.8"), use(NOW - 5, address="8.8.4.4"))
    assert (profile.used_at, profile.address) == (NOW, "8.8.8.8")
    assert len(profile.networks) == 2


def test_a_trace_survives_being_written_down() -> None:
    profile, _ = follow(use(behind=3, client="curl"), denied(NOW + 1), use(forbidden=("a",)))
    assert msgspec.json.decode(msgspec.json.encode(profile), type=UsageProfile) == profile
    assert profile.last_use() == {
        "at": "2023-11-14T22:13:21.000000Z", "address": "10.0.0.1", "client": "curl",
    }  # fmt: skip
    assert UsageProfile().last_use() is None


def test_the_signals_with_consequences_are_those_that_are_documented() -> None:
    assert signals.__doc__ is not None
    assert tuple(re.findall(r"^\| `(\w+)`", signals.__doc__, re.MULTILINE)) == CERTAIN
    text = (Path(__file__).parents[4] / "deploy" / "unusual-activity.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in (*CERTAIN, "volume"))
