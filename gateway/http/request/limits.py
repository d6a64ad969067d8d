"""Limits of keys and addresses, applied to requests, streams and pages.

`gateway.access.limits` defines limits; this module selects those of a key. A refusal is 429 with
`Retry-After` and the `RateLimit-*` headers, or 503 by policy if the replicas cannot be asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from gateway.access.keys.key import Key
from gateway.access.keys.key_limits import KeyLimits
from gateway.access.limits.delivery_limits import Delivery
from gateway.access.limits.limits import (
    BucketState,
    Concurrency,
    Daily,
    Decision,
    Limit,
    Rate,
    WhenDown,
    address_subject,
)
from gateway.access.limits.ports import Lease, Shared
from gateway.access.usage.meter import Meter
from gateway.clock import Clock
from gateway.errors import GatewayError, TooFast, TooManyRequests, Unavailable
from gateway.http.response.answers import LimitStanding
from gateway.http.response.problem import LIMIT_DECISION
from gateway.settings.limits import LimitSettings as Settings
from gateway.streaming.live.delivery_pacer import DeliveryPacer
from gateway.streaming.live.subscription import Subscription
from gateway.wire.framing import End

_MOST_PLANS = 10_000
_UNKNOWN = "unknown"
_UNLIMITED = 1 << 62
_THROTTLED = Rate("throttled", 6, 60, burst=2)


@dataclass(frozen=True)
class _Plan:
    """Limits shared by all keys with the same `KeyLimits`."""

    requests: Rate | None
    new_streams: Rate | None
    streams: Concurrency | None
    events: tuple[Limit, ...]
    size: tuple[Limit, ...]


_OF_VIEWERS = Concurrency("viewer-streams", 1, "local")


class PageAllowance:
    """Allowance of a key for one page: at most `events` events. What is sent is counted."""

    def __init__(self, key_id: str, delivery: Delivery | None, usage: Meter) -> None:
        self.events = _UNLIMITED if delivery is None else delivery.room()
        self._key_id = key_id
        self._delivery = delivery
        self._usage = usage

    def take(self, sizes: Sequence[int]) -> int:
        """Count as sent what fits of these sizes (bytes), at least one; return how many."""
        most = _UNLIMITED if self._delivery is None else self._delivery.room_bytes()
        size = count = 0
        for one in sizes:
            if count and size + one > most:
                break
            count, size = count + 1, size + one
        if self._delivery is not None:
            self._delivery.take(count, size)
        self._usage.count(self._key_id, events=count, size=size)
        return count


class Throttle:
    """Limit on keys throttled by the detector, per process: a few requests a minute, no streams."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, BucketState] = {}

    def check(self, key: Key, *, lasting: bool = False) -> None:
        """Raise `TooManyRequests` if a throttled key has used its requests, or opens a stream."""
        if key.throttled_until is None or not key.throttled(self._clock.now()):
            if self._buckets:
                self._buckets.pop(key.id, None)
            return
        if lasting:
            raise _throttled(key.throttled_until - self._clock.now())
        now = self._clock.monotonic()
        state = self._buckets.setdefault(key.id, BucketState(0.0, now))
        if not _THROTTLED.take(state, 1, now):
            raise _throttled(_THROTTLED.decision(state, False, 1, source="local").retry_after)


class AppliedLimits:
    """Limits applied to every request. Costs nothing without limits."""

    def __init__(self, shared: Shared, settings: Settings, clock: Clock) -> None:
        # Number of 429 answers, for metrics.
        self.refusals = 0
        self.throttle = Throttle(clock)
        self._limits = shared.limits
        self._leases = shared.leases
        self._deliveries = shared.deliveries
        self._usage = shared.usage
        self._settings = settings
        self._clock = clock
        self._plans: dict[KeyLimits, _Plan] = {}
        self._addresses = _rate(
            "addresses",
            settings.address_requests_per_second,
            burst=settings.address_requests_burst,
            when_down=self._when_down("addresses"),
        )
        # Whether requests of addresses are limited.
        self.limits_addresses = self._addresses is not None
        self._failures = _rate(
            "failures",
            settings.address_failures_per_minute,
            60,
            when_down=self._when_down("failures"),
        )

    def limits_requests(self, key: Key) -> bool:
        return self._plan(key).requests is not None

    async def admit_address(self, request: web.Request, address: str | None) -> None:
        """Count a request of an address. Raises if the limit is exceeded."""
        if self._addresses is not None:
            try:
                await self._take(
                    request, self._addresses, _subject(address), "requests from this address"
                )
            except TooManyRequests as error:
                # The key has not been checked yet, and may be valid.
                raise TooFast(error.detail, retry_after=error.retry_after) from None

    async def admit(self, request: web.Request, key: Key) -> None:
        """Count a request of a key, if limited. Raises if the limit is exceeded."""
        limit = self._plan(key).requests
        if limit is not None:
            request[LIMIT_DECISION] = await self._take(
                request, limit, key.id, "requests with this key"
            )

    async def failed(self, request: web.Request, address: str | None) -> None:
        """Count a request with a wrong key. Raises if its address has sent too many."""
        if self._failures is not None:
            await self._take(
                request, self._failures, _subject(address), "wrong keys from this address"
            )

    async def refuse_failing(self, request: web.Request, address: str | None) -> None:
        """Raise if an address has sent too many wrong keys already, before work that a further
        failure would cost."""
        if self._failures is not None:
            decision = await self._limits.take(self._failures, _subject(address), 0)
            if not decision.allowed:
                raise self._refusal(request, decision, "wrong keys from this address")

    async def open_reader(self, key: Key) -> Lease | None:
        """Place of a new stream without a request, as `open_stream` gives one."""
        return await self.open_stream(None, key)

    async def open_stream(self, request: web.Request | None, key: Key) -> Lease | None:
        """Place of a new stream of the key, which must be released. Raises if it may not open."""
        plan = self._plan(key)
        if plan.new_streams is not None:
            await self._take(request, plan.new_streams, key.id, "new streams with this key")
        if plan.streams is None:
            return None
        place = await self._leases.acquire(plan.streams, key.id)
        if isinstance(place, Decision):
            raise self._refusal(request, place, "open streams of this key", "too_many_streams")
        return place

    async def open_viewer(self, request: web.Request, viewer: str, key: Key) -> Lease | None:
        """Place of a new stream of an embedded viewer, which has one at a time."""
        own = await self._leases.acquire(_OF_VIEWERS, viewer)
        if isinstance(own, Decision):
            raise self._refusal(request, own, "open streams of this viewer", "too_many_streams")
        try:
            of_key = await self.open_stream(request, key)
        except BaseException:
            own.release()
            raise

        def release() -> None:
            own.release()
            if of_key is not None:
                of_key.release()

        return Lease(release)

    def pacer(self, key: Key) -> DeliveryPacer | None:
        """Pacer that keeps a stream within the key's delivery limits; None without limits."""
        delivery = self._delivery(key)
        if delivery is None:
            return None
        return DeliveryPacer(delivery, self._clock, self._settings.quota_wait)

    def page(self, request: web.Request, key: Key) -> PageAllowance:
        """Allowance of the key for a page. Raises if nothing may be sent now."""
        delivery = self._delivery(key)
        if delivery is None or not delivery.take(0, 0) or (refusal := delivery.refusal()) is None:
            return PageAllowance(key.id, delivery, self._usage)
        request[LIMIT_DECISION] = refusal
        self.refusals += 1
        wait = _seconds(refusal.retry_after)
        if delivery.spent:
            raise TooManyRequests(
                "this key has been sent all that it may be sent in a day of UTC",
                code="quota_exhausted",
                retry_after=wait,
            )
        raise TooManyRequests(
            "this key has been sent more than it may be sent in so short a time; wait",
            retry_after=wait,
        )

    async def standing(self, key: Key) -> dict[str, LimitStanding]:
        """What the limits of a key leave it now, by their names; counts nothing."""
        plan, delivery = self._plan(key), self._delivery(key)
        found = {
            limit.name: await self._limits.take(limit, key.id, 0)
            for limit in (plan.requests, plan.new_streams)
            if limit is not None
        }
        if delivery is not None:
            found |= delivery.decisions()
        return {
            name: LimitStanding(one.limit, one.remaining, math.ceil(one.reset))
            for name, one in found.items()
        }

    async def _take(
        self, request: web.Request | None, limit: Limit, subject: str, what: str
    ) -> Decision:
        decision = await self._limits.take(limit, subject)
        if not decision.allowed:
            raise self._refusal(request, decision, what)
        return decision

    def _refusal(
        self, request: web.Request | None, decision: Decision, what: str, code: str | None = None
    ) -> GatewayError:
        wait = _seconds(decision.retry_after)
        if decision.source == "closed":
            return Unavailable(
                f"{what} cannot be counted while Redis is away; try again",
                code="limits_unavailable",
                retry_after=wait,
            )
        if request is not None:
            request[LIMIT_DECISION] = decision
        self.refusals += 1
        detail = f"too many {what}: at most {decision.limit}"
        if decision.window > 1:
            detail += f" in {decision.window} seconds"
        return TooManyRequests(
            f"{detail}; wait for Retry-After seconds", code=code, retry_after=wait
        )

    def _delivery(self, key: Key) -> Delivery | None:
        plan = self._plan(key)
        if not plan.events and not plan.size:
            return None
        return self._deliveries.of(key.id, events=plan.events, size=plan.size)

    def _plan(self, key: Key) -> _Plan:
        plan = self._plans.get(key.limits)
        if plan is None:
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            plan = self._plans[key.limits] = self._new_plan(key.limits)
        return plan

    def _new_plan(self, own: KeyLimits) -> _Plan:
        def figure(name: str) -> int:
            said: int | None = getattr(own, name)
            default: int = getattr(self._settings, name)
            return default if said is None else said

        burst = figure("requests_burst")
        if own.requests_burst is None and own.requests_per_second is not None:
            # The burst in the settings belongs to their rate.
            burst = 0
        streams = figure("concurrent_streams")
        return _Plan(
            requests=_rate(
                "requests",
                figure("requests_per_second"),
                burst=burst,
                when_down=self._when_down("requests"),
            ),
            new_streams=_rate(
                "new-streams",
                figure("new_streams_per_minute"),
                60,
                when_down=self._when_down("new_streams"),
            ),
            streams=Concurrency("streams", streams, self._when_down("streams"))
            if streams
            else None,
            events=_delivered("events", figure("events_per_second"), figure("events_per_day")),
            size=_delivered("bytes", figure("bytes_per_second"), figure("bytes_per_day")),
        )

    def _when_down(self, name: str) -> WhenDown:
        return "closed" if name in self._settings.closed_without_redis else "local"


def release_place(subscription: Subscription, end: End | None) -> None:
    """Free the place of a stream that has ended."""
    if subscription.place is not None:
        subscription.place.release()


def _rate(
    name: str, count: int, seconds: int = 1, *, burst: int = 0, when_down: WhenDown = "local"
) -> Rate | None:
    return Rate(name, count, seconds, burst, when_down) if count else None


def _delivered(name: str, per_second: int, per_day: int) -> tuple[Limit, ...]:
    limits: list[Limit] = []
    if per_second:
        limits.append(Rate(f"{name}-rate", per_second))
    if per_day:
        limits.append(Daily(f"{name}-day", per_day))
    return tuple(limits)


def _subject(address: str | None) -> str:
    return _UNKNOWN if address is None else address_subject(address)


def _seconds(wait: float) -> int:
    return max(1, math.ceil(wait))


def _throttled(wait: float) -> TooManyRequests:
    return TooManyRequests(
        "this key is throttled for a while, because of unusual activity; ask who answers for it",
        code="key_throttled",
        retry_after=_seconds(wait),
    )
