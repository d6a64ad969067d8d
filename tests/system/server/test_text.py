"""Search in text on pages and on streams: decoded values, as the key sees them, at any time."""

from __future__ import annotations

from typing import Any

import pytest
from gateway_client import event
from gateways import Gateway
from open_streams import open_stream

TRANSPORTS = ("ndjson", "sse", "audit.v1")
# Raw JSON of `data`, as a producer may write it, each of which holds the word `ann`.
HOSTILE = (
    r'{"x":"ann"}', r'{"x":"\u0061nn"}', r'{"x":"\u0061\u006E\u006e"}', r'{"x":"A\u004eN"}',
    r'{"x":"\u0041NN\/\\"}', r'{"x":["\n","\u0000ann"]}',
    r'{"\u0061nn":"x","y":"J\u006fann\u0061"}',
)  # fmt: skip
# .. and these do not: the word is a name, or ends with an escape or in another value.
OTHERS = (
    r'{"ann":1}', r'{"\u0061nn":""}', r'{"x":"an","y":"n"}', r'{"x":"\\u0061nn"}',
    r'{"x":"a\u0308nn"}', r'{"x":"an\u00f1"}', r'{"x":["a","nn"]}', r'{"x":"ａｎｎ"}',
)  # fmt: skip


def raw(name: str, data: str) -> bytes:
    return b'{"id":"%b","category":"auth","action":"a","data":%b}' % (name.encode(), data.encode())


@pytest.fixture
async def hostile(gateway: Gateway) -> Gateway:
    """A gateway with events that hold a word in strange ways, and others that do not."""
    lines = [raw(f"in{n}", data) for n, data in enumerate(HOSTILE)]
    lines += [raw(f"out{n}", data) for n, data in enumerate(OTHERS)]
    # More than what the log gives whole, whatever is wanted.
    lines += [raw(f"hay{n}", '{"x":"hay"}') for n in range(100)]
    answer = await gateway.post(
        "/v1/events", data=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
    )
    assert answer.status == 201, answer.body
    return gateway


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_a_word_is_found_however_json_writes_it(hostile: Gateway, order: str) -> None:
    page = await hostile.pull(text="ann", order=order, limit="1000")
    assert sorted(one["id"] for one in page["events"]) == [f"in{n}" for n in range(len(HOSTILE))]
    page = await hostile.pull(text="-ann -hay", order=order, limit="1000")
    assert sorted(one["id"] for one in page["events"]) == [f"out{n}" for n in range(len(OTHERS))]


async def test_a_store_is_asked_for_bytes_only_where_nothing_is_hidden(
    hostile: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[tuple[str, ...], int]] = []
    log: Any = hostile.context.log
    read = log.read

    async def noted(*range_: int, hint: Any = None, **how: Any) -> Any:
        page = await read(*range_, hint=hint, **how)
        asked.append((hint.needles, len(page.events)))
        return page

    monkeypatch.setattr(log, "read", noted)
    await hostile.send(*(event(id=f"plain{n}", data={"x": "nothing"}) for n in range(100)))
    keys = {
        "clear": await hostile.reader_key(),
        "masked": await hostile.reader_key(fields={"mask": ["source.ip"]}),
        "looking back": await hostile.reader_key(when={"max_lookback": "1h"}),
    }
    for name, key in keys.items():
        asked.clear()
        # Beyond what small reads give whole.
        page = await hostile.pull(key, text='ann "x\\"', limit="1000")
        assert page["events"] == []
        await hostile.pull(key, text="ANN caf\u00e9 a/b", limit="1000")
        needles = {one for one, _ in asked}
        assert needles == ({("ann",)} if name == "clear" else {()}), name
        if name == "clear":
            assert max(count for _, count in asked) < 60, "plain events were left out by the store"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_live_stream_gets_what_holds_the_words(gateway: Gateway, transport: str) -> None:
    stream = await open_stream(gateway, transport, text="ann -bob", text_in="actor,data")
    other = await open_stream(gateway, transport, text="bob")
    clear = await open_stream(gateway, transport)
    await gateway.tail_reaches(gateway.context.log.head)
    await gateway.send(
        event(id="1", actor={"id": "ann"}),
        event(id="2", actor={"id": "ann"}, data={"x": "BOB"}),
        event(id="3", reason="ann"),
        event(id="4", data={"x": [{"y": "jo\u00e3o ANNA"}]}),
    )
    assert [one["id"] for one in await stream.take(2)] == ["1", "4"]
    assert [one["id"] for one in await other.take(1)] == ["2"]
    assert [one["id"] for one in await clear.take(4)] == ["1", "2", "3", "4"]


async def test_streams_of_other_texts_share_no_group_and_no_replay(gateway: Gateway) -> None:
    await gateway.send(event(id="1", reason="ann"), event(id="2", reason="bob"))
    for word, name in (("ann", "1"), ("bob", "2")):
        stream = await open_stream(gateway, "ndjson", text=word, from_="start")
        assert [one["id"] for one in await stream.take(1)] == [name]
        ended = await open_stream(gateway, "ndjson", text=word, from_="start", follow="false")
        assert [one["id"] for one in await ended.take(1)] == [name]


async def test_a_masked_value_decides_nothing_on_a_live_stream(gateway: Gateway) -> None:
    key = await gateway.reader_key(fields={"mask": ["actor.name"], "drop": ["reason"]})
    absent = await open_stream(gateway, "ndjson", key, text="-ann -***")
    there = await open_stream(gateway, "ndjson", key, text="ann")
    await gateway.send(
        event(id="1", actor={"name": "ann"}, reason="ann"),
        event(id="2", actor={"name": "bob"}, data={"x": "ann"}),
        event(id="3", actor={"name": "bob"}),
    )
    assert [one["id"] for one in await absent.take(2)] == ["1", "3"]
    assert [one["id"] for one in await there.take(1)] == ["2"]


async def test_what_a_text_costs_is_charged_as_filters_are(gateway: Gateway) -> None:
    before = await gateway.metric("filter_steps_total")
    await gateway.send(*(event(data={"x": ["y"] * 1000}) for _ in range(50)))
    await gateway.pull(text="nothing", limit="1000")
    assert await gateway.metric("filter_steps_total") >= before + 50 * 1000


async def test_the_record_tells_what_was_looked_for(gateway: Gateway) -> None:
    await gateway.pull(text="ann", text_in="actor")
    await gateway.context.access_log.flush()
    page = await gateway.pull(gateway.admin, category="gateway.access", order="desc")
    asked = [one["data"].get("parameters") for one in page["events"]]
    assert any(one and one[0].get("text") == ["ann"] for one in asked), asked


async def test_events_of_very_many_values_are_searched_off_the_event_loop(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: list[Any] = []
    work: Any = gateway.context.work
    in_process = work.in_process

    def counted(key_id: str, part: Any) -> Any:
        away.append(part)
        return in_process(key_id, part)

    monkeypatch.setattr(work, "in_process", counted)
    values = ["y"] * 20_000
    await gateway.send(event(id="1", data={"x": [*values, "Needle"]}), event(id="2"))
    await gateway.send(event(id="3", data={"x": values}))
    page = await gateway.pull(text="needle", category="auth")
    assert [one["id"] for one in page["events"]] == ["1"]
    assert away
