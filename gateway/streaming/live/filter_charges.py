"""Charges for the filters of live streams, and which streams have to leave for their cost."""

from __future__ import annotations

from gateway.scheduling.loop_work import LoopWork
from gateway.streaming.live.matching import Matching
from gateway.streaming.live.subscription import Subscription

COSTLY = (
    "this filter costs more than live streams may; the stream goes on from the store, as fast as "
    "its key's share of the processor allows. Narrow it with selectors, or test fewer items"
)
EXCEEDED = (
    "on these events the filter ran out of its budget, so they did not match and are left "
    "out; narrow it with selectors, or test fewer items"
)


def charge_filters(matching: Matching, work: LoopWork) -> list[Subscription]:
    """Charge the keys of a page's counted filters; return the streams that leave the live group:
    those of costly groups, and those of keys that have used up their share."""
    leaving: dict[Subscription, None] = {}
    for group, cost in matching.costs.items():
        keys = {key_id for shard in group.shards for key_id in shard.keys}
        work.count(cost)
        for key_id in keys:
            work.charge(key_id, cost, len(keys))
    for group, cost in matching.costs.items():
        costly = group in matching.costly
        if not costly and cost.steps <= cost.events * work.filters.free_steps:
            continue
        for shard in group.shards:
            for subscription in shard.members():
                if costly or work.wait(subscription.key_id):
                    leaving[subscription] = None
    return list(leaving)
