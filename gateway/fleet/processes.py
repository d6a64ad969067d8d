"""Processes of one gateway, its workers and replicas, and questions that one asks all others.

They have only the key store in common, on any way to run a gateway: each process has a note there,
renewed now and then. A question is added to a note that all look at a few times a second; each
answer is a note of its own. Nothing is promised: who does not answer in time is named.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import msgspec

from gateway.access.keys.key_store import Notes, Noting
from gateway.clock import Clock, until_next_poll
from gateway.errors import GatewayError, TooManyRequests

# Seconds for an answer.
ANSWER_SECONDS = 1.0
PROCESS, QUESTION, ANSWER = "fleet_process", "fleet_question", "fleet_answer"
_OPEN = "open"
_POLL_SECONDS = 0.25
_LOOK_SECONDS = 0.025
_RENEW_SECONDS = 10.0
# A process that was not heard of for so long has ended without a word.
_FORGET_SECONDS = 120.0
_MOST_OPEN = 32
_MOST_ASKED = 4
# Of one party, of which one is asked at a time.
_MOST_WAITING = 8
_TAG_BYTES, _ID_BYTES = 4, 8
_LOGGER = logging.getLogger(__name__)

Answering = Callable[[bytes], Awaitable[bytes]]
T = TypeVar("T")


class Process(msgspec.Struct, frozen=True):
    """One process: of which replica, and which worker of that. `tag` is its own since it began,
    `seen` when it renewed its note (seconds since 1970)."""

    tag: str
    replica: str
    worker: int
    name: str
    seen: float = 0.0

    @classmethod
    def new(cls, replica: str, worker: int, workers: int) -> Process:
        """Process that has just begun."""
        name = replica if workers == 1 else f"{replica}/{worker}"
        return cls(secrets.token_hex(_TAG_BYTES), replica, worker, name)


class Question(msgspec.Struct, frozen=True):
    """Question to one process (`to` is its tag) or to all, with its `body` in JSON. `expires`: what
    is answered later (seconds since 1970) nobody reads."""

    id: str
    asker: str
    to: str
    kind: str
    expires: float
    body: msgspec.Raw


class _AnswerNote(msgspec.Struct, frozen=True):
    expires: float
    body: msgspec.Raw


class Replies(msgspec.Struct, frozen=True):
    """Bodies of the answers, the processes that gave them, and those that gave none."""

    bodies: list[bytes]
    answered: list[Process]
    missing: list[Process]

    def read(self, decoder: msgspec.json.Decoder[T]) -> tuple[list[T], list[Process]]:
        """What the answers say, and the processes of which nothing is known: those that gave none,
        and those of another version whose answer says something else."""
        said: list[T] = []
        unknown = list(self.missing)
        for process, body in zip(self.answered, self.bodies, strict=True):
            try:
                said.append(decoder.decode(body))
            except msgspec.MsgspecError:
                unknown.append(process)
        return said, unknown


class _Turn:
    """Turns of the questions of one party: one is asked at a time, some wait."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.questions = 0


_ENCODE = msgspec.json.encode
_PROCESSES = msgspec.json.Decoder(Process)
_QUESTIONS = msgspec.json.Decoder(list[Question])
_ANSWERS = msgspec.json.Decoder(_AnswerNote)


class Processes:
    """The processes of a gateway, as one of them knows them. `alone`: there can be no others."""

    def __init__(self, own: Process, notes: Notes, clock: Clock, *, alone: bool) -> None:
        self.own = own
        self.alone = alone
        self._notes = notes
        self._clock = clock
        self._answering: dict[str, Answering] = {}
        self._asking = asyncio.Semaphore(_MOST_ASKED)
        self._turns: dict[str, _Turn] = {}
        self._renew_at = float("-inf")
        self._open: bytes | None = None
        self._known: set[str] = set()

    def answer(self, kind: str, answering: Answering) -> None:
        """Answer questions of a kind by a function from their body to that of the answer."""
        self._answering[kind] = answering

    async def named(self, tag: str) -> Process | None:
        """The process with that tag, if it is known."""
        there = [self.own, *await self._others()]
        return next((one for one in there if one.tag == tag), None)

    async def ask(
        self, kind: str, body: bytes, *, by: str = "", to: Process | None = None
    ) -> Replies:
        """Ask one process, or all with this one. Waits for answers a second at most.

        `by`: the party whose question it is. One with many questions holds up no other; raises
        `TooManyRequests` for too many.
        """
        others = [one for one in await self._others() if to is None or one.tag == to.tag]
        answers_itself = to is None or to.tag == self.own.tag
        if not others:
            own = [await self._answering[kind](body)] if answers_itself else []
            return Replies(own, [self.own] if own else [], [])
        async with self._turn(by), self._asking:
            begun = self._clock.monotonic()
            question = Question(
                secrets.token_hex(_ID_BYTES), self.own.tag, "" if to is None else to.tag, kind,
                self._clock.now() + ANSWER_SECONDS, msgspec.Raw(body),
            )  # fmt: skip
            try:
                with suppress(TimeoutError):
                    # A process that stands still may hold what is needed to write notes.
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await self._notes.update_notes(QUESTION, {_OPEN: _with(question)})
                own = [await self._answering[kind](body)] if answers_itself else []
                found = await self._collect(question, others, begun + ANSWER_SECONDS)
            finally:
                await self._withdraw(question, others)
        bodies, answered = list(own), [self.own] if own else []
        for one in others:
            if one.tag in found:
                bodies.append(found[one.tag])
                answered.append(one)
        return Replies(bodies, answered, [one for one in others if one.tag not in found])

    @asynccontextmanager
    async def _turn(self, by: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(by, _Turn())
        if turn.questions > _MOST_WAITING:
            raise TooManyRequests(
                "as many questions to all processes as may wait are waiting already; come again "
                "when some of them are answered",
                code="busy",
                retry_after=1,
            )
        turn.questions += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.questions -= 1
            if not turn.questions:
                self._turns.pop(by, None)

    async def run(self) -> None:
        """Answer the questions of others, until cancelled."""
        failed = False
        while True:
            try:
                await self.poll()
                failed = False
            except GatewayError as error:
                if not failed:
                    _LOGGER.warning("questions of other processes wait: %s", error.detail)
                failed = True
            await self._clock.sleep(until_next_poll(self._clock, _POLL_SECONDS))

    async def poll(self) -> None:
        """Renew the note of this process, if that is due, and answer what was asked since."""
        if self._clock.monotonic() >= self._renew_at:
            await self._renew()
            self._renew_at = self._clock.monotonic() + _RENEW_SECONDS
        asked = await self._notes.watched_note(QUESTION, _OPEN)
        if asked == self._open:
            return
        questions = _questions(asked)
        new = [one for one in questions if one.id not in self._known]
        self._open, self._known = asked, {one.id for one in questions}
        for question in new:
            if question.asker != self.own.tag and question.to in ("", self.own.tag):
                await self._reply(question)

    async def close(self) -> None:
        """Say that this process ends."""
        if not self.alone:
            with suppress(GatewayError):
                await self._notes.update_notes(PROCESS, {self.own.name: _unless_of(self.own.tag)})

    async def _reply(self, question: Question) -> None:
        answering = self._answering.get(question.kind)
        # A process that stood still finds questions that nobody waits for any more.
        if answering is None or self._clock.now() >= question.expires:
            return
        try:
            body = await answering(bytes(question.body))
        except msgspec.MsgspecError:
            # Another version asks something else.
            return
        note = _ENCODE(_AnswerNote(question.expires, msgspec.Raw(body)))
        await self._notes.update_notes(ANSWER, {question.id + self.own.tag: lambda known: note})

    async def _others(self) -> list[Process]:
        if self.alone:
            return []
        now = self._clock.now()
        found = map(_process, (await self._notes.notes(PROCESS)).values())
        return [
            one
            for one in found
            if one and one.name != self.own.name and now - one.seen < _FORGET_SECONDS
        ]

    async def _collect(
        self, question: Question, others: list[Process], deadline: float
    ) -> dict[str, bytes]:
        """Answers by tag, until all are there or it is time."""
        found: dict[str, bytes] = {}
        while True:
            notes = await self._notes.notes(ANSWER, question.id, len(others))
            for name, note in notes.items():
                tag = name.removeprefix(question.id)
                answer = _answer(note)
                if name.startswith(question.id) and answer is not None:
                    found[tag] = bytes(answer.body)
            if len(found) >= len(others) or self._clock.monotonic() >= deadline:
                return found
            await self._clock.sleep(_LOOK_SECONDS)

    async def _withdraw(self, question: Question, others: Iterable[Process]) -> None:
        """Delete a question with its answers; what is left is deleted when it has passed."""
        with suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._notes.update_notes(QUESTION, {_OPEN: _without(question)})
                await self._notes.update_notes(
                    ANSWER, {question.id + one.tag: lambda known: None for one in others}
                )

    async def _renew(self) -> None:
        """Renew the note of this process; delete what others have left."""
        now = self._clock.now()
        note = _ENCODE(msgspec.structs.replace(self.own, seen=now))
        await self._notes.update_notes(PROCESS, {self.own.name: lambda known: note})
        ended = [
            name
            for name, known in (await self._notes.notes(PROCESS)).items()
            if (process := _process(known)) is None or now - process.seen >= _FORGET_SECONDS
        ]
        if ended:
            await self._notes.update_notes(PROCESS, {name: _unless_seen(now) for name in ended})
        late = [
            name
            for name, known in (await self._notes.notes(ANSWER, "", _MOST_OPEN)).items()
            if (answer := _answer(known)) is None or now - answer.expires >= _FORGET_SECONDS
        ]
        if late:
            await self._notes.update_notes(ANSWER, {name: lambda known: None for name in late})


# Notes of another version may be unreadable, and are as if they were not there.


def _process(note: bytes) -> Process | None:
    with suppress(msgspec.MsgspecError):
        return _PROCESSES.decode(note)
    return None


def _answer(note: bytes) -> _AnswerNote | None:
    with suppress(msgspec.MsgspecError):
        return _ANSWERS.decode(note)
    return None


def _questions(note: bytes | None) -> list[Question]:
    with suppress(msgspec.MsgspecError):
        return [] if note is None else _QUESTIONS.decode(note)
    return []


def _with(question: Question) -> Noting:
    """Add a question; those that have passed, and too many, go."""

    def noting(known: bytes | None) -> bytes:
        begun = question.expires - ANSWER_SECONDS
        kept = [one for one in _questions(known) if one.expires > begun]
        return _ENCODE([*kept[1 - _MOST_OPEN :], question])

    return noting


def _without(question: Question) -> Noting:
    def noting(known: bytes | None) -> bytes | None:
        kept = [one for one in _questions(known) if one.id != question.id]
        return _ENCODE(kept) if kept else None

    return noting


def _unless_of(tag: str) -> Noting:
    """Delete the note of a process, unless another has its place."""

    def noting(known: bytes | None) -> bytes | None:
        process = known and _process(known)
        return None if not process or process.tag == tag else known

    return noting


def _unless_seen(now: float) -> Noting:
    """Delete the note of a process that was not heard of for long."""

    def noting(known: bytes | None) -> bytes | None:
        process = known and _process(known)
        return known if process and now - process.seen < _FORGET_SECONDS else None

    return noting
