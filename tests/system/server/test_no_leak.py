"""No combination of parameters shows a key anything beyond its grants, or hides what it asked for.

Keys with random grants ask random questions on every way out of the gateway; an
oracle that shares no code with it says what may and must come. Every event bears
a mark, and no mark of a hidden event may stand anywhere in the bytes of an answer.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from gateway_client import NDJSON, Event, GatewayClient, cursor_at, event
from gateways import Gateway
from grant_oracle import Grant, may_see, selected
from open_streams import ACCEPT, TRANSPORTS, Refused, Stream, open_stream

from tests.support.examples import examples

MARK = re.compile(rb"mark-(\d+)-")
TENANTS = ("acme", "globex", "acme.eu", "acme.us", "initech")
CATEGORIES = ("auth", "auth.login", "auth.login.sso", "authx", "billing", "billing.invoice",
              "k8s.audit", "gatewayx")  # fmt: skip
URNS = ("k8s:prod/ns/pay/pods/web-1", "k8s:prod/ns/pay", "k8s:dev/ns/pay/pods/web-1", "db:main")
Params = list[tuple[str, str]]
Test = Callable[[Event], bool]
# A filter, and the same in Python.
FILTERS: list[tuple[str, Test]] = [
    ("true", lambda e: True),
    ("true || tenant != 'acme'", lambda e: True),
    ("severity >= 3", lambda e: e["severity"] >= 3),
    ("tenant == 'globex'", lambda e: e["tenant"] == "globex"),
    ("tenant != 'acme' || category.startsWith('gateway')",
     lambda e: e["tenant"] != "acme" or e["category"].startswith("gateway")),
    ("category in ['gateway.keys', 'billing', 'auth']",
     lambda e: e["category"] in ("gateway.keys", "billing", "auth")),
    ("targets.exists(t, t.urn.contains('prod'))",
     lambda e: any("prod" in target["urn"] for target in e.get("targets", []))),
    ("has(data.n) && data.n % 2 == 0", lambda e: e.get("data", {}).get("n", 1) % 2 == 0),
    ("actor.id == 'u/1' && outcome == 'denied'",
     lambda e: e.get("actor", {}).get("id") == "u/1" and e["outcome"] == "denied"),
]  # fmt: skip
SELECTIONS = {
    "tenant": (*TENANTS, "*", "**", "acme.*", "acme.**", "gateway", "nobody"),
    "category": (*CATEGORIES, "*", "**", "auth.*", "auth.**", "*.*", "*.invoice", "gateway.**",
                 "gateway.*", "gateway.keys", "gateway"),
    "action": ("user.login", "user.*", "**", "none"),
    "outcome": ("success", "failure", "denied", "unknown"),
    "actor": ("u/1", "u/*", "u/**", "**", "u", "nobody"),
    "resource": (*URNS, "k8s:prod/**", "k8s:prod/*/pay", "*/ns/**", "**", "*", "db:main/**"),
}  # fmt: skip
ODD = (
    "",
    "' OR 1=1 --",
    "%",
    "_",
    "au*",
    "**.x",
    "acme\x00",
    "\U0010ffff",
    "*" * 50,
    "acme|globex",
)


class Asker:
    """A key, its grants, and what it may see of the events of the world."""

    def __init__(self, key: str, grants: list[Grant]) -> None:
        self.key = key
        self.grants = grants
        self.visible: list[Event] = []

    def look(self, events: list[Event]) -> None:
        self.visible = [one for one in events if may_see(self.grants, one)]
        self.marks = {one["id"].encode() for one in self.visible}

    def check_bytes(self, answer: bytes, what: Any) -> None:
        """No mark of a hidden event stands in there, whatever the answer is."""
        found = {b"mark-%b-" % mark for mark in MARK.findall(answer)}
        assert found <= self.marks, (what, self.grants, found - self.marks)

    def expected(self, params: Params, passes: Test, after: str) -> list[Event]:
        return [
            one
            for one in self.visible
            if after < one["cursor"] and selected(params, one) and passes(one)
        ]


class World:
    """A gateway full of events, and keys whose grants are known."""

    def __init__(self, gateway: Gateway, rng: random.Random) -> None:
        self.gateway = gateway
        self.rng = rng
        self.askers: list[Asker] = []
        self.events: list[Event] = []

    async def fill(self, count: int, keys: int) -> None:
        for start in range(0, count, 50):
            await self.gateway.send(*(self.an_event(n) for n in range(start, start + 50)))
            await self.gateway.record(f"mark-{count + start}-", "gateway.keys")
        own = {"actions": ["stream", "pull"], "categories": ["**", "gateway.**"]}
        self.everything = await self.gateway.mint(own)
        # The first is the plainest: one category of one tenant.
        grants: list[list[Grant]] = [[{"tenants": ["acme"], "categories": ["auth"]}]]
        grants += [self.some_grants() for _ in range(keys - 1)]
        for some in grants:
            complete = [{"actions": ["stream", "pull"], **grant} for grant in some]
            self.askers.append(Asker(await self.gateway.mint(*complete), some))
        await self.read_all()

    async def read_all(self) -> None:
        """Take in everything there is; what is recorded later is outside of `self.until`."""
        cursor = cursor_at((await self.gateway.pull(from_="now"))["cursor"], 0)
        self.events = []
        while (page := await self.gateway.pull(self.everything, after=cursor, limit="10000"))[
            "events"
        ]:
            self.events += page["events"]
            cursor = page["cursor"]
        self.until = cursor
        for asker in self.askers:
            asker.look(self.events)

    def an_event(self, n: int) -> Event:
        rng = self.rng
        made = event(
            id=f"mark-{n}-",
            tenant=rng.choice(TENANTS),
            category=rng.choice(CATEGORIES),
            action=rng.choice(("user.login", "user.logout", "role.create")),
            outcome=rng.choice(("success", "failure", "denied", "unknown")),
            severity=rng.randint(1, 6),
            data={"n": n, "mark": f"mark-{n}-"},
        )
        if rng.random() < 0.7:
            made["targets"] = [{"urn": urn} for urn in rng.sample(URNS, rng.randint(1, 2))]
        if rng.random() < 0.7:
            made["actor"] = {"id": rng.choice(("u/1", "u/2", "u", "svc")), "name": f"mark-{n}-"}
        return made

    def some_grants(self) -> list[Grant]:
        rng = self.rng
        grants: list[Grant] = []
        for number in range(rng.randint(1, 4)):
            grant: Grant = {"categories": rng.sample(SELECTIONS["category"], rng.randint(1, 3))}
            if rng.random() < 0.6:
                grant["tenants"] = rng.sample(SELECTIONS["tenant"], rng.randint(1, 2))
            if rng.random() < 0.3:
                grant["resources"] = rng.sample(SELECTIONS["resource"], rng.randint(1, 2))
            if rng.random() < 0.3:
                grant["min_severity"] = rng.randint(1, 5)
            if number and rng.random() < 0.4:
                grant["effect"] = "deny"
            grants.append(grant)
        return grants

    def some_selection(self) -> tuple[Params, Test]:
        rng = self.rng
        params: Params = []
        for name in rng.sample(list(SELECTIONS), rng.choice((0, 1, 1, 2, 3))):
            params += [(name, rng.choice(SELECTIONS[name])) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.2:
            params.append(("min_severity", str(rng.randint(1, 6))))
        if rng.random() < 0.3:
            source, test = rng.choice(FILTERS)
            return [*params, ("filter", source)], test
        return params, lambda e: True

    def some_position(self) -> tuple[Params, str]:
        """Where to begin, as parameters and as the cursor that it comes to."""
        rng = self.rng
        where = rng.random()
        zero = cursor_at(self.until, 0)
        if where < 0.5:
            return [("from", "start")], zero
        if where < 0.8:
            after = rng.choice(self.events)["cursor"]
            return [("after", after)], after
        if where < 0.9:
            return [("after", "other-" + "0" * 20), ("on_gap", "skip")], zero
        return [("since", "1h")], zero

    def within(self, events: list[Event]) -> list[Event]:
        """Of an answer what was there when the world was looked at."""
        # Lines of pages begin with a notice where nothing selected can match.
        return [
            one for one in events if one.get("type") != "notice" and one["cursor"] <= self.until
        ]


@pytest.fixture
async def world(gateway: Gateway) -> World:
    return World(gateway, random.Random(20260131))


async def pulled(world: World, key: str, params: Params, lines: bool) -> tuple[bytes, list[Event]]:
    """All pages from there on: one that took too long to make is cut, and may be empty."""
    accept = {"Accept": NDJSON} if lines else {}
    whole, found, asked = b"", [], params
    while True:
        answer = await world.gateway.get("/v1/events", key=key, params=asked, headers=accept)
        assert answer.status < 500, answer.body
        whole += answer.body
        if answer.status != 200:
            return whole, []
        if lines:
            found += answer.lines()
            cursor, more = answer.headers["Audit-Cursor"], answer.headers["Audit-Has-More"]
        else:
            page = answer.json()
            found += page["events"]
            cursor, more = page["cursor"], "true" if page["has_more"] else "false"
        if more == "false" or cursor >= world.until:
            return whole, [one for one in found if one.get("type") != "gap"]
        where = ("from", "after", "since", "on_gap")
        asked = [*(one for one in params if one[0] not in where), ("after", cursor)]


async def streamed(
    client: GatewayClient, transport: str, key: str, params: Params
) -> tuple[bytes, list[Event]]:
    merged: dict[str, Any] = {}
    for name, value in params:
        merged.setdefault(name + "_", []).append(value)
    try:
        stream: Stream = await open_stream(client, transport, key, follow="false", **merged)
    except Refused as refused:
        return refused.answer.body, []
    end = await stream.to_end()
    stream.close()
    assert end["code"] == 1000
    raw = b"".join([said.raw for said in stream.others])
    assert not MARK.search(raw), raw
    return b"".join([repr(one).encode() for one in stream.events]), stream.events


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_questions_are_answered_with_what_the_grants_allow_and_no_more(
    world: World, seed: int
) -> None:
    world.rng.seed(seed)
    await world.fill(150, keys=30)
    ways = ["json", "ndjson-page", *TRANSPORTS]

    async def ask(number: int) -> int:
        way = ways[number % len(ways)]
        asker = world.askers[0] if number % 5 == 0 else world.rng.choice(world.askers)
        selection, passes = world.some_selection()
        position, after = world.some_position()
        params = selection + position
        expected = asker.expected(selection, passes, after)
        if way in TRANSPORTS:
            raw, events = await streamed(world.gateway, way, asker.key, params)
        else:
            params.append(("limit", "10000"))
            raw, events = await pulled(world, asker.key, params, way != "json")
        asker.check_bytes(raw, (way, params))
        assert world.within(events) == expected, (way, params, asker.grants)
        return len(expected)

    found, questions = 0, examples(1500, share=10)
    for start in range(0, questions, 20):
        found += sum(await asyncio.gather(*(ask(start + n) for n in range(20))))
    # Most questions had an answer, or nothing was tested.
    assert found > 4 * questions


@pytest.mark.slow
async def test_odd_parameters_are_refused_or_narrow_but_never_widen(world: World) -> None:
    await world.fill(100, keys=20)
    rng = world.rng
    names = [*SELECTIONS, "filter", "after", "since", "from", "limit", "on_gap", "format",
             "consumer", "min_severity", "last_event_id", "wait", "follow", "Tenant",
             "tenants"]  # fmt: skip
    for number in range(examples(1500, share=10)):
        asker = rng.choice(world.askers)
        params = [(rng.choice(names), rng.choice(ODD)) for _ in range(rng.randint(1, 3))]
        params += world.some_selection()[0]
        params = [pair for pair in params if pair[0] not in ("wait", "follow") or number % 2]
        way = rng.choice(("json", *ACCEPT, "websocket"))
        if way == "json":
            raw, events = await pulled(world, asker.key, params, False)
        else:
            params = [pair for pair in params if pair[0] != "follow"]
            raw, events = await streamed(world.gateway, way, asker.key, params)
        asker.check_bytes(raw, (way, params))
        assert all(one in asker.visible for one in world.within(events)), (way, params)


@pytest.mark.slow
async def test_every_event_by_its_id_is_there_for_whom_it_is_and_for_nobody_else(
    world: World,
) -> None:
    await world.fill(examples(150, least=50), keys=20)
    for one in world.events:
        path = "/v1/events/" + quote(one["id"], safe="")
        for asker in world.askers[: 20 if MARK.search(one["id"].encode()) else 3]:
            tenant = world.rng.choice((None, one["tenant"], "acme", "**"))
            query = "?" + urlencode({"tenant": tenant}) if tenant is not None else ""
            answer = await world.gateway.get(path + query, key=asker.key)
            if one in asker.visible and tenant in (None, one["tenant"]):
                assert answer.status == 200, (one, asker.grants)
                assert answer.json() == one
            else:
                answer.problem(404, "not_found")
                asker.check_bytes(answer.body, one["id"])


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_live_streams_get_what_their_grants_allow_and_no_more(
    world: World, transport: str
) -> None:
    """The same for events as they happen: groups, the index, shared encodings."""
    await world.fill(50, keys=30)
    begin = world.until
    asked = []
    for number in range(examples(120, least=60)):
        asker = world.askers[number % len(world.askers)]
        selection, passes = world.some_selection()
        merged: dict[str, Any] = {}
        for name, value in selection:
            merged.setdefault(name + "_", []).append(value)
        stream = await open_stream(world.gateway, transport, asker.key, after=begin, **merged)
        asked.append((stream, asker, selection, passes))
    for start in range(1000, 1000 + examples(400, least=200), 20):
        await world.gateway.send(*(world.an_event(n) for n in range(start, start + 20)))
        await world.gateway.record(f"mark-{start + 5000}-", "gateway.keys")
    await world.read_all()
    for stream, asker, selection, passes in asked:
        expected = asker.expected(selection, passes, begin)
        await stream.take(len(expected))
        assert stream.events == expected, (selection, asker.grants)
    for asker in world.askers:
        await world.gateway.revoke(asker.key)
    for stream, asker, selection, _ in asked:
        await stream.to_end()
        later = [one for one in stream.events if one["cursor"] > world.until]
        assert all(may_see(asker.grants, one) and selected(selection, one) for one in later)
        assert len(world.within(stream.events)) + len(later) == len(stream.events)
