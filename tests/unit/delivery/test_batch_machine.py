"""The machine of a batch: nothing is skipped, poison is found, a wrong configuration is seen."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.delivery.backoff import MOST_RETRY_AFTER, pause
from gateway.delivery.batch_machine import MOST_REFUSED, Attempt, BatchMachine, NextStep
from gateway.delivery.outlets.outlet import SUCCESS, DeliveryResult, DeliveryVerdict, RefusedEvent
from tests.support.examples import examples

TRANSIENT = DeliveryVerdict(DeliveryResult.TRANSIENT, kind="timeout")
CONFIG = DeliveryVerdict(DeliveryResult.CONFIG, kind="http", status=401)
REFUSED = DeliveryVerdict(DeliveryResult.PERMANENT, kind="http", status=400, message="bad field")
ACCEPT_NONE, ACCEPT_TEST = "none", "test"


class Receiver:
    """Takes what it does not refuse, and keeps each request."""

    def __init__(self, bad: set[int], *, names: bool = False, reducible: set[int] = frozenset()):  # type: ignore[assignment]
        self.bad = bad
        self.names = names
        self.reducible = reducible
        self.requests: list[Attempt] = []
        self.taken: list[int] = []
        self.refused_alone: dict[int, int] = {}
        # Number of acceptances when each was first refused alone, and now.
        self.since: dict[int, int] = {}
        self.accepted = 0
        self.tests_fail = False

    def answer(self, attempt: Attempt) -> DeliveryVerdict:
        self.requests.append(attempt)
        if attempt.tests:
            self.accepted += not self.tests_fail
            return REFUSED if self.tests_fail else SUCCESS
        bad = [i for i in attempt.indices if i in self.bad]
        if attempt.reduced:
            bad = [i for i in bad if i not in self.reducible]
        if not bad:
            self.taken += attempt.indices
            self.accepted += 1
            return SUCCESS
        named = self.names and len(attempt.indices) > 1
        for index in bad if named else bad if len(attempt.indices) == 1 else ():
            self.refused_alone[index] = self.refused_alone.get(index, 0) + 1
            self.since.setdefault(index, self.accepted)
        if not named:
            return REFUSED
        self.taken += [i for i in attempt.indices if i not in bad]
        at = [RefusedEvent(place, "bad") for place, i in enumerate(attempt.indices) if i in bad]
        if len(at) < len(attempt.indices):
            self.accepted += 1
            for index in bad:
                self.since[index] = min(self.since[index], self.accepted)
        return DeliveryVerdict(DeliveryResult.PERMANENT, tuple(at))


def carry(
    machine: BatchMachine,
    answer: Callable[[Attempt], DeliveryVerdict],
    *,
    most: int = 10_000,
    steps: int = 5_000,
) -> list[NextStep]:
    """Carry the batch to its end, or until somebody has to act; the cursor never goes back."""
    seen = []
    settled = machine.settled
    while steps and (attempt := machine.next(most)) is not None:
        steps -= 1
        assert len(attempt.indices) <= most
        seen.append(machine.answered(attempt, answer(attempt)))
        assert machine.settled >= settled
        settled = machine.settled
        if seen[-1] is NextStep.DISABLE:
            break
    assert steps, "it never ends"
    return seen


BATCHES = st.one_of(st.integers(1, 9), st.integers(1, 300)).flatmap(
    lambda count: st.tuples(
        st.just(count), st.sets(st.integers(0, count - 1), max_size=min(count, 12))
    )
)


@settings(max_examples=examples(150), deadline=None)
@given(BATCHES, st.booleans(), st.sampled_from([1, 7, 50, 10_000]), st.integers(0, 99))
def test_every_event_is_delivered_or_rejected_and_none_is_skipped(
    batch: tuple[int, set[int]], names: bool, most: int, seed: int
) -> None:
    count, bad = batch
    reducible = {i for i in bad if i % 3 == 0}
    receiver = Receiver(bad, names=names, reducible=reducible)
    machine = BatchMachine(count, lambda index: index in reducible)
    chance = random.Random(seed)

    def answer(attempt: Attempt) -> DeliveryVerdict:
        # What the cursor has moved over is never needed again.
        done = set(receiver.taken) | {one.index for one in machine.rejections}
        assert set(range(machine.settled)) <= done
        if chance.random() < 0.2:
            return chance.choice([TRANSIENT, CONFIG])
        return receiver.answer(attempt)

    carry(machine, answer, most=most)
    rejected = {one.index for one in machine.rejections}
    assert rejected == bad - reducible
    assert sorted(receiver.taken) == sorted(set(range(count)) - rejected)
    assert machine.settled == count
    assert machine.waiting == 0
    assert set(machine.reduced) == reducible & bad
    for one in machine.rejections:
        # Three times by itself, with something else accepted in between.
        assert receiver.refused_alone[one.index] >= 3
        assert receiver.accepted > receiver.since[one.index]


@settings(max_examples=examples(100), deadline=None)
@given(BATCHES, st.sampled_from([1, 7, 10_000]))
def test_where_order_counts_nothing_is_sent_past_an_event_that_is_refused(
    batch: tuple[int, set[int]], most: int
) -> None:
    count, bad = batch
    receiver = Receiver(bad, reducible={i for i in bad if i % 3 == 0})
    machine = BatchMachine(count, lambda index: True, ordered=True)

    def answer(attempt: Attempt) -> DeliveryVerdict:
        assert attempt.tests or attempt.indices[0] == machine.settled
        return receiver.answer(attempt)

    carry(machine, answer, most=most)
    assert receiver.taken == sorted(receiver.taken)
    assert {one.index for one in machine.rejections} == bad - receiver.reducible
    assert machine.settled == count


@pytest.mark.parametrize(("count", "most"), [(500, 19), (1000, 21)])
def test_one_bad_event_costs_a_few_requests_wherever_it_is(count: int, most: int) -> None:
    worst = 0
    for bad in (*range(0, count, 7), 1, 2, count - 2, count - 1):
        receiver = Receiver({bad})
        machine = BatchMachine(count, lambda index: True)
        carry(machine, receiver.answer)
        assert [one.index for one in machine.rejections] == [bad]
        worst = max(worst, len(receiver.requests))
    assert worst <= most


@pytest.mark.parametrize(("count", "most"), [(500, 35), (1000, 39)])
def test_two_bad_events_cost_not_twice_as_much(count: int, most: int) -> None:
    for first in range(0, count - 1, 83):
        for second in (first + 1, (first + count) // 2, count - 1):
            receiver = Receiver({first, second})
            machine = BatchMachine(count, lambda index: True)
            carry(machine, receiver.answer)
            assert {one.index for one in machine.rejections} == {first, second}
            assert len(receiver.requests) <= most


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(1, 1000), st.integers(0, 1000), st.booleans())
def test_a_receiver_that_refuses_everything_is_a_wrong_configuration(
    count: int, accepts: int, names: bool
) -> None:
    """Also where it takes a part of the batch before it begins to refuse."""
    receiver = Receiver(set(), names=names)
    machine = BatchMachine(count, lambda index: True)

    def answer(attempt: Attempt) -> DeliveryVerdict:
        if len(receiver.taken) >= accepts:
            receiver.bad, receiver.tests_fail = set(range(count)), True
        return receiver.answer(attempt)

    most = 7 if accepts else 10_000
    while (attempt := machine.next(most)) is not None:
        step = machine.answered(attempt, answer(attempt))
        if step is not NextStep.NEXT:
            break
    assert machine.rejections == []
    if accepts == 0:
        assert step is NextStep.CONFIG
        assert len(receiver.requests) <= math.log2(count) + 5
        # From now on it costs three requests to see that nothing has changed.
        before = len(receiver.requests)
        carried = carry_until_pause(machine, receiver.answer)
        assert carried is NextStep.CONFIG
        assert len(receiver.requests) - before <= 3
        # And all are delivered when it is repaired.
        receiver.bad, receiver.tests_fail = set(), False
        carry(machine, receiver.answer)
        assert sorted(receiver.taken) == list(range(count))


def carry_until_pause(
    machine: BatchMachine, answer: Callable[[Attempt], DeliveryVerdict]
) -> NextStep | None:
    while (attempt := machine.next(50)) is not None:
        step = machine.answered(attempt, answer(attempt))
        if step is not NextStep.NEXT:
            return step
    return None


def test_a_receiver_that_takes_only_the_test_event_is_given_up_without_a_dead_letter() -> None:
    receiver = Receiver(set(range(500)))
    machine = BatchMachine(500)
    steps = carry(machine, receiver.answer)
    assert steps[-1] is NextStep.DISABLE
    assert machine.rejections == []
    assert machine.settled == 0
    assert machine.refused == MOST_REFUSED + 1
    assert len(receiver.requests) < 80


def test_a_receiver_that_takes_only_the_test_event_is_given_up_over_many_batches_too() -> None:
    def batches(receiver: Receiver) -> Iterator[BatchMachine]:
        before = 0
        while True:
            machine = BatchMachine(1, refused_before=before)
            yield machine
            before = machine.in_a_row
            if NextStep.DISABLE in carry(machine, receiver.answer):
                return
            before = machine.in_a_row

    refusing = Receiver({0})
    machines = list(batches(refusing))
    assert len(machines) == MOST_REFUSED + 1
    assert [len(one.rejections) for one in machines] == [1] * MOST_REFUSED + [0]
    # One that is accepted in between shows that it is the events.
    before = MOST_REFUSED
    accepted = BatchMachine(1, refused_before=before)
    carry(accepted, Receiver(set()).answer)
    assert accepted.in_a_row == 0


def test_thirty_two_bad_events_are_rejected_one_by_one() -> None:
    bad = set(range(3, 35))
    receiver = Receiver(bad)
    machine = BatchMachine(200)
    assert NextStep.DISABLE not in carry(machine, receiver.answer)
    assert {one.index for one in machine.rejections} == bad


def test_a_pause_leaves_the_batch_as_it_was() -> None:
    machine = BatchMachine(10)
    attempt = machine.next(100)
    assert attempt is not None
    assert machine.answered(attempt, TRANSIENT) is NextStep.PAUSE
    assert machine.answered(attempt, CONFIG) is NextStep.CONFIG
    assert machine.next(100) == attempt
    assert machine.settled == 0


def test_items_that_are_named_alone_go_again() -> None:
    machine = BatchMachine(6)
    attempt = machine.next(100)
    assert attempt is not None
    verdict = DeliveryVerdict(
        DeliveryResult.TRANSIENT, again=frozenset({2, 4}), kind="http", status=429
    )
    assert machine.answered(attempt, verdict) is NextStep.PAUSE
    assert machine.settled == 2
    assert machine.next(100) == Attempt((2, 4))


def test_a_refused_event_by_its_number_leaves_the_others_at_once() -> None:
    machine = BatchMachine(5)
    attempt = machine.next(100)
    assert attempt is not None
    verdict = DeliveryVerdict(
        DeliveryResult.PERMANENT, (RefusedEvent(3, "code 6"),), again=frozenset({0, 1, 2, 4})
    )
    assert machine.answered(attempt, verdict) is NextStep.NEXT
    # One neighbour first, as nothing was accepted yet.
    assert machine.next(100) == Attempt((0,))
    assert machine.answered(Attempt((0,)), SUCCESS) is NextStep.NEXT
    assert machine.next(100) == Attempt((1, 2, 4))


def test_an_event_that_fits_in_no_form_is_rejected_without_a_request() -> None:
    machine = BatchMachine(3, unsendable={1: "too_large"})
    assert machine.next(100) == Attempt((0, 2))
    machine.answered(Attempt((0, 2)), SUCCESS)
    assert machine.next(100) is None
    assert machine.settled == 3
    assert [(one.index, one.reason) for one in machine.rejections] == [(1, "too_large")]


def test_pauses_grow_are_jittered_and_heed_the_receiver_within_bounds() -> None:
    assert pause(0, 0.5, 60, 0, 0.0) == 0.1
    assert pause(0, 0.5, 60, 0, 0.999) < 0.5
    assert 50 < pause(20, 0.5, 60, 0, 0.999) <= 60
    assert pause(0, 0.5, 60, 120, 0.5) == 120
    assert pause(0, 0.5, 60, 1e9, 0.5) == MOST_RETRY_AFTER
    assert pause(10_000, 0.5, 60, 0, 1.0) == 60


def unidentified(count: int) -> DeliveryVerdict:
    return SUCCESS._replace(unidentified=count)


def answered(machine: BatchMachine, verdict: DeliveryVerdict) -> NextStep:
    attempt = machine.next(1000)
    assert attempt is not None
    return machine.answered(attempt, verdict)


def test_a_few_that_are_refused_without_a_name_hold_up_nothing() -> None:
    machine = BatchMachine(100)
    assert answered(machine, unidentified(MOST_REFUSED)) is NextStep.NEXT
    assert (machine.settled, machine.in_a_row, machine.next(1000)) == (100, 0, None)


def test_more_that_are_refused_without_a_name_disable_and_are_not_sent_again() -> None:
    machine = BatchMachine(100)
    assert answered(machine, unidentified(MOST_REFUSED + 1)) is NextStep.DISABLE
    assert (machine.settled, machine.next(1000)) == (100, None)


def test_batches_of_which_all_are_refused_without_a_name_disable_after_a_few_events() -> None:
    refused = batches = 0
    step = NextStep.NEXT
    while step is NextStep.NEXT:
        machine = BatchMachine(10, refused_before=refused)
        step = answered(machine, unidentified(10))
        refused, batches = machine.in_a_row, batches + 1
    assert (step, batches) == (NextStep.DISABLE, MOST_REFUSED // 10 + 1)
    machine = BatchMachine(10, refused_before=refused)
    answered(machine, unidentified(9))
    assert machine.in_a_row == 0
