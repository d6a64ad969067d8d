"""Settings of the access log and of anomaly detection."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.settings.kinds import DURATION, LIST, setting

# Signals that are certain, and caused by the key itself. Volumes are only ever likelihoods; others
# may use the name of a key.
CERTAIN = (
    "denials",
    "forbidden_categories",
    "probing",
    "out_of_scope",
    "rate_limited",
    "dormant_woke",
    "new_network",
    "revoked_presented",
    "drained_presented",
    "deep_replay",
    "silent_consumer",
)
_DENIED_SOON = "somebody who watches the record would wait for it"


def check_certain(signals: tuple[str, ...]) -> tuple[str, ...]:
    """Check names of signals that may have consequences."""
    for name in signals:
        if name in ("volume", "request_volume"):
            raise ValueError(f"{name} alone never has consequences; it is only reported")
        if name not in CERTAIN:
            raise ValueError(f"there is no signal {name!r}; there are {', '.join(CERTAIN)}")
    return tuple(dict.fromkeys(signals))


@dataclass(frozen=True)
class AccessLogSettings:
    """The record of every use of a key, as events of the category `gateway.access`."""

    delay: int = setting(
        "1s",
        DURATION,
        "How long a use may wait to be written together with others.",
        most=("1h", _DENIED_SOON),
    )
    merge: int = setting(
        "5s",
        DURATION,
        "How long repeats of a use are merged into one event with a count; for what goes on and on "
        "this doubles, up to 1m.",
        least=("1s", "clients that read the record would fill it"),
        most=("1h", _DENIED_SOON),
    )
    merge_ingest: int = setting(
        "1m",
        DURATION,
        "The same for successful ingest requests, which would double the log else.",
        least=("1s", "the record would grow with each request"),
        most=("24h", _DENIED_SOON),
    )


@dataclass(frozen=True)
class DetectionSettings:
    """The watch for unusual activity; what it finds is in `GET /v1/findings`."""

    suspend_on: tuple[str, ...] = setting(
        [],
        LIST,
        f"Signals on which a key is suspended for a while; any of {', '.join(CERTAIN)}.",
        check=check_certain,
    )
    throttle_on: tuple[str, ...] = setting(
        [],
        LIST,
        "Signals on which the streams of a key are ended with 4001, and its requests are let "
        "through a few a minute, for a while.",
        check=check_certain,
    )
    pause: int = setting(
        "15m",
        DURATION,
        "How long a key stays suspended or throttled then.",
        least=("1s", "it would change nothing"),
        most=("24h", "for longer, somebody should decide"),
    )
    warm_up: int = setting(
        "7d",
        DURATION,
        "How long the usual volume of a key is learned before any is called unusual.",
        least=("5m", "nothing would be known of the key"),
        most=("90d", "no key may live much longer"),
    )
