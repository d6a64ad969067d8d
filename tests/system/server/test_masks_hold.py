"""No combination of parameters shows a byte of what is masked or dropped, nor lets it be inferred.

Two gateways are asked the same. In one, hidden values are these; in the other, those: the
answers must be equal to the byte, whatever is asked, and a mark that stands in hidden values
alone must be in none of them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_worlds import (
    COUNT,
    EPOCH,
    GUESSES,
    KEYS,
    MARK,
    NAMES,
    USED,
    Worlds,
    comparable,
    finish,
    upgrade,
)
from masked_worlds import request as http

from gateway.formats.names import FORMAT_NAMES
from gateway.http.query.counts import COUNTS
from tests.support.examples import examples

pytestmark = pytest.mark.slow
ACCEPT = {"sse": "text/event-stream", "ndjson": "application/x-ndjson"}
WAYS = (*ACCEPT, "", "audit.v1", "audit.v1.batch", "audit.v1.lines")
FORMS = tuple(
    form
    for text in (MARK, MARK.lower(), MARK.upper())
    for form in (
        text.encode(), text.encode().hex().encode(), quote(text).encode(),
        base64.b64encode(text.encode())[:12], base64.b64encode(b"x" + text.encode())[4:12],
        base64.b64encode(b"xy" + text.encode())[4:12],
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    both = Worlds(tmp_path_factory.mktemp("worlds"))
    yield both
    both.close()


@pytest.fixture(scope="module")
def reads(worlds: Worlds) -> dict[str, list[Any]]:
    """What was asked of the log of each world, with the conditions that make its statements."""
    made: dict[str, list[Any]] = {}
    for world, context in worlds.contexts.items():
        made[world] = []
        for name in ("read", "read_back", "count", "last_before", "last_before_each"):
            method = getattr(context.log, name)

            def noted(*range_: int, _of: Any = method, _in: str = world, **how: Any) -> Any:
                made[_in].append((_of.__name__, range_, how))
                return _of(*range_, **how)

            setattr(context.log, name, noted)
    return made


def alike(worlds: Worlds, request: bytes) -> bytes:
    """The answer, which is the same in both worlds and shows nothing hidden."""
    answers = [worlds.ask(world, request) for world in NAMES]
    for answer in answers:
        assert not any(form in answer for form in FORMS), answer
    one, other = map(comparable, answers)
    assert one == other
    return answers[0]


# Requests

READERS = tuple(name for name in KEYS if not name.startswith(("clear", "named")))
STREAMING = tuple(name for name in READERS if "actions" not in KEYS[name][0])
guesses = st.sampled_from(GUESSES)
hidden = st.sampled_from(
    ["actor.id", "actor.name", "source.ip", "source.user_agent", "request.trace_id", "reason",
     "data.secret", "data.deep.inner", "data.card", "data.card.number", "targets[0].urn",
     "targets[1].name", 'data["card"]["cvv"]', "string(data.secret)", "masked[0]",
     "data.address", "data.whose[0].address", "data.clients[0]", "data.finding", "data.networks[0]",
     "data.claimed[0]", "data.destination"]
)  # fmt: skip
shown = st.sampled_from(["data.n > 20", 'outcome == "denied"', "severity < 4", "true", "false"])


@st.composite
def filters(draw: st.DrawFn) -> str:
    path, guess = draw(hidden), json.dumps(draw(guesses))
    number = draw(st.integers(0, 12))
    test = draw(
        st.sampled_from([
            f"{path} == {guess}", f"{path} != {guess}", f"{path} < {guess}", f"{path} >= {guess}",
            f"{path} in [{guess}, 'x']", f"{path}.startsWith({guess})", f"{path}.contains('a')",
            f"size({path}) > {number}", f"{path} > {number}", f"{path} == {number}",
            f"{path}.matches('^[a-k]')", f"has({path.partition('[')[0]})", f"{path}.size() == 5",
            f"targets.exists(t, t.urn == {guess})", "targets.all(t, t.urn.contains('prod'))",
            "targets.exists_one(t, has(t.name))", f"size(targets) > {number}",
            f"size(data) > {number}", "'card' in data", "data.exists(k, k == 'card')",
            f"actor.exists(k, actor[k] == {guess})", "has(reason)", f"'***' == {path}",
            f"data.secret.exists(x, x == {guess})", f"actor.name + actor.id == {guess}",
            f"size(actor.name + actor.id) > {number}", f"{path} == actor.id",
        ])
    )  # fmt: skip
    return draw(
        st.sampled_from([test, f"!({test})", f"{test} && {draw(shown)}", f"{test} || {draw(shown)}",
                         f"{test} ? {draw(shown)} : {draw(shown)}"])
    )  # fmt: skip


def parameter(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    return values.map(lambda value: (name, value))


selectors = st.one_of(
    parameter("actor", guesses | st.sampled_from(["*", "**", "k8s:prod/*", "***"])),
    parameter("resource", guesses | st.sampled_from(["*", "**", "k8s:prod/**", "*/zz/**"])),
    parameter("actor", guesses),
    parameter("tenant", st.sampled_from(["acme", "acme.**", "*"])),
    parameter("category", st.sampled_from(["auth.*", "billing", "**", "gateway.**"])),
    parameter("outcome", st.just("denied")),
    parameter("min_severity", st.sampled_from(["2", "5"])),
)
offsets = st.integers(0, COUNT + 3).map(lambda offset: f"{EPOCH}-{offset:020d}")
positions = st.one_of(
    parameter("after", offsets),
    parameter("after", st.sampled_from(["x", f"zzzzzzzzzz-{7:020d}"])),
    parameter("since", st.sampled_from(["1h", "1s", "2023-11-14T22:13:20Z"])),
    parameter("from", st.sampled_from(["start", "now"])),
)
others = st.one_of(
    parameter("limit", st.sampled_from(["1", "2", "7", "1000"])),
    parameter("on_gap", st.just("skip")),
    parameter("order", guesses),
    parameter("fields", st.just("actor.name")),
)
ends = st.one_of(
    parameter(
        "until",
        st.sampled_from(["1s", "1h", "2023-11-14T22:13:20.000001Z", "2099-01-01T00:00:00Z"]),
    ),
    parameter("before", offsets),
)
words = st.builds(
    str.__add__,
    st.sampled_from(["", "-"]),
    (guesses | st.sampled_from([MARK, MARK[:3], "*", "masked", "user", "1"])).filter(bool)
    | st.sampled_from(['"user.login"', '"ALICE"', '"***"', '"k8s:prod/a"']),
)
texts = st.lists(words, min_size=1, max_size=3).map(" ".join)
within = st.sampled_from(
    ["actor", "actor.name", "data", "data.secret", "data.deep", "targets.urn", "reason", "action",
     "source.ip,request", "data.n,actor.id", "data.card", "data.whose", "data.address,data.clients",
     "data.finding,data.about,data.destination"]
)  # fmt: skip


formats = parameter("format", st.sampled_from([*FORMAT_NAMES, "xml"]))


@st.composite
def parameters(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Selectors, often a filter and a format, sometimes a position and others."""
    chosen = draw(st.lists(selectors, max_size=3))
    if draw(st.booleans()):
        chosen.append(("filter", draw(filters())))
    chosen += draw(st.lists(positions, max_size=1)) + draw(st.lists(others, max_size=1))
    chosen += draw(st.lists(formats, max_size=1))
    if draw(st.booleans()):
        chosen.append(("text", draw(texts)))
        chosen += draw(st.lists(parameter("text_in", within), max_size=1))
    return chosen


@st.composite
def page_parameters(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Those of pages, often of the newest first, with what goes with them."""
    chosen = draw(parameters()) + draw(st.lists(ends, max_size=1))
    if draw(st.booleans()):
        chosen = [one for one in chosen if one[0] not in ("after", "on_gap", "order")]
        return [*chosen, ("order", "desc")]
    return [*chosen, ("wait", "0")]


@settings(max_examples=examples(250))
@given(
    page_parameters(),
    st.sampled_from(READERS),
    st.sampled_from(["application/json", ACCEPT["ndjson"]]),
)
def test_pages_are_alike(
    worlds: Worlds,
    reads: dict[str, list[Any]],
    params: list[tuple[str, str]],
    reader: str,
    accept: str,
) -> None:
    for made in reads.values():
        made.clear()
    target = "/v1/events?" + urlencode(params)
    answer = alike(worlds, http("GET", target, worlds.keys[reader], f"Accept: {accept}"))
    note(str(answer[9:12]))
    one, other = reads.values()
    assert one == other, "what is asked of the store tells nothing, either"


@settings(max_examples=examples(120))
@given(
    parameters(),
    st.sampled_from(READERS),
    st.sampled_from(["", "actor", "actor,outcome", "category"]),
    st.sampled_from(["auto", "1s", "1h"]),
)
def test_counts_are_alike(
    worlds: Worlds,
    reads: dict[str, list[Any]],
    params: list[tuple[str, str]],
    reader: str,
    by: str,
    step: str,
) -> None:
    for made in reads.values():
        made.clear()
    params = [one for one in params if one[0] in COUNTS]
    params += [("step", step), *([("by", by)] if by else [])]
    answer = alike(worlds, http("GET", "/v1/counts?" + urlencode(params), worlds.keys[reader]))
    note(str(answer[9:12]))
    one, other = reads.values()
    assert one == other, "what is asked of the store tells nothing, either"


@pytest.mark.parametrize("reader", READERS)
def test_counts_of_guesses_are_alike(
    worlds: Worlds, reads: dict[str, list[Any]], reader: str
) -> None:
    asked: list[dict[str, str]] = [
        {"actor": "alice"}, {"resource": "k8s:prod/a"}, {"text": "alice"}, {"text": "-alice"},
        {"text": MARK, "text_in": "data"}, {"filter": 'actor.id == "alice"'}, {"by": "actor"},
        {"filter": f'data.address == "{MARK}first"'}, {"filter": "has(reason)"},
    ]  # fmt: skip
    for params in asked:
        for made in reads.values():
            made.clear()
        target = "/v1/counts?" + urlencode({**params, "since": "1h"})
        alike(worlds, http("GET", target, worlds.keys[reader]))
        one, other = reads.values()
        assert one == other, params


@settings(max_examples=examples(250))
@given(
    parameters(), st.sampled_from(READERS), st.sampled_from(WAYS), st.none() | offsets,
    st.booleans(),
)  # fmt: skip
def test_streams_are_alike(
    worlds: Worlds,
    params: list[tuple[str, str]],
    reader: str,
    way: str,
    last: str | None,
    post: bool,
) -> None:
    if not any(name in ("after", "since", "from") for name, _ in params):
        params = [*params, ("from", "start")]
    params = [*params, ("follow", "false")]
    target, key = "/v1/stream?" + urlencode(params), worlds.keys[reader]
    headers = [f"Last-Event-ID: {last}"] if last else []
    if way not in ACCEPT:
        alike(worlds, upgrade(target, key, way, *headers))
    elif post:
        body: dict[str, list[str]] = {}
        for name, value in params:
            body.setdefault(name, []).append(value)
        accept = f"Accept: {ACCEPT[way]}"
        sent = json.dumps(body).encode()
        alike(worlds, http("POST", "/v1/stream", key, accept, *headers, body=sent))
    else:
        alike(worlds, http("GET", target, key, f"Accept: {ACCEPT[way]}", *headers))


@settings(max_examples=examples(80))
@given(parameters(), st.sampled_from(STREAMING))
def test_tickets_and_their_streams_are_alike(
    worlds: Worlds, params: list[tuple[str, str]], reader: str
) -> None:
    body = json.dumps({**dict(params), "follow": False}).encode()
    minting = http("POST", "/v1/tickets", worlds.keys[reader], body=body)
    alike(worlds, minting)
    answers = []
    for world in NAMES:
        answer = worlds.ask(world, minting)
        if b" 201 " not in answer[:20]:
            return
        ticket = json.loads(answer.partition(b"\r\n\r\n")[2])["ticket"]
        assert MARK not in base64.urlsafe_b64decode(ticket[5:].partition(".")[0] + "===").decode()
        opened = worlds.ask(world, http("GET", f"/v1/stream?ticket={ticket}", None))
        assert not any(form in opened for form in FORMS)
        answers.append(comparable(opened))
    assert answers[0] == answers[1]


@settings(max_examples=examples(60))
@given(
    st.sampled_from([f"event-{n:03}" for n in range(COUNT)] + [*GUESSES, MARK[:4], "event-999"]),
    st.sampled_from(READERS),
    st.sampled_from(["", "?tenant=acme", "?tenant=globex", "?actor=alice", "?around=3"]),
)
def test_events_by_id_are_alike(worlds: Worlds, name: str, reader: str, query: str) -> None:
    alike(worlds, http("GET", f"/v1/events/{quote(name, safe='')}{query}", worlds.keys[reader]))


@settings(max_examples=examples(60))
@given(st.data())
def test_what_administration_tells_is_alike(worlds: Worlds, data: st.DataObject) -> None:
    """Explanations, simulations of any grants, and documents of keys that see everything."""
    subject = worlds.keys[data.draw(st.sampled_from(["clear", "masked"]))][5:17]
    key = worlds.keys["administrator"]
    guess = data.draw(guesses)
    way = data.draw(st.sampled_from(["document", "simulate", "explain"]))
    if way == "document":
        accept = data.draw(st.sampled_from(["text/markdown", "text/html", "application/json"]))
        request = http("GET", f"/v1/keys/{subject}/document", key, f"Accept: {accept}")
    elif way == "simulate":
        grant: dict[str, Any] = {"actions": ["stream", "pull"], "categories": ["**"]}
        grant |= data.draw(
            st.sampled_from([
                {"resources": [guess or "x"]}, {"resources": ["k8s:prod/**"]}, {},
                {"resources": ["*/**"]}, {"effect": "deny", "resources": ["k8s:prod/**"]},
                {"fields": {"mask": ["actor.name"]}}, {"min_severity": 4},
            ])
        )  # fmt: skip
        body = json.dumps({"key": subject, "grants": [grant]}).encode()
        request = http("POST", "/v1/authz/simulate", key, body=body)
    else:
        asked = {"key": subject, "action": "pull", "category": "auth", "resource": guess or "x"}
        request = http("POST", "/v1/authz/explain", key, body=json.dumps(asked).encode())
    alike(worlds, request)


def history(worlds: Worlds, subject: str, reader: str, query: str = "") -> bytes:
    return http("GET", f"/v1/keys/{worlds.key_id(subject)}/history{query}", worlds.keys[reader])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("subject", [*USED.values(), "watcher"])
def test_histories_are_alike(worlds: Worlds, reader: str, subject: str) -> None:
    """Whose records they are is hidden, so that asking for those of a key must not tell."""
    for query in ("", "?limit=1", "?limit=3", f"?after={EPOCH}-{COUNT:020d}"):
        alike(worlds, history(worlds, subject, reader, query))


def test_without_masks_the_histories_would_differ(worlds: Worlds) -> None:
    asked = history(worlds, USED["first"], "clear watcher")
    counts = [worlds.ask(world, asked).count(b'"event-own-') for world in NAMES]
    assert counts == [6, 0]


LIVE: list[dict[str, str]] = [
    {}, {"actor": "alice"}, {"actor": "*"}, {"actor": "**"}, {"resource": "k8s:prod/a"},
    {"resource": "**"}, {"filter": 'actor.id == "alice"'}, {"filter": 'actor.id == "***"'},
    {"filter": 'data.secret == "***"'}, {"filter": 'actor.id != "bob"'}, {"filter": "has(reason)"},
    {"filter": 'targets.exists(t, t.urn == "k8s:prod/a")', "category": "auth.**"},
]  # fmt: skip


def test_live_streams_are_alike_and_like_those_from_the_log(worlds: Worlds) -> None:
    asked = [
        (reader, way, params)
        for reader in STREAMING
        for number, params in enumerate(LIVE)
        for way in (WAYS[number % len(WAYS)], WAYS[(number + 2) % len(WAYS)])
    ]
    with ExitStack() as stack:
        streams = [
            [
                stack.enter_context(worlds.begin(world, _stream(worlds, *one, "now")))
                for world in NAMES
            ]
            for one in asked
        ]
        heads = [[sock.recv(1 << 16) for sock in both] for both in streams]
        before = [
            number
            for reader in ("dropped", "watcher")
            for number in _numbers(
                alike(worlds, http("GET", "/v1/events?limit=9999", worlds.keys[reader]))
            )
        ]
        worlds.run(worlds.publish(range(COUNT, COUNT + 12)))
        for one, both, head in zip(asked, streams, heads, strict=True):
            answers = list(map(finish, both, head))
            assert comparable(answers[0]) == comparable(answers[1]), one
            assert not any(form in answer for form in FORMS for answer in answers), one
            again = worlds.ask("first", _stream(worlds, *one, "start"))
            assert _numbers(answers[0]) == [n for n in _numbers(again) if n not in before], one


def _stream(worlds: Worlds, reader: str, way: str, params: dict[str, str], begin: str) -> bytes:
    ends = {} if begin == "now" else {"follow": "false"}
    target = "/v1/stream?" + urlencode({**params, "from": begin, **ends})
    if way in ACCEPT:
        return http("GET", target, worlds.keys[reader], f"Accept: {ACCEPT[way]}")
    return upgrade(target, worlds.keys[reader], way)


def _numbers(answer: bytes) -> list[bytes]:
    return re.findall(rb'"id":"event-([\w-]+)"', answer)


def test_without_masks_the_worlds_would_differ(worlds: Worlds) -> None:
    """What the other tests look for can be found."""
    answers = [
        worlds.ask(world, http("GET", "/v1/events", worlds.keys["clear"])) for world in NAMES
    ]
    assert all(MARK.encode() in answer for answer in answers)
    assert comparable(answers[0]) != comparable(answers[1])
    target = "/v1/events?" + urlencode({"actor": "alice"})
    counts = [
        worlds.ask(world, http("GET", target, worlds.keys["clear"])).count(b"event-")
        for world in NAMES
    ]
    assert counts[0] > counts[1] == 0


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_sees_something_of_the_worlds(worlds: Worlds, reader: str) -> None:
    answer = alike(worlds, http("GET", "/v1/events?limit=1000", worlds.keys[reader]))
    assert answer.count(b'"event-') >= 5
