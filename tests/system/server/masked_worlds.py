"""Two gateways whose logs differ in nothing but what every key's masks hide.

Everything else is the same to the byte: the keys and their secrets, the epoch of the log, the
time. So whatever differs in two answers to the same request comes of hidden values.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from open_streams import masked

from gateway.access.grants.grant import parse_grants
from gateway.access.keys import pseudonym_secrets
from gateway.access.keys.change import key_urn
from gateway.access.keys.issuance import new_key
from gateway.access.usage.access import Access
from gateway.adapters.sqlite.keys import SqliteKeys
from gateway.clock import SystemClock
from gateway.event import Draft
from gateway.http.request.context import Context
from gateway.ingest.decode import decode_events
from gateway.ingest.gateway_event import ACCESS, new_gateway_event
from gateway.ingest.ids import new_ids
from gateway.runtime.compose import running
from gateway.settings.declarations import SECTIONS, Settings
from gateway.wire.framing import RESTART
from tests.support.machine_time import eventually, patience

T = TypeVar("T")
EPOCH = "k3f9xq7m2p"
NOW = 1_700_000_000.0
COUNT = 40
GIVEN = {"server": {"port": 0}, "record": {"delay": 3600}}
READ = ["stream", "pull"]
# Hidden in every world; a client never sends it, so no answer may ever hold it.
MARK = "qZ7mArKqZ7"
# What is hidden by masks or drops, and what is always dropped: with it, being there is hidden too.
HIDDEN = (
    "actor.id", "actor.name", "source.ip", "source.user_agent", "targets.urn", "targets.name",
    "request.trace_id", "data.secret", "data.deep.inner",
)  # fmt: skip
GONE = ("data.card", "reason")
# Guesses of hidden values: right in one world, in the other, or in none.
NAMES = {"first": ("alice", "k8s:prod/a", 7), "second": ("bob", "k8s:dev/zz/long", "seven")}
GUESSES = ("alice", "bob", "carol", "k8s:prod/a", "k8s:dev/zz/long", "k8s:prod/x", "***", "", "7")

_ALL = [*HIDDEN, *GONE]
_HALF = {"mask": list(HIDDEN[::2]), "drop": list(GONE)}
KEYS: dict[str, list[dict[str, Any]]] = {
    "masked": [{"fields": {"mask": list(HIDDEN), "drop": list(GONE)}}],
    "dropped": [{"fields": {"drop": _ALL}}],
    "roots": [{"fields": {"mask": ["actor", "source", "targets", "request", "data"],
                          "drop": list(GONE)}}],
    "roots dropped": [{"fields": {"drop": ["actor", "source", "targets", "request", "reason",
                                           "data"]}}],
    "two grants": [{"fields": _HALF}, {"tenants": ["**"], "fields": {"mask": list(HIDDEN[1::2])}}],
    "in parts": [{"categories": ["auth.**"], "fields": {"drop": _ALL},
                  "when": {"max_lookback": "1h"}},
                 {"categories": ["billing"], "fields": {"mask": list(HIDDEN), "drop": list(GONE)}},
                 {"categories": ["auth.login"], "effect": "deny", "min_severity": 5}],
    "administrator": [{"actions": ["pull", "keys.admin", "usage.read"],
                       "fields": {"mask": list(HIDDEN), "drop": list(GONE)}}],
    "watcher": [{"categories": ["gateway.**"],
                 "fields": {"mask": ["actor", "source", "targets"]}}],
    # What is pseudonymized differs between the worlds, and nothing else does.
    "named": [{"fields": {"pseudonymize": list(HIDDEN[:7]), "mask": list(HIDDEN[7:]),
                          "drop": list(GONE)}}],
    "named administrator": [{"actions": ["pull", "keys.admin", "usage.read"],
                             "fields": {"pseudonymize": list(HIDDEN[:7]),
                                        "mask": list(HIDDEN[7:]), "drop": list(GONE)}}],
    "named watcher": [{"categories": ["gateway.**"],
                       "fields": {"pseudonymize": ["actor", "source", "targets"]}}],
    "clear watcher": [{"actions": ["pull"], "categories": ["gateway.**"]}],
    "clear": [{}],
}  # fmt: skip
# The key that the gateway's own records are about, in each world.
USED = {"first": "roots", "second": "two grants"}


class StillClock(SystemClock):
    """The time of day stands still, and what it is derived from."""

    def now(self) -> float:
        return NOW

    def boottime(self) -> float:
        return 0.0


def event_of(world: str, number: int) -> dict[str, Any]:
    """The same in every world but for what is hidden."""
    name, urn, secret = NAMES[world]
    if number % 3:
        name, urn, secret = MARK + world * (number % 4), f"{urn}/{MARK}", [MARK, {MARK: world}]
    event: dict[str, Any] = {
        "id": f"event-{number:03}",
        "time": "2023-11-14T22:00:00Z",
        "tenant": ("acme", "globex", "acme.eu")[number % 3],
        "category": ("auth.login", "auth.login.sso", "billing")[number % 4 % 3],
        "action": "user.login",
        "outcome": ("success", "denied")[number % 2],
        "severity": number % 6 + 1,
        "actor": {"type": "user", "id": name, "name": name.upper()},
        "source": {"service": "web", "ip": name, "user_agent": f"{MARK} {world}"},
        "targets": [
            {"type": "pod", "urn": urn, "name": name},
            {"type": "ns", "urn": f"k8s:{world}/ns", "name": MARK},
        ],
        "request": {"id": f"r-{number}", "trace_id": MARK + world},
        "data": {"n": number, "secret": secret, "deep": {"inner": secret, "outer": number}},
    }
    if (number + len(world)) % 2:
        event["reason"] = MARK
        event["data"]["card"] = {"number": MARK, "cvv": number}
    return event


def record_of(world: str, number: int, key_id: str) -> Draft:
    """A record of the gateway's own: the same in every world but for what it is about."""
    return new_gateway_event(
        id=f"event-own-{number}", category=ACCESS, action="events.pulled", at=NOW, by=key_id,
        address=f"{MARK}{world}", client=MARK * 2 + world, about=[key_urn(key_id)],
        data={
            "count": number + 1, "attempted": "pull", "address": MARK + world, "key": key_id,
            "client": MARK + world, "clients": [MARK, world], "networks": [MARK + world],
            "claimed": [key_id], "about": [f"key:{key_id}"], "name": MARK + world,
            "whose": [{"key": key_id, "address": MARK + world}],
            "finding": f"denials-{key_id}-1", "destination": MARK + world,
            "consumer": MARK + world,
        },
    )  # fmt: skip


class Worlds:
    """Both gateways, in a thread of their own."""

    def __init__(self, folder: Path) -> None:
        self.ports: dict[str, int] = {}
        self.keys: dict[str, str] = {}
        self.contexts: dict[str, Context] = {}
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway.adapters.sqlite.log.new_epoch", lambda: EPOCH)
            self.run(self._start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something where the gateways run."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        pepper = b"p" * 32
        made = {
            name: new_key(
                name=name, purpose="p", owner="o", now=NOW, life=3600.0, pepper=pepper,
                grants=parse_grants(
                    [{"actions": READ, "categories": ["**"], **grant} for grant in grants]
                ),
            )
            for name, grants in KEYS.items()
        }  # fmt: skip
        self.keys = {name: token for name, (_, token) in made.items()}
        for world in NAMES:
            data = self._folder / world
            data.mkdir()
            (data / "pepper").write_bytes(pepper)
            store = SqliteKeys(data / "keys.db")
            for key, _ in made.values():
                await store.create(key)
            await store.update_notes(
                pseudonym_secrets.KIND, {pseudonym_secrets.NAME: pseudonym_secrets.begun(pepper)}
            )
            await store.close()
            sections = {name: of(**GIVEN.get(name, {})) for name, of in SECTIONS.items()}
            settings = Settings(data=data, **sections)
            started = await self._stack.enter_async_context(running(settings, StillClock()))
            self.ports[world] = int(started.url.rpartition(":")[2])
            self.contexts[world] = started.context
        await self._settled()
        for context in self.contexts.values():
            # From here on nothing but the events is written, or the logs would differ in time.
            context.access_log.log = _nothing  # type: ignore[method-assign]
            context.enforcement._listeners.clear()
        for number in range(COUNT):
            await self.append(number)
        for number in range(6):
            await self.append_record(number)

    def key_id(self, name: str) -> str:
        return self.keys[name].split("_")[1]

    async def append_record(self, number: int) -> None:
        """One of the gateway's own records more, in each world."""
        for world, context in self.contexts.items():
            await context.writer.append([record_of(world, number, self.key_id(USED[world]))])

    async def append(self, number: int) -> None:
        """One event more, in each world."""
        for world, context in self.contexts.items():
            body = msgspec.json.encode(event_of(world, number))
            await context.writer.append(decode_events([body], new_ids(context.clock.now)))

    async def _settled(self) -> None:
        """The gateways' own records of the keys are in their logs, the same in each."""
        heads: list[int] = []
        for _ in range(100):
            before, heads = heads, [context.log.head for context in self.contexts.values()]
            left = [await context.key_store.unrecorded(1) for context in self.contexts.values()]
            if heads == before and len(set(heads)) == 1 and (heads[0] == 0 or not any(left)):
                return
            await asyncio.sleep(0.4)
        raise AssertionError(f"the logs do not come to rest alike: {heads}")

    async def publish(self, numbers: range) -> None:
        """Events and records for live streams, each alone; then all streams are ended."""
        for number in numbers:
            await self.append(number)
            await self._delivered()
            await self.append_record(number)
            await self._delivered()
        for context in self.contexts.values():
            for subscription in list(context.hub.subscriptions):
                context.hub.end(subscription, RESTART)

    async def _delivered(self) -> None:
        for context in self.contexts.values():
            hub = context.hub
            await eventually(lambda hub=hub, log=context.log: hub.position == log.head, "the tail")
            await eventually(lambda hub=hub: hub.flush() is None, "all is written")

    # Requests

    def ask(self, world: str, request: bytes) -> bytes:
        """Everything that comes back, up to the end of the answer."""
        with self.begin(world, request) as sock:
            return finish(sock)

    def begin(self, world: str, request: bytes) -> socket.socket:
        """A connection of its own on which a request was sent."""
        sock = socket.create_connection(("127.0.0.1", self.ports[world]), timeout=patience())
        sock.sendall(request)
        return sock


def finish(sock: socket.socket, answer: bytes = b"") -> bytes:
    """The rest of an answer of which this has been read."""
    whole = bytearray(answer)
    closed = False
    try:
        while not _whole(whole) and (data := sock.recv(1 << 16)):
            whole += data
            if whole.startswith(b"HTTP/1.1 101 ") and _closes(whole):
                closed = True
                sock.sendall(masked(8, b""))
    except ConnectionError:
        # Who answers a close frame late finds nobody there; the frame is the last thing said.
        if not closed:
            raise
    return bytes(whole)


def _nothing(use: Access) -> None:
    """No record."""


def _whole(answer: bytearray) -> bool:
    """Whether an answer that says how long it is has come to its end."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def _closes(answer: bytearray) -> bool:
    """Whether a WebSocket's frames so far end with a close frame."""
    at = answer.find(b"\r\n\r\n") + 4
    while 4 <= at < len(answer) - 1:
        if answer[at] & 0x0F == 8:
            return True
        size, at = answer[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(answer[at : at + width], "big"), at + width
        at += size
    return False


def request(method: str, target: str, key: str | None, *headers: str, body: bytes = b"") -> bytes:
    """The bytes of a request on a connection of its own."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def upgrade(target: str, key: str | None, subprotocol: str = "", *headers: str) -> bytes:
    lines = [
        f"GET {target} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", *headers,
    ]  # fmt: skip
    if subprotocol:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode()


_ACCIDENTAL = re.compile(
    rb'"request_id":"[0-9a-f]+"|Date: [^\r]+|retry: \d+|alpt_[\w.-]+|Set-Cookie: [^=\r]+=[^;\r]+'
)
_LENGTH = re.compile(rb"Content-Length: (\d+)")
_CHUNK = re.compile(rb"\r\n[0-9a-f]+\r\n")


def comparable(answer: bytes) -> bytes:
    """The answer without what differs between two answers to the same request."""
    return _CHUNK.sub(b"\r\n", _ACCIDENTAL.sub(b"", answer))
