"""Client library of the gateway: streams, pages and publishing, with asyncio and without.

It loads nothing of the server.
"""

from gateway.client.aio import AsyncClient, AsyncStream
from gateway.client.protocol.counting import CountSelection
from gateway.client.protocol.events import PageSelection, ReceivedEvent, Selection, StreamSelection
from gateway.client.protocol.paging import EventPage
from gateway.client.protocol.reading import Batch
from gateway.client.sync import Client, Stream
from gateway.ingest.sink import Refusal, SendResult

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Batch",
    "Client",
    "CountSelection",
    "EventPage",
    "PageSelection",
    "ReceivedEvent",
    "Refusal",
    "Selection",
    "SendResult",
    "Stream",
    "StreamSelection",
]
