"""Settings of looking: what one request may look at in the log."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.kinds import DURATION, INTEGER, SIZE, setting

_NOTHING = "nothing would ever be found"
_LONG = "others would wait for it"


@dataclass(frozen=True)
class LookSettings:
    """How much of the log one request looks at before it says where to go on, and how many do."""

    offsets: int = setting(
        2_000_000,
        INTEGER,
        "Events that one page, count or search passes, if the store decides which are wanted.",
        unit="events",
        least=(1, _NOTHING),
        most=(10**12, _LONG),
    )
    viewed_events: int = setting(
        200_000,
        INTEGER,
        "Of these, events that the gateway itself has to compare with what the key may see.",
        unit="events",
        least=(1, _NOTHING),
        most=(10**12, _LONG),
    )
    rendered_events: int = setting(
        20_000,
        INTEGER,
        "Of these, events that have to be decoded or masked first: for masks, `filter` and `text`.",
        unit="events",
        least=(1, _NOTHING),
        most=(10**12, _LONG),
    )
    seconds: int = setting(
        "2s",
        DURATION,
        "Time after which a page, count or search ends, whatever it has passed.",
        least=("1s", "on a busy machine nothing would be found"),
        most=("60s", "clients and proxies give up"),
    )
    answer_bytes: int = setting(
        "4MiB",
        SIZE,
        "Bytes of events at which a page ends, because it is held in memory.",
        least=("256KiB", "one event may take 256KiB"),
        most=("1GiB", "it is held in memory"),
    )
    key_at_once: int = setting(
        2,
        INTEGER,
        "Requests of one key that look at much of the log at once, in each process.",
        unit="requests",
        least=(1, _NOTHING),
        most=(1_000, _LONG),
    )
    at_once: int = setting(
        4,
        INTEGER,
        "The same of all keys together.",
        unit="requests",
        least=(1, _NOTHING),
        most=(1_000, _LONG),
    )
    wait: int = setting(
        "5s",
        DURATION,
        "How long a request waits for that, before it is refused with 429 and the code `busy`.",
        most=("60s", "clients and proxies give up"),
    )
