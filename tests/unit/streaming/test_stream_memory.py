"""What a quiet stream holds: it is multiplied by the number of streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.access.policy.decision import View
from gateway.filters.scope import Scope
from gateway.http.connection.connections import Connections
from gateway.streaming.live.interest import Interest, StreamQuery
from gateway.streaming.live.subscription import Subscription
from gateway.wire.http_body import SSE
from tests.unit.streaming.test_filter_costs import Peer

if TYPE_CHECKING:
    from collections.abc import Callable


class Silent:
    def refuse(self, error: Exception) -> None: ...

    def abort(self) -> None: ...


def test_connections_of_one_address_share_what_is_called_at_their_ends() -> None:
    connections = Connections(10, 2, 1, 1)

    def entered(address: str) -> Callable[[], None]:
        leave = connections.enter(Silent(), address)
        assert leave is not None
        return leave

    one, same, other = map(entered, ["192.0.2.1", "192.0.2.1", "192.0.2.2"])
    assert one is same
    assert other is not one
    assert connections.enter(Silent(), "192.0.2.1") is None
    one()
    assert connections.open == 2
    again = entered("192.0.2.1")
    for leave in (same, again, other):
        leave()
    assert connections.open == 0
    # All places are free again, and counted anew.
    assert [connections.enter(Silent(), "192.0.2.1") is None for _ in range(3)] == [
        False,
        False,
        True,
    ]


def test_a_stream_keeps_no_account_of_its_filter_before_that_cost_too_much() -> None:
    interest = Interest(StreamQuery(Scope(), View.of(Scope()), None), SSE)
    subscription = Subscription(interest, Peer(), "key", 0)
    assert subscription.costly is None
    assert not subscription.bounded
    costly = subscription.cost_backoff()
    assert subscription.cost_backoff() is costly
