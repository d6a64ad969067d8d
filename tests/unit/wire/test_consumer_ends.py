"""Ends of a consumer's WebSocket without subprotocol: codes after which programs come back."""

from __future__ import annotations

import orjson
import pytest

from gateway.cursor import format_cursor
from gateway.wire import framing
from gateway.wire.framing import ENDS, End
from gateway.wire.websocket_writer import PLAIN

CONSUMED = PLAIN.for_consumer()
CURSOR = format_cursor("abcdefghjk", 2**62)
CODES = {
    framing.RESTART: 1012,
    framing.LIFETIME_REACHED: 1012,
    framing.REWOUND: 1012,
    framing.OVERTAKEN: 1012,
    framing.THROTTLED: 1013,
    framing.QUOTA_EXHAUSTED: 1013,
    framing.OVERLOAD: 1013,
    framing.ACK_TIMEOUT: 1013,
    framing.EVENT_FAILED: 1011,
    framing.ENDED_BY_OPERATOR: 1013,
    framing.KEY_REVOKED: 4501,
    framing.KEY_EXPIRED: 4502,
    framing.NOT_GRANTED: 4503,
    framing.KEY_SUSPENDED: 4504,
    framing.TAKEN_OVER: 4505,
    framing.CONSUMER_DELETED: 4505,
}


@pytest.mark.parametrize(("end", "code"), CODES.items(), ids=lambda one: str(one))
def test_an_end_has_a_code_to_come_back_by_and_names_the_true_one(end: End, code: int) -> None:
    frame = CONSUMED.end(end, CURSOR)
    assert int.from_bytes(frame[2:4], "big") == code
    assert orjson.loads(frame[4:]) == {"reason": end.reason, "code": end.code, "cursor": CURSOR}


def test_after_each_end_that_is_not_final_programs_come_back() -> None:
    # Those after which Filebeat connects again.
    comes_back = {1000, 1001, 1011, 1012, 1013, 1015}
    for end in ENDS:
        code = int.from_bytes(CONSUMED.end(end, CURSOR)[2:4], "big")
        assert not end.reconnect or code in comes_back, end


def test_other_websockets_end_as_ever() -> None:
    assert int.from_bytes(PLAIN.end(framing.OVERTAKEN, CURSOR)[2:4], "big") == 4003
