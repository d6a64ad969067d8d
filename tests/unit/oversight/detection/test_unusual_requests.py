"""Signals on requests, on refusals, on probing, and on administration by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.access.keys.change import inspection
from gateway.access.keys.operator import Operator
from gateway.access.policy.decision import View
from gateway.access.usage.access import CLOSED, DENIED, Access
from gateway.filters.scope import Scope
from gateway.oversight.access_log.out_of_scope import foreign_values
from gateway.oversight.detection.finding import silence
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.operator_profile import (
    MOST_PEOPLE,
    Command,
    OperatorProfile,
    evaluate_command,
)
from gateway.oversight.detection.profile_store import ProfileStore
from gateway.oversight.detection.signals import evaluate
from gateway.oversight.detection.usage_profile import MOST_REMEMBERED, ProfileDelta, UsageProfile
from gateway.oversight.key_events import KeyEvents
from tests.support import synthetic_requests
from tests.support.watched import DAY, key
from tests.unit.oversight.detection.test_anomaly_detector import K, Make, Watched, make, watched

if TYPE_CHECKING:
    from tests.conftest import FakeClock

__all__ = ["make", "watched"]

LIMITED: dict[str, Any] = {"action": DENIED, "outcome": "failure", "reason": "too_many_requests"}
WRONG: dict[str, Any] = {
    "key": None, "claimed": K, "action": DENIED, "outcome": "denied", "reason": "invalid_key",
}  # fmt: skip


async def signals(watched: Watched) -> dict[str, int]:
    return {one.signal: one.count for one in await watched.findings.all()}


async def ask(watched: Watched, minutes: int, requests: int) -> None:
    for _ in range(minutes):
        watched.use(requests)
        await watched.step(60)


async def test_a_spike_of_requests_without_events_is_found(make: Make) -> None:
    watched = make(warm_up=3600)
    await ask(watched, 90, 12)
    assert await signals(watched) == {}
    await ask(watched, 3, 1_400)
    assert set(await signals(watched)) == {"request_volume"}
    [finding] = await watched.findings.all()
    assert finding.data["per_minute"] > 10 * finding.data["expected_per_minute"]


async def test_the_end_of_a_stream_is_no_request(make: Make) -> None:
    watched = make(warm_up=3600)
    await ask(watched, 90, 12)
    for _ in range(3):
        watched.use(1_400, action=CLOSED)
        await watched.step(60)
    assert await signals(watched) == {}


async def test_a_storm_above_the_limits_is_found_within_a_second(watched: Watched) -> None:
    watched.use(500, **LIMITED)
    await watched.step()
    assert await signals(watched) == {"rate_limited": 500}
    assert (await watched.findings.all())[0].key == K


async def test_whoever_waits_as_told_is_no_storm(watched: Watched) -> None:
    for _ in range(300):
        watched.use(**LIMITED)
        await watched.step()
    assert await signals(watched) == {}


async def test_a_storm_over_several_processes_is_counted_together(make: Make) -> None:
    one, other = make(), make()
    one.use(80, **LIMITED)
    other.use(80, **LIMITED)
    await one.step(0)
    assert await signals(one) == {}
    await other.step(0)
    assert await signals(one) == {"rate_limited": 160}


async def test_a_throttled_key_does_not_keep_up_what_it_was_throttled_for(
    watched: Watched,
) -> None:
    watched.use(500, **{**LIMITED, "reason": "key_throttled"})
    await watched.step()
    assert await signals(watched) == {}


def wrong(watched: Watched, times: int, **members: Any) -> None:
    for n in range(times):
        watched.use(**{**WRONG, "at": watched.clock.now() + n / 100, **members})


def with_keys(watched: Watched, *key_ids: str) -> None:
    watched.detector.profiles = ProfileStore(watched.store, lambda key_id: key_id in key_ids)


async def test_the_id_of_a_key_with_wrong_secrets_is_a_finding_about_the_key(
    watched: Watched,
) -> None:
    with_keys(watched, K)
    wrong(watched, 5, address="7.7.7.7")
    await watched.step()
    found = {one.signal: one for one in await watched.findings.all()}
    assert found["wrong_secret"].key == K
    assert found["wrong_secret"].data["address"] == "7.7.7.7"
    assert found["denials"].address == "7.7.7.7"
    assert (await watched.detector.profiles.of(K)).used_at == 0, "the key itself was not used"


async def test_an_id_that_no_key_has_and_a_key_in_a_url_say_nothing_of_a_key(
    watched: Watched,
) -> None:
    with_keys(watched, K)
    wrong(watched, 9, claimed="B" * 12)
    wrong(watched, 9, reason="key_in_url")
    await watched.step()
    assert set(await signals(watched)) == {"denials"}


PROBES: dict[str, list[dict[str, Any]]] = {
    "tenants": [{"probed": (f"tenant:t{n}",)} for n in range(3)],
    "resources": [{"probed": (f"resource:k8s:ns{n}/**",)} for n in range(3)],
    "actions": [
        {
            "action": DENIED, "outcome": "denied", "reason": "action_not_granted", "attempted": one,
        }
        for one in ("ingest", "keys.admin", "usage.read")
    ],
}  # fmt: skip


@pytest.mark.parametrize("members", PROBES.values(), ids=PROBES)
async def test_probing_is_found_by_any_member(
    watched: Watched, members: list[dict[str, Any]]
) -> None:
    for one in members[:2]:
        watched.use(**one)
    await watched.step()
    assert await signals(watched) == {}
    watched.use(**members[2])
    await watched.step()
    assert await signals(watched) == {"probing": 3}
    [finding] = await watched.findings.all()
    assert len(next(value for name, value in finding.data.items() if name in PROBES)) == 3


async def test_one_foreign_tenant_again_and_again_is_a_mistake_and_no_probing(
    watched: Watched,
) -> None:
    watched.use(50, probed=("tenant:typo",))
    await watched.step()
    assert await signals(watched) == {}


def test_what_of_a_selection_a_view_does_not_contain() -> None:
    view = View.of(
        Scope(tenant=("acme",), resource=("k8s:prod/**",)),
        denied=(Scope(resource=("k8s:prod/x",)),),
    )
    assert foreign_values(view, ["acme", "globex"], ["k8s:prod/y", "k8s:dev/**", "k8s:prod/x"]) == (
        "tenant:globex", "resource:k8s:dev/**", "resource:k8s:prod/x",
    )  # fmt: skip


def test_memory_of_a_key_is_bounded_whatever_is_tried() -> None:
    profile = UsageProfile()
    for n in range(500):
        delta = ProfileDelta()
        delta.add(Access(at=60.0 * n, key=key(K), probed=(f"tenant:{n}",), **LIMITED), profile)
        delta.claim(Access(at=60.0 * n, claimed=K))
        profile, _ = evaluate(profile, delta)
    assert len(profile.probed) == len(profile.claims) == MOST_REMEMBERED
    assert len(profile.limited) == 10


# The command line


HOUR = 3600.0
# Ten o'clock.
MORNING = 1_700_000_000.0 // DAY * DAY + 10 * HOUR


def profile_of(*days: int, person: str = "cli:ada") -> OperatorProfile:
    profile = OperatorProfile()
    for day in days:
        profile, _ = evaluate_command(profile, Command(person, MORNING + day * DAY))
    return profile


def given(profile: OperatorProfile, person: str, at: float) -> list[str]:
    return [signal.name for signal in evaluate_command(profile, Command(person, at))[1]]


def test_the_first_person_is_at_home_and_the_next_is_new_once() -> None:
    profile = profile_of(0)
    assert given(OperatorProfile(), "cli:ada", MORNING) == []
    assert given(profile, "cli:eve", MORNING) == ["new_operator"]
    profile, _ = evaluate_command(profile, Command("cli:eve", MORNING))
    assert given(profile, "cli:eve", MORNING) == []


def test_an_odd_hour_is_odd_once_hours_are_known() -> None:
    night = 13.5 * HOUR
    assert given(profile_of(0, 1, 2, 3), "cli:ada", MORNING + 4 * DAY + night) == []
    profile = profile_of(0, 1, 2, 3, 4)
    assert given(profile, "cli:ada", MORNING + 5 * DAY + night) == ["odd_hour"]
    assert given(profile, "cli:ada", MORNING + 5 * DAY + 2 * HOUR) == []
    assert given(profile, "cli:ada", MORNING + 60 * DAY) == ["odd_hour"], "it was forgotten"


def test_an_operator_profile_is_bounded() -> None:
    profile = OperatorProfile()
    for n in range(MOST_PEOPLE + 50):
        profile, _ = evaluate_command(profile, Command(f"cli:u{n}", MORNING + n * DAY))
    assert (len(profile.people), len(profile.days)) == (MOST_PEOPLE, 30)


async def test_a_look_by_the_command_line_is_a_use_and_a_new_person_a_finding(
    watched: Watched, clock: FakeClock
) -> None:
    events = KeyEvents(
        watched.store, watched.writer, watched.hub, watched.detector.profiles, clock, ()  # type: ignore[arg-type]
    )  # fmt: skip
    events.on_command(watched.detector.operators.observe)
    for user, sudo in (("ada", ""), ("root", "eve")):
        operator = Operator(user, sudo_user=sudo, host="h1", terminal="/dev/pts/3")
        change = inspection("keys explain", [f"key:{K}"], operator, clock.now(), {"action": "pull"})
        await watched.store.record_later(change)
    await events.record_changes()
    await watched.step()
    first, second = watched.writer.events("gateway.access")
    assert (first["action"], first["actor"]["id"]) == ("requested", "cli:ada")
    assert first["targets"][0]["urn"] == f"key:{K}"
    assert second["data"]["command_line"] == {
        "user": "root", "sudo_user": "eve", "host": "h1", "terminal": "/dev/pts/3",
    }  # fmt: skip
    [finding] = await watched.findings.all()
    assert (finding.signal, finding.operator) == ("new_operator", "cli:eve")
    assert finding.public().operator == "cli:eve"
    [event] = watched.writer.events("gateway.anomaly")
    assert event["data"]["operator"] == "cli:eve"
    # Whoever writes it again, or sees it in another process, adds nothing.
    watched.detector.operators.observe(Command("cli:eve", clock.now()))
    await watched.step()
    assert [one.count for one in await watched.findings.all()] == [1]


async def test_a_person_who_is_expected_is_not_found_again(watched: Watched) -> None:
    watched.detector.operators.observe(Command("cli:ada", MORNING))
    watched.detector.operators.observe(Command("cli:eve", MORNING))
    await watched.step()
    [finding] = await watched.findings.all()
    await watched.findings.mark(finding.id, expected=True, by="A" * 12, reason="new colleague")
    assert await watched.store.note("silence", silence("new_operator", "", "cli:eve"))
    again = Findings(watched.store, watched.writer, watched.clock)
    _, [signal] = evaluate_command(OperatorProfile({"cli:ada": 1.0}), Command("cli:eve", MORNING))
    assert await again.add(signal, "") is None


def test_quiet_stories_of_requests_stay_quiet_and_spikes_are_found() -> None:
    for name in ("12 a minute", "a page every 15 minutes"):
        month = synthetic_requests.request_month(name, 9, days=17)
        assert (month.false, len(month.delays)) == (0, month.spikes)


def test_the_page_names_every_table_of_the_evaluation() -> None:
    page = (Path(__file__).parents[4] / "deploy" / "unusual-activity.md").read_text("utf-8")
    for line in synthetic_requests.operator_table():
        assert line in page
