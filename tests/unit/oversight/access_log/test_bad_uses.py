"""One bad use stops neither the record of uses nor the watch over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from gateway.access.usage.access import DENIED, PULLED, Access
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.errors import Unavailable
from gateway.event import MAX_EVENT_BYTES, Draft
from gateway.log.ports import Appended
from gateway.oversight.access_log.access_entry import MOST_PARAMETERS, AccessEntry
from gateway.oversight.access_log.access_log import AccessLog, AccessLogTimings
from gateway.oversight.detection.anomaly_detector import AnomalyDetector, Reaction
from gateway.oversight.detection.baseline import decode_volume
from gateway.oversight.detection.findings import Findings
from gateway.oversight.detection.signals import Signal
from gateway.runtime.background import Background
from tests.support.watched import DAY, FakeHub, FakeWriter, key

if TYPE_CHECKING:
    from tests.conftest import FakeClock

A, B = key("A" * 12), key("B" * 12)
# What a client may say of itself: halves of surrogate pairs, as bytes that are no UTF-8 become.
HALF = "curl \udcff\udc80"
TEXTS = [HALF, "\ud800", "x" * 1_000_000, "\x00\x1b[2J", "\u202e", "\U0010ffff" * 10_000, ""]


class Part:
    """A record and a watch that listens to it, over a key store in a file."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.writer = FakeWriter()
        self.store = SqliteKeys(path)
        self.record = AccessLog(self.writer, clock, "k3f9xq7m2p", AccessLogTimings())
        self.findings = Findings(self.store, self.writer, clock)
        self.hub = FakeHub()
        self.detector = AnomalyDetector(
            self.store, self.hub, self.findings, clock,  # type: ignore[arg-type]
            warm_up=7 * DAY, reaction=Reaction(suspend_on=("denials",)),
        )  # fmt: skip
        self.record.on_access(self.detector.observe)

    def note(self, times: int = 1, **members: Any) -> None:
        for _ in range(times):
            use = {"at": self.clock.now(), "action": PULLED, "key": A, "address": "10.0.0.1"}
            self.record.log(Access(**{**use, **members}))

    def denied(self, times: int = 5, **members: Any) -> None:
        refused = {"action": DENIED, "outcome": "denied", "reason": "action_not_granted"}
        for n in range(times):
            self.note(**{**refused, "at": self.clock.now() + n / 100, **members})

    def counted(self, **members: Any) -> int:
        return sum(
            event["data"]["count"]
            for event in self.writer.events("gateway.access")
            if members.items() <= event.items()
        )

    async def signals(self) -> list[tuple[str, str]]:
        return sorted((one.signal, one.key) for one in await self.findings.all())


@pytest.fixture
async def part(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Part]:
    made = Part(tmp_path / "keys.db", clock)
    background = Background(clock)
    tasks = [background.keep("record", made.record.run), background.keep("dog", made.detector.run)]
    yield made
    for task in tasks:
        assert not task.done(), "it goes on"
    await background.close()
    await made.store.close()


@pytest.mark.parametrize("member", ["client", "address", "reason"])
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:8]))
async def test_whatever_a_client_says_is_recorded_and_found(
    part: Part, member: str, text: str
) -> None:
    await part.store.create(A)
    said: dict[str, Any] = {member: text}
    part.denied(**said)
    part.denied(key=B)
    await part.clock.advance(2)
    assert part.counted() == 10
    assert await part.signals() == [("denials", A.id), ("denials", B.id)]
    found = await part.store.get(A.id)
    assert found is not None
    assert found.state(part.clock.now()) == "suspended"
    assert max(len(draft.tail) for draft in part.writer.drafts.values()) < 10_000


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:8]))
async def test_whatever_category_is_asked_for_is_recorded_and_found(part: Part, text: str) -> None:
    part.note(forbidden=("hr", "legal", text))
    part.note(key=B, forbidden=("hr", "legal", "vault"))
    await part.clock.advance(2)
    assert part.counted() == 2
    assert await part.signals() == [("forbidden_categories", A.id), ("forbidden_categories", B.id)]


@pytest.mark.parametrize("text", [HALF, "\ud800"], ids=ascii)
async def test_a_thief_cannot_hide_behind_text_that_cannot_be_written(
    part: Part, text: str
) -> None:
    for reason in ("key_revoked", "key_expired", "action_not_granted"):
        gone = key("C" * 12, successor="D" * 12)
        part.denied(key=gone, reason=reason, client=text, address=text)
        await part.clock.advance(1)
    found = {signal for signal, _ in await part.signals()}
    assert found >= {"revoked_presented", "drained_presented", "denials"}


async def test_a_listener_that_fails_fails_no_request(
    part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(use: Access) -> None:
        raise RuntimeError("broken")

    part.record._listeners.insert(0, broken)
    part.denied()
    await part.clock.advance(2)
    assert part.counted() == 5
    assert await part.signals() == [("denials", A.id)], "and the others hear of it"
    assert "not looked at" in caplog.text


async def test_a_record_that_cannot_be_made_is_written_without_details(
    part: Part, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = AccessEntry._data

    def broken(entry: AccessEntry, first: Access, epoch: str) -> dict[str, Any]:
        if first.key is A:
            raise RuntimeError("broken")
        return whole(entry, first, epoch)

    monkeypatch.setattr(AccessEntry, "_data", broken)
    part.note(7)
    part.note(3, key=B)
    await part.clock.advance(2)
    of_a, of_b = part.writer.events("gateway.access")
    assert (of_a["actor"]["key_id"], of_a["data"]) == (A.id, {"count": 7, "without_details": 7})
    assert of_b["data"]["count"] == 3
    assert "without its details" in caplog.text


async def test_a_record_that_the_log_never_takes_holds_up_no_other(
    part: Part, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = part.writer.append

    async def picky(batch: Sequence[Draft]) -> Appended:
        if any(A.id in str(orjson.loads(b"{" + draft.tail)) for draft in batch):
            raise ValueError("not this one")
        return await whole(batch)

    monkeypatch.setattr(part.writer, "append", picky)
    part.note(7)
    part.note(3, key=B)
    await part.clock.advance(2)
    assert part.counted() == 3
    assert (part.record.lost, part.record.written, part.record.waiting) == (1, 1, 0)
    assert "cannot be written" in caplog.text


async def test_an_outage_among_records_written_apart_loses_none(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = part.writer.append
    answers: list[Exception | None] = [ValueError("too much"), None, Unavailable("away"), None]

    async def moody(batch: Sequence[Draft]) -> Appended:
        error = answers.pop(0) if answers else None
        if error is not None:
            raise error
        return await whole(batch)

    monkeypatch.setattr(part.writer, "append", moody)
    for one in (A, B):
        part.note(2, key=one)
    await part.clock.advance(3)
    assert part.counted() == 4
    assert len(part.writer.drafts) == 2
    assert part.record.lost == 0


async def test_a_look_that_fails_is_not_the_last(
    part: Part, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = part.detector.poll

    async def broken() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(part.detector, "poll", broken)
    part.denied()
    await part.clock.advance(1)
    assert "broken" in caplog.text
    monkeypatch.setattr(part.detector, "poll", whole)
    await part.clock.advance(4)
    assert await part.signals() == [("denials", A.id)]


async def test_a_note_that_cannot_be_read_concerns_its_key_alone(
    part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in ("trace", "volume"):
        await part.store.update_notes(kind, {A.id: lambda _: b"rubbish"})
    for one in (A, B):
        part.denied(key=one)
        part.note(key=one, events=5)
    await part.clock.advance(70)
    # What cannot be read is begun anew.
    assert await part.signals() == [("denials", A.id), ("denials", B.id)]
    assert decode_volume(await part.store.note("volume", B.id)).count == 5
    assert A.id in caplog.text


async def test_what_was_found_is_not_lost_when_the_key_store_goes_away_in_between(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    await part.store.create(A)
    whole_note, whole_change = part.store.note, part.store.change

    async def away(*_: Any) -> Any:
        raise Unavailable("away")

    monkeypatch.setattr(part.store, "note", away)
    monkeypatch.setattr(part.store, "change", away)
    part.denied()
    part.denied(key=B)
    part.denied(key=None, address="45.1.2.3")
    await part.clock.advance(3)
    monkeypatch.setattr(part.store, "note", whole_note)
    await part.clock.advance(2)
    findings = {one.key or one.address: one.count for one in await part.findings.all()}
    assert findings == {A.id: 5, B.id: 5, "45.1.2.3": 5}, "each is counted once"
    monkeypatch.setattr(part.store, "change", whole_change)
    await part.clock.advance(2)
    found = await part.store.get(A.id)
    assert found is not None
    assert found.state(part.clock.now()) == "suspended"
    assert {one.count for one in await part.findings.all()} == {5}


async def test_minutes_counted_while_the_key_store_was_away_are_minutes_later(
    part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = part.store.update_notes

    async def away(*_: Any) -> None:
        raise Unavailable("away")

    part.note(events=1)
    await part.clock.advance(61)
    monkeypatch.setattr(part.store, "update_notes", away)
    for count in (10, 20, 30):
        part.note(events=count)
        await part.clock.advance(60)
    monkeypatch.setattr(part.store, "update_notes", whole)
    part.note(events=40)
    await part.clock.advance(70)
    volume = decode_volume(await part.store.note("volume", A.id))
    assert volume.baseline.recent == (1, 10, 20, 30, 40), "not one minute of a hundred"


async def test_a_sign_that_cannot_be_kept_holds_up_no_other(
    part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    part.detector.profiles.add_signal(A.id, Signal("revoked_presented", 1.0, 1, {"x": object()}))
    part.denied(key=B)
    await part.clock.advance(2)
    assert await part.signals() == [("denials", B.id)]
    assert "left out" in caplog.text


async def test_a_finding_that_cannot_be_told_holds_up_no_other(
    part: Part, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = part.writer.append

    async def picky(batch: Sequence[Draft]) -> Appended:
        if any(f"finding-denials-{A.id}" in draft.id for draft in batch):
            raise ValueError("not this one")
        return await whole(batch)

    monkeypatch.setattr(part.writer, "append", picky)
    part.denied()
    part.denied(key=B)
    await part.clock.advance(2)
    [event] = part.writer.events("gateway.anomaly")
    assert event["targets"][0]["id"] == B.id
    assert "not told of" in caplog.text


async def test_questions_as_long_as_they_get_fit_into_events(part: Part) -> None:
    """A body of 64 KiB may hold a question; sixteen of them would be more than an event."""
    for number in range(200):
        part.note(parameters=orjson.dumps({"actor": [f"{number}" + "ß" * 15_000]}).decode())
    await part.clock.advance(70)
    assert part.counted() == 200
    sizes = [len(draft.tail) for draft in part.writer.drafts.values()]
    assert max(sizes) < MAX_EVENT_BYTES
    kept = [
        one for event in part.writer.events("gateway.access") for one in event["data"]["parameters"]
    ]
    left_out = sum(
        event["data"].get("without_details", 0) for event in part.writer.events("gateway.access")
    )
    assert len(kept) + left_out == 200
    assert len(kept) >= 16
    assert MOST_PARAMETERS >= 15_000
