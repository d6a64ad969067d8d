"""Decisions over one batch: which events go next, and what becomes of each. Pure.

Theory. A batch is a list of events, and an answer concerns the request as a whole unless it names
events. Each event of the batch ends as *delivered* or as *rejected*, and until then nothing is
forgotten: the `settled` prefix, over which the cursor may move, ends before the first event that is
neither. So nothing is skipped, and the cursor only grows.

Poison. A request that is refused as a whole contains an event that the receiver does not take. The
machine looks for it by halving: of the first `within` pending events one is known to be refused, so
their first half goes next. If that is accepted, the bad one is in the rest, and the rest is not
asked for again as a whole. An event that was refused alone is a *suspect*: it is set aside, and the
others go on.

Wrong configuration. A receiver that refuses everything must not fill the dead letters. So a suspect
is *proven* only once another event was accepted after its first refusal: a neighbour, or else the
test event. If even that is refused, nothing is wrong with the events: all suspects return to the
batch, and the answer is `CONFIG`. A proven suspect is sent again until it was refused three times
alone, once more in reduced form, and only then rejected. More than 32 refusals in one batch, or in
as many batches as they take with nothing of the log accepted in between, disable the destination
although the test event is accepted; the last of them are not rejected. So do as many that the
receiver refuses without saying which: their range is one dead letter.

Transitions, by the answer to an attempt:

    attempt             accepted                    refused                    transient, config
    first k pending     delivered; more may follow  k > 1: halve               the same, after a
                                                    k = 1: suspect             pause (`NextStep`)
    named in answer     the others are delivered    suspect                    pending
    test event          proves all suspects         suspects return: CONFIG    the same
    suspect, 1st-2nd    delivered                   once more                  the same
    suspect, 3rd        delivered                   reduced form next          the same
    reduced form        delivered, counted reduced  rejected                   the same

Order. Where the receiver itself tells which event is its newest, all before that one count as
stored. So `ordered` holds back what is behind a suspect until that is settled, and the test event
alone proves it.

Cost of one bad event among N that are accepted otherwise: 1 + log2 N requests to find it, at most
two to prove it and to carry the rest, and three to be sure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from gateway.delivery.outlets.outlet import DeliveryResult, DeliveryVerdict, RefusedEvent

MOST_REFUSED = 32
# How often an event is refused alone before its reduced form is tried.
_REFUSALS = 3


class Attempt(NamedTuple):
    """What to send next: events of the batch by index, one in reduced form, or the test event."""

    indices: tuple[int, ...]
    reduced: bool = False

    @property
    def tests(self) -> bool:
        """Whether it is the test event."""
        return not self.indices


class NextStep(StrEnum):
    """What follows an answer."""

    # The next attempt, at once.
    NEXT = "next"
    # The next attempt after a pause, as the receiver or the way to it does not work now.
    PAUSE = "pause"
    # The same, and nothing is accepted before somebody changes the configuration.
    CONFIG = "config"
    # Nothing more: too many events are refused.
    DISABLE = "disable"


class Rejection(msgspec.Struct, frozen=True):
    """Event that the receiver does not take."""

    index: int
    reason: str
    status: int | None
    attempts: int


class _Suspect(msgspec.Struct):
    """Event that was refused alone."""

    reason: str
    status: int | None
    # Number of acceptances when it was first refused.
    since: int
    refusals: int = 1
    reduced: bool = False


class BatchMachine:
    """Machine of a batch of `count` events. `can_reduce` says whether an event has a reduced form;
    `unsendable` events, by index, do not fit in any and are rejected for that reason. `ordered`:
    nothing is sent before all in front of it are settled."""

    def __init__(
        self,
        count: int,
        can_reduce: Callable[[int], bool] = lambda index: False,
        unsendable: Mapping[int, str] = {},
        *,
        ordered: bool = False,
        refused_before: int = 0,
    ) -> None:
        """`refused_before`: `in_a_row` of the batch before."""
        # Number of leading events that are delivered or rejected.
        self.settled = 0
        self.rejections: list[Rejection] = []
        # Indices that were delivered in reduced form after a refusal.
        self.reduced: list[int] = []
        self.duplicates = self.unidentified = 0
        # Events rejected since one of the log was accepted, also in batches before.
        self.in_a_row = refused_before
        self._can_reduce, self._ordered = can_reduce, ordered
        self._done = bytearray(count)
        self._pending = [index for index in range(count) if index not in unsendable]
        # The first so many pending events contain one that is refused; 0 if unknown.
        self._within = 0
        # Most events of the next attempt, after refusals in a row; 0 without bound.
        self._most = 0
        self._suspects: dict[int, _Suspect] = {}
        self._accepted = 0
        self._unsendable = len(unsendable)
        for index, reason in unsendable.items():
            self._reject(Rejection(index, reason, None, 0))

    @property
    def refused(self) -> int:
        """Number of events that the receiver has refused, each by itself."""
        return len(self._suspects) + len(self.rejections) - self._unsendable

    @property
    def waiting(self) -> int:
        """Number of events that are neither delivered nor rejected."""
        return len(self._pending) + len(self._suspects)

    def next(self, most: int) -> Attempt | None:
        """The next attempt, with at most so many events; None if all are settled."""
        if self._must_prove() and (not self._pending or not self._may_ask_neighbour()):
            return Attempt(())
        if self._pending and not (self._ordered and self._suspects):
            return Attempt(tuple(self._pending[: self._size(most)]))
        for index, suspect in self._suspects.items():
            return Attempt((index,), reduced=suspect.refusals >= _REFUSALS)
        return None

    def answered(self, attempt: Attempt, verdict: DeliveryVerdict) -> NextStep:
        """Take in the answer to an attempt."""
        self.duplicates += verdict.duplicates
        self.unidentified += verdict.unidentified
        if attempt.tests:
            return self._tested(verdict)
        named = bool(verdict.refused or verdict.again)
        if not named and verdict.result in (DeliveryResult.TRANSIENT, DeliveryResult.CONFIG):
            return _pause(verdict)
        if not named and verdict.result is DeliveryResult.SUCCESS:
            self._deliver(attempt.indices, verdict.unidentified, reduced=attempt.reduced)
            if max(verdict.unidentified, self.in_a_row) > MOST_REFUSED:
                return NextStep.DISABLE
            return NextStep.NEXT
        if not named:
            self._refuse_whole(attempt, verdict)
            return self._unless_too_many()
        return self._refuse_named(attempt, verdict)

    def _size(self, most: int) -> int:
        size = self._within // 2 or 1 if self._within else len(self._pending)
        if self._must_prove():
            # A neighbour of the suspect, alone.
            return 1
        return max(1, min(size, most, self._most or size))

    # Proof

    def _unproven(self) -> int:
        return sum(suspect.since == self._accepted for suspect in self._suspects.values())

    def _must_prove(self) -> bool:
        """Whether something else has to be accepted before more are taken for bad."""
        unproven = self._unproven()
        if not unproven:
            return False
        # While others of the batch were accepted before, the rest of it goes on as the proof.
        return self._ordered or unproven > 1 or not self._pending or not self._accepted

    def _may_ask_neighbour(self) -> bool:
        return self._unproven() == 1 and not self._ordered

    def _tested(self, verdict: DeliveryVerdict) -> NextStep:
        if verdict.result is DeliveryResult.SUCCESS:
            self._accepted += 1
            return self._unless_too_many()
        if verdict.result is DeliveryResult.TRANSIENT:
            return NextStep.PAUSE
        self._pending = sorted([*self._pending, *self._suspects])
        self._suspects.clear()
        self._within, self._most = 0, 1
        return NextStep.CONFIG

    def _unless_too_many(self) -> NextStep:
        most = max(self.refused, self.in_a_row + len(self._suspects))
        if most > MOST_REFUSED and not self._must_prove():
            return NextStep.DISABLE
        return NextStep.NEXT

    # Answers

    def _deliver(self, indices: tuple[int, ...], unidentified: int, *, reduced: bool) -> None:
        if unidentified < len(indices):
            self._accepted += 1
            self.in_a_row = 0
        else:
            self.in_a_row += unidentified
        if indices[0] in self._suspects:
            del self._suspects[indices[0]]
            if reduced:
                self.reduced.append(indices[0])
        else:
            del self._pending[: len(indices)]
            self._within = max(0, self._within - len(indices))
            self._most = 8 * self._most if self._most < len(self._done) else 0
        self._settle(indices)

    def _refuse_whole(self, attempt: Attempt, verdict: DeliveryVerdict) -> None:
        if len(attempt.indices) > 1:
            self._within = len(attempt.indices)
            return
        refusal = RefusedEvent(0, verdict.kind or verdict.result.value, verdict.status)
        self._suspect(attempt.indices[0], refusal)

    def _refuse_named(self, attempt: Attempt, verdict: DeliveryVerdict) -> NextStep:
        delivered = verdict.delivered(len(attempt.indices))
        gone = {attempt.indices[at] for at in delivered}
        if delivered:
            self._accepted += 1
            self.in_a_row = 0
        for index in gone & self._suspects.keys():
            del self._suspects[index]
            if attempt.reduced:
                self.reduced.append(index)
        for refusal in verdict.refused:
            self._suspect(attempt.indices[refusal.index], refusal)
        self._pending = [index for index in self._pending if index not in gone]
        self._within = 0
        self._settle(tuple(gone))
        if verdict.result in (DeliveryResult.TRANSIENT, DeliveryResult.CONFIG):
            return _pause(verdict)
        if not delivered and not verdict.refused:
            return NextStep.PAUSE
        return self._unless_too_many()

    def _suspect(self, index: int, refusal: RefusedEvent) -> None:
        known = self._suspects.get(index)
        if known is None:
            if self._unproven():
                self._most = 1
            self._suspects[index] = _Suspect(refusal.reason, refusal.status, self._accepted)
            self._pending.remove(index)
            self._within = 0
            return
        known.refusals += 1
        known.reason, known.status = refusal.reason, refusal.status
        if known.refusals > _REFUSALS or (
            known.refusals == _REFUSALS and not self._can_reduce(index)
        ):
            del self._suspects[index]
            self.in_a_row += 1
            self._reject(Rejection(index, known.reason, known.status, known.refusals))

    def _reject(self, rejection: Rejection) -> None:
        self.rejections.append(rejection)
        self._settle((rejection.index,))

    def _settle(self, indices: tuple[int, ...]) -> None:
        for index in indices:
            self._done[index] = 1
        end = self._done.find(0, self.settled)
        self.settled = len(self._done) if end < 0 else end


def _pause(verdict: DeliveryVerdict) -> NextStep:
    return NextStep.CONFIG if verdict.result is DeliveryResult.CONFIG else NextStep.PAUSE
