"""Verdicts of outlets, and reduction of events for them."""

from __future__ import annotations

import orjson

from gateway.delivery.outlets.outlet import (
    SUCCESS,
    Confirmation,
    DeliveryResult,
    DeliveryVerdict,
    EncodedEvent,
    OutboundEvent,
    OutletLimits,
    RefusedEvent,
)
from gateway.delivery.reduction import encode_within_limits, reduce
from gateway.event import MAX_EVENT_BYTES
from tests.support.outbound_events import outbound_event


class _Lines:
    """Outlet that encodes as a line; it sends nowhere."""

    confirmation: Confirmation = "stored"
    verbatim = False

    def __init__(self, most: int) -> None:
        self.limits = OutletLimits(500, 1 << 20, most)

    def encode(self, outbound: OutboundEvent) -> bytes:
        return outbound.json

    async def open(self) -> DeliveryVerdict:
        return SUCCESS

    def stage(self, batch: object) -> None:
        return None

    async def send(self, batch: object) -> DeliveryVerdict:
        return SUCCESS

    async def confirm(self, receipt: object) -> DeliveryVerdict:
        return SUCCESS

    async def test(self, encoded: object) -> DeliveryVerdict:
        return SUCCESS

    async def close(self) -> None:
        return None


def test_a_verdict_that_names_no_event_holds_for_the_whole_batch() -> None:
    assert SUCCESS.delivered(3) == {0, 1, 2}
    for result in (DeliveryResult.TRANSIENT, DeliveryResult.PERMANENT, DeliveryResult.CONFIG):
        assert DeliveryVerdict(result).delivered(3) == frozenset()


def test_events_that_a_verdict_does_not_name_are_delivered() -> None:
    refused = (RefusedEvent(1, "no"),)
    assert DeliveryVerdict(DeliveryResult.SUCCESS, refused).delivered(3) == {0, 2}
    verdict = DeliveryVerdict(DeliveryResult.TRANSIENT, refused, frozenset({2}))
    assert verdict.delivered(4) == {0, 3}


def test_the_delivery_id_is_unique_over_tenants_and_short_enough_for_receivers() -> None:
    one = outbound_event(tenant="a" * 64, id="i" * 128)
    assert one.members.delivery_id == "a" * 64 + ":" + "i" * 128
    assert len(one.members.delivery_id) == 193


LARGE = {
    "data": {"n": 1.50, "text": "x" * 3000},
    "targets": [{"urn": "app:first"}, {"urn": "app:" + "y" * 900}],
    "reason": "r" * 800,
    "source": {"ip": "203.0.113.7", "user_agent": "u" * 700},
}


def test_what_fits_is_sent_as_it_is() -> None:
    one = outbound_event(**LARGE)
    encoded = encode_within_limits(_Lines(MAX_EVENT_BYTES), one)
    assert encoded == EncodedEvent(one.json, one.json)


def test_members_leave_in_order_and_no_more_than_have_to() -> None:
    one = outbound_event(**LARGE)
    for most, gone in (
        (3000, ("data",)),
        (2000, ("data", "targets")),
        (1200, ("data", "targets", "reason")),
        (450, ("data", "targets", "reason", "source.user_agent")),
    ):
        encoded = encode_within_limits(_Lines(most), one)
        assert encoded is not None
        assert len(encoded.body) <= most
        assert encoded.outbound.reduced == gone
        members = orjson.loads(encoded.json)
        assert tuple(members["reduced"]) == gone
        assert ("data" in members) == ("data" not in gone)
        assert len(members["targets"]) == (1 if "targets" in gone else 2)
        assert members["targets"][0] == {"urn": "app:first"}
        assert members["source"]["ip"] == "203.0.113.7"
        assert (members["cursor"], members["id"]) == (one.cursor, one.members.id)


def test_an_event_that_never_fits_is_told() -> None:
    assert encode_within_limits(_Lines(100), outbound_event(**LARGE)) is None


def test_what_has_nothing_to_leave_is_not_called_reduced() -> None:
    one = outbound_event(targets=[{"urn": "app:first"}])
    assert reduce(one) is one


def test_a_reduced_event_can_be_reduced_further() -> None:
    once = reduce(outbound_event(**LARGE), ("data",))
    twice = reduce(once)
    assert twice.reduced == ("data", "targets", "reason", "source.user_agent")
    assert orjson.loads(twice.json)["reduced"] == list(twice.reduced)
