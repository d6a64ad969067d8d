"""No request shows a byte of what is pseudonymized, nor tells whether a guess of it is right.

The two gateways of `masked_worlds` are asked the same. Their answers differ in pseudonyms alone,
as long as a request is about values, and none about pseudonyms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_worlds import COUNT, GUESSES, NAMES, USED, Worlds, comparable, finish, upgrade
from masked_worlds import request as http
from test_masks_hold import ACCEPT, FORMS, WAYS, formats, offsets, others, parameter, positions

from gateway.access.grants.pseudonym import PSEUDONYM_PATTERN
from tests.support.examples import examples

pytestmark = pytest.mark.slow
_PSEUDONYMS = re.compile(PSEUDONYM_PATTERN.encode())


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds]:
    both = Worlds(tmp_path_factory.mktemp("worlds"))
    yield both
    both.close()


def alike(*answers: bytes) -> bytes:
    """The first answer. All are the same but for pseudonyms, and show no value."""
    for answer in answers:
        assert not any(form in answer for form in FORMS), answer
        assert not any(re.search(rb"\b%b\b" % name, answer) for name in (b"alice", b"bob"))
    one, other = (_PSEUDONYMS.sub(b"P", comparable(answer)) for answer in answers)
    assert one == other
    return answers[0]


_hidden = st.sampled_from(
    ["actor.id", "actor.name", "source.ip", "source.user_agent", "request.trace_id",
     "targets[0].urn", "targets[1].name"]
)  # fmt: skip
# A guess that is right in one world would be answered otherwise there.
_guesses = st.sampled_from([guess for guess in GUESSES if guess])


@st.composite
def _filters(draw: st.DrawFn) -> str:
    path, guess = draw(_hidden), json.dumps(draw(_guesses))
    test = draw(
        st.sampled_from([
            f"{path} == {guess}", f"{path} != {guess}", f"{path} in [{guess}, 'x']",
            f"{path}.startsWith({guess})", f"size({path}) > 29", f"size({path}) == 5",
            f"targets.exists(t, t.urn == {guess})", "targets.exists_one(t, has(t.name))",
            f"actor.exists(k, actor[k] == {guess})", "has(actor.id)", f"{path}.contains('MArK')",
            "pseudonymized[0] == 'actor.id'", "size(actor.name + actor.id) > 50",
        ])
    )  # fmt: skip
    return draw(st.sampled_from([test, f"!({test})", f"{test} && data.n > 20"]))


_selectors = st.one_of(
    parameter("actor", _guesses | st.sampled_from(["**", "k8s:prod/*"])),
    parameter("resource", _guesses | st.sampled_from(["**", "k8s:prod/**", "*/zz/**"])),
    parameter("category", st.sampled_from(["auth.*", "billing", "**"])),
    parameter("filter", _filters()),
)


@st.composite
def _parameters(draw: st.DrawFn) -> list[tuple[str, str]]:
    chosen = dict(draw(st.lists(_selectors, max_size=3)))
    several = [*chosen.items(), *draw(st.lists(positions, max_size=1))]
    return several + draw(st.lists(others, max_size=1)) + draw(st.lists(formats, max_size=1))


@settings(max_examples=examples(150))
@given(_parameters(), st.sampled_from(["application/json", ACCEPT["ndjson"]]))
def test_pages_differ_in_pseudonyms_alone(
    worlds: Worlds, params: list[tuple[str, str]], accept: str
) -> None:
    target = "/v1/events?" + urlencode([*params, ("wait", "0")])
    asked = http("GET", target, worlds.keys["named"], f"Accept: {accept}")
    alike(*(worlds.ask(world, asked) for world in NAMES))


@settings(max_examples=examples(150))
@given(_parameters(), st.sampled_from(WAYS), st.none() | offsets)
def test_streams_differ_in_pseudonyms_alone(
    worlds: Worlds, params: list[tuple[str, str]], way: str, last: str | None
) -> None:
    if not any(name in ("after", "since", "from") for name, _ in params):
        params = [*params, ("from", "start")]
    headers = [f"Last-Event-ID: {last}"] if last else []
    asked = _stream(worlds, [*params, ("follow", "false")], way, *headers)
    alike(*(worlds.ask(world, asked) for world in NAMES))


# What is asked of live streams; those of the second line match nothing.
LIVE: list[dict[str, str]] = [
    {}, {"actor": "**"}, {"filter": 'actor.id != "bob"'}, {"format": "cef"}, {"format": "ocsf"},
    {"actor": "alice"}, {"resource": "k8s:prod/a"}, {"filter": 'actor.id == "alice"'},
]  # fmt: skip


def test_live_streams_and_the_log_give_the_same_pseudonyms(worlds: Worlds) -> None:
    asked = [(way, params) for way in WAYS for params in LIVE if way or "format" not in params]
    head = worlds.contexts["first"].log.head
    cursor = f"{worlds.contexts['first'].log.epoch}-{head:020d}"
    with ExitStack() as stack:
        streams = [
            [
                stack.enter_context(worlds.begin(world, _live(worlds, way, params)))
                for world in NAMES
            ]
            for way, params in asked
        ]
        heads = [[sock.recv(1 << 16) for sock in both] for both in streams]
        worlds.run(worlds.publish(range(COUNT, COUNT + 6)))
        for (way, params), both, begun in zip(asked, streams, heads, strict=True):
            answers = list(map(finish, both, begun))
            alike(*answers)
            again = [*params.items(), ("after", cursor), ("follow", "false")]
            replayed = worlds.ask("first", _stream(worlds, again, way))
            found = _PSEUDONYMS.findall(answers[0])
            assert found == _PSEUDONYMS.findall(replayed)
            assert bool(found) is (params in LIVE[:5])


def _live(worlds: Worlds, way: str, params: dict[str, str]) -> bytes:
    return _stream(worlds, [*params.items(), ("from", "now")], way)


@pytest.mark.parametrize("number", range(6))
def test_single_events_differ_in_pseudonyms_alone(worlds: Worlds, number: int) -> None:
    for query in ("", "?format=cef", "?format=ecs", "?tenant=acme"):
        target = f"/v1/events/event-{number:03}{query}"
        asked = http("GET", target, worlds.keys["named"])
        alike(*(worlds.ask(world, asked) for world in NAMES))


@pytest.mark.parametrize("subject", ["clear", "named", "masked"])
@pytest.mark.parametrize("way", ["text/markdown", "application/json", "simulate", "explain"])
def test_reviews_by_who_sees_pseudonyms_show_no_value(
    worlds: Worlds, subject: str, way: str
) -> None:
    key, about = worlds.keys["named administrator"], worlds.key_id(subject)
    if "/" in way:
        asked = [http("GET", f"/v1/keys/{about}/document", key, f"Accept: {way}")]
    else:
        grants = [
            {"actions": ["pull"], "categories": ["**"], **more}
            for more in (
                {}, {"resources": ["k8s:prod/a"]}, {"fields": {"pseudonymize": ["actor.id"]}},
                {"effect": "deny", "resources": ["k8s:prod/**"]},
            )
        ]  # fmt: skip
        question = {"action": "pull", "category": "auth", "resource": "k8s:prod/a"}
        bodies = [question] if way == "explain" else [{"grants": [one]} for one in grants]
        asked = [
            http("POST", f"/v1/authz/{way}", key, body=json.dumps({"key": about, **one}).encode())
            for one in bodies
        ]
    for one in asked:
        alike(*(worlds.ask(world, one) for world in NAMES))


def test_records_of_the_gateway_show_no_copy(worlds: Worlds) -> None:
    asked = http("GET", "/v1/events?limit=1000", worlds.keys["named watcher"])
    answers = [worlds.ask(world, asked) for world in NAMES]
    alike(*answers)
    events = json.loads(answers[0].partition(b"\r\n\r\n")[2])["events"]
    records = [one for one in events if one["id"].startswith("event-own-")]
    # Tests of masks add some, if they ran before.
    assert len(records) >= 6
    for record in records:
        assert worlds.key_id(USED["first"]) not in json.dumps(record)
        assert record["pseudonymized"] == ["actor", "source", "targets"]
        assert record["data"]["key"] == record["data"]["address"] == "***"


def _stream(worlds: Worlds, params: list[tuple[str, str]], way: str, *headers: str) -> bytes:
    target = "/v1/stream?" + urlencode(params)
    if way in ACCEPT:
        return http("GET", target, worlds.keys["named"], f"Accept: {ACCEPT[way]}", *headers)
    return upgrade(target, worlds.keys["named"], way, *headers)
