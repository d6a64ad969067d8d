"""Words of receivers: what they quote of events is taken out, and all else stays."""

from __future__ import annotations

from gateway.delivery.quotes import Unquoted
from tests.support.cases import every

EVENT = (
    '{"cursor":"abc-00000000000000000401","id":"e-1","actor":{"name":"Ann Müller","id":"u-77"},'
    '"data":{"card":"4711 planted","pin":9042,"note":"a \\"quoted\\" text"}}'
).encode()


def left(message: str, *events: bytes) -> str:
    unquoted = Unquoted(message)
    for event in events or (EVENT,):
        unquoted.compare(event)
    return unquoted.text


@every([
    ("invalid token", "invalid token"),
    ("", ""),
    ("no", "no"),
    ("index audit-2026 not found", "index audit-2026 not found"),
    ("quota of 5000 reached, retry in 30 s", "quota of 5000 reached, retry in 30 s"),
    ("bad request: " + EVENT.decode()[60:], "bad request: ***"),
    ("user ann müller is unknown", "user *** is unknown"),
    ("pin 9042 is wrong", "pin *** is wrong"),
    ("status 401", "status 401"),
    ("id u-77 again", "id u-77 again"),
    ("4711 planted", "***"),
    ("İ 4711 planted İ", "İ *** İ"),
])  # fmt: skip
def test_what_an_event_has_is_taken_out_of_a_message(case: tuple[str, str]) -> None:
    assert left(case[0]) == case[1]


def test_quotes_of_several_events_are_taken_out() -> None:
    events = [b'{"name":"planted-%d"}' % number for number in (17, 18)]
    assert left("refused: planted-17, planted-18.", *events) == "refused: ***, ***."
