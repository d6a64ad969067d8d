"""The traces of all keys: gathered here, brought together in the key store.

Taking in a use costs a few microseconds and waits for nothing. What may be
unusual is brought into the store, and judged there against what all processes
have seen, within a second; all else in batches, now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

import msgspec

from gateway.access.keys.key_store import KeyStore, Noting
from gateway.access.keys.rotation_chain import note_before
from gateway.access.limits.limits import address_subject
from gateway.access.usage.access import DENIED, Access
from gateway.errors import GatewayError
from gateway.oversight.detection.signals import Sign, judge
from gateway.oversight.detection.usage_profile import News, Trace, joined, passed_on

KIND = "trace"
_LOGGER = logging.getLogger(__name__)
_AT_ONCE = 100
_MOST_STRANGERS = 5_000
_MOST_KNOWN = 100_000
# Of one id between two looks.
_MOST_CLAIMS = 100
# The code of requests that are refused for a key in their URL, whose secret nobody has looked at.
_IN_URL = "key_in_url"
_DECODER = msgspec.json.Decoder(Trace)
_ENCODE = msgspec.json.Encoder().encode


def _unknown(key_id: str) -> bool:
    return False


class Judged(msgspec.Struct, frozen=True):
    """What was found of one key, or of an address that showed none."""

    key_id: str
    address: str
    signs: list[Sign]


class Traces:
    """Listens to the access log."""

    def __init__(self, store: KeyStore, exists: Callable[[str], bool] = _unknown) -> None:
        self._store = store
        # Whether there is a key of this id, as far as that is known in memory.
        self._exists = exists
        self._news: dict[str, News] = {}
        self._urgent: dict[str, None] = {}
        # Traces as last seen in the store, by kid; those of strangers are nowhere else.
        self._known: dict[str, Trace] = {}
        self._strangers: dict[str, Trace] = {}
        self._news_of_strangers: dict[str, News] = {}
        # Ids of keys that were shown with a wrong secret; whether there are such keys is looked at
        # later, so that the answer takes the same time for each.
        self._claims: dict[str, list[Access]] = {}
        # What was judged before the store went away.
        self._judged: list[Judged] = []

    def see(self, access: Access) -> None:
        """Take in one access."""
        if access.key is not None:
            news = self._news_of(access.key.id)
            news.add(access, self._known.get(access.key.id))
            if news.urgent:
                self._urgent[access.key.id] = None
        elif access.outcome == "denied" or access.action == DENIED:
            self._claim(access)
            address = address_subject(access.address)
            stranger = self._news_of_strangers.get(address)
            if stranger is None:
                if len(self._news_of_strangers) >= _MOST_STRANGERS:
                    return
                stranger = self._news_of_strangers[address] = News()
            stranger.add(access, None)

    def _claim(self, access: Access) -> None:
        if not access.claimed or access.reason == _IN_URL:
            return
        claims = self._claims.get(access.claimed)
        if claims is None:
            if len(self._claims) >= _MOST_STRANGERS:
                return
            claims = self._claims[access.claimed] = []
        if len(claims) < _MOST_CLAIMS:
            claims.append(access)

    def _take_claims(self) -> None:
        claims, self._claims = self._claims, {}
        for key_id, accesses in claims.items():
            if self._exists(key_id):
                for access in accesses:
                    self._news_of(key_id).claim(access)
                self._urgent[key_id] = None

    def touch(self, key_ids: Iterable[str], now: float) -> None:
        """These keys have streams open: they are in use."""
        for key_id in key_ids:
            self._news_of(key_id).touch(now)

    def say(self, key_id: str, sign: Sign) -> None:
        """Something was found of a key that is not in its uses."""
        self._news_of(key_id).say(sign.signal, sign.at, sign.data, sign.count)
        self._urgent[key_id] = None

    async def of(self, key_id: str) -> Trace:
        """The trace of a key as all processes have left it, and this one up to now."""
        trace = _trace(key_id, await self._store.note(KIND, key_id))
        news = self._news.get(key_id)
        return trace if news is None else joined(trace, news)

    async def flush(self, *, everything: bool) -> list[Judged]:
        """Bring what is new into the store; what it gives. Unless `everything`, what is urgent.

        What could not be brought there stays for the next time.
        """
        self._take_claims()
        wanted = list(self._news if everything else self._urgent)
        self._judged += self._judge_strangers()
        for start in range(0, len(wanted), _AT_ONCE):
            names = [name for name in wanted[start : start + _AT_ONCE] if name in self._news]
            await self._bring({name: self._news.pop(name) for name in names})
        found, self._judged = self._judged, []
        return found

    async def _bring(self, batch: dict[str, News]) -> None:
        judged: dict[str, tuple[Trace, list[Sign]]] = {}
        try:
            inherited = await self._inherited(batch)
            await self._store.update_notes(KIND, dict(_notings(batch, inherited, judged)))
        except GatewayError:
            for name, news in batch.items():
                later = self._news.get(name)
                self._news[name] = news if later is None else news.followed_by(later)
            raise
        for name, (trace, signs) in judged.items():
            self._remember(name, trace)
            if not self._news.get(name, _NOTHING).urgent:
                self._urgent.pop(name, None)
            if signs:
                self._judged.append(Judged(name, batch[name].address, signs))

    async def _inherited(self, batch: dict[str, News]) -> dict[str, Trace]:
        """What keys that have no trace yet, as far as is known here, begin with."""
        inherited = {}
        for name, news in batch.items():
            if news.predecessor and name not in self._known:
                document = await note_before(self._store, KIND, news.predecessor)
                if document is not None:
                    inherited[name] = passed_on(_trace(news.predecessor, document))
        return inherited

    def _news_of(self, key_id: str) -> News:
        news = self._news.get(key_id)
        if news is None:
            news = self._news[key_id] = News()
        return news

    def _remember(self, key_id: str, trace: Trace) -> None:
        if len(self._known) >= _MOST_KNOWN and key_id not in self._known:
            del self._known[next(iter(self._known))]
        self._known[key_id] = trace

    def _judge_strangers(self) -> list[Judged]:
        news, self._news_of_strangers = self._news_of_strangers, {}
        found = []
        for address, one in news.items():
            # Put at the end: the first ones are those not seen for longest.
            trace, signs = judge(self._strangers.pop(address, Trace()), one)
            self._strangers[address] = trace
            if signs:
                found.append(Judged("", address, signs))
        while len(self._strangers) > _MOST_STRANGERS:
            del self._strangers[next(iter(self._strangers))]
        return found


_NOTHING = News()


def _trace(key_id: str, document: bytes | None) -> Trace:
    try:
        return Trace() if document is None else _DECODER.decode(document)
    except (msgspec.MsgspecError, RecursionError) as error:
        _LOGGER.warning("what was seen of the key %s cannot be read: %s", key_id, error)
        return Trace()


def _notings(
    batch: dict[str, News],
    inherited: dict[str, Trace],
    judged: dict[str, tuple[Trace, list[Sign]]],
) -> Iterator[tuple[str, Noting]]:
    """What makes new notes of the old ones, leaving in `judged` what was found."""

    def judging(document: bytes | None, name: str, news: News) -> bytes:
        if document is None:
            before = inherited.get(name, Trace())
        else:
            before = _trace(name, document)
        after, signs = judge(before, news)
        note = _ENCODE(after)
        # Of signs, their data alone may hold texts of somebody else's that the trace does not.
        _ENCODE(signs)
        judged[name] = after, signs
        return note

    for name, news in batch.items():

        def noting(document: bytes | None, name: str = name, news: News = news) -> bytes | None:
            try:
                try:
                    return judging(document, name, news)
                except UnicodeEncodeError:
                    news.make_plain()
                    return judging(document, name, news)
            except Exception:
                # It must not keep those of other keys from the store.
                _LOGGER.exception("what was seen of the key %s is left out: a bug", name)
                return document

        yield name, noting
