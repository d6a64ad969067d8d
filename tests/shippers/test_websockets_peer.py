"""A plain WebSocket of Python's `websockets` at a fixed URL, as programs have it that know nothing
of acknowledgements: part of every run of the tests."""

from __future__ import annotations

import sys
from functools import partial

from scene import EVENTS, Scene, content

# Each message is a line of the file before the next is read.
PEER = """
import os, sys, time
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect
url, key, path = sys.argv[1:]
headers = {"Authorization": f"Bearer {key}"}
with open(path, "ab", buffering=0) as file:
    while True:
        try:
            with connect(url, additional_headers=headers, proxy=None) as peer:
                for message in peer:
                    file.write(message.encode() + b"\\n")
        except (OSError, ConnectionClosed, InvalidHandshake):
            pass
        time.sleep(0.1)
"""


def test_a_plain_websocket_at_a_fixed_url_loses_nothing_whatever_is_killed(scene: Scene) -> None:
    received = scene.folder / "received.ndjson"
    # The claim of a killed gateway is kept for seconds, unless it is taken over.
    query = "consumer=peer&from=start&on_gap=skip&takeover=true"
    url = f"{scene.gateway.url.replace('http', 'ws')}/v1/stream?{query}"
    command = [sys.executable, "-c", PEER, url, scene.key, str(received)]
    peer = scene.run(command, {})
    kill = partial(scene.kill_while_reading, peer, received)
    scene.produce(EVENTS, [kill, scene.kill_gateway, kill])
    counts = scene.await_all(lambda: content(received))
    print(f"repeated {sum(counts.values()) - len(scene.sent)} of {len(scene.sent)}")
    _, shown = scene.gateway.ask("GET", "/v1/consumers/peer", scene.key)
    assert (shown["state"], shown["reader"]["ack"]) == ("connected", "pong")
