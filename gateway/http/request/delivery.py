"""Destinations on behalf of an admitted key, and how they are shown."""

from __future__ import annotations

from gateway.access.credentials.pepper import Pepper
from gateway.delivery.administration import DestinationAdministration, Stores
from gateway.delivery.answer import DestinationAnswer
from gateway.delivery.destination import Destination
from gateway.http.request.admission import Admission
from gateway.http.request.context import Context
from gateway.http.request.delegation import issuer_of


def destinations_by(context: Context, admission: Admission) -> DestinationAdministration:
    """Administration of destinations on behalf of an admitted key."""

    async def pepper() -> Pepper:
        return context.keyring.peppers.current

    stores = Stores(
        context.destination_store, context.consumer_store, context.key_store, context.log
    )
    return DestinationAdministration(
        issuer_of(context, admission), stores, context.clock, pepper,
        context.deliveries.parts.outlets.check_type,
    )  # fmt: skip


async def shown(
    context: Context, administration: DestinationAdministration, destination: Destination
) -> DestinationAnswer:
    """A destination with its health, as this process knows it."""
    live, name = context.deliveries, destination.name
    destination = live.with_progress(destination)
    return await administration.shown(
        destination, lambda: (live.status_of(name), live.position_of(name))
    )
