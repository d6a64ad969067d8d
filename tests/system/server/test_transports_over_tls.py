"""All ways in and out over TLS: the tests of the transports, with a certificate."""

from __future__ import annotations

import over_tls
import test_single_events
import test_stream_ndjson
import test_stream_sse
import test_stream_websocket
import test_streaming_ingest

MODULES = (
    test_stream_sse, test_stream_ndjson, test_stream_websocket, test_streaming_ingest,
    test_single_events,
)  # fmt: skip
# asyncio's TLS can neither close one side of a connection nor tell what it holds back.
OF_CLIENTS = {
    "test_a_peer_that_closes_its_side_gets_every_answer",
    "test_reading_pauses_while_much_is_not_durable",
    "test_who_reads_no_answers_is_not_read_either",
}
for module in MODULES:
    globals().update(
        (name, one)
        for name, one in vars(module).items()
        if name.startswith("test_") and name not in OF_CLIENTS
    )

session, start, shared = over_tls.session, over_tls.start, over_tls.shared
