"""Declarations of all settings: default, kind, unit, range and help.

The example file, the reference and the names of environment variables are generated from them.
Durations are held as whole seconds, or as milliseconds if the name ends in `_ms`; sizes as bytes,
lists as tuples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.settings.console import ConsoleSettings, OidcSettings
from gateway.settings.consumers import ConsumerSettings
from gateway.settings.destinations import DestinationSettings
from gateway.settings.formats import FormatSettings
from gateway.settings.kinds import (
    DURATION,
    FOLDER,
    INTEGER,
    LIST,
    POSTGRES,
    SIZE,
    SQLITE,
    TABLE,
    TEXT,
    Setting,
    check_durations,
    check_redis_url,
    check_store_url,
    check_table,
    setting,
)
from gateway.settings.limits import LimitSettings
from gateway.settings.look import LookSettings
from gateway.settings.metrics import MetricsSettings, TraceSettings
from gateway.settings.oversight import AccessLogSettings, DetectionSettings
from gateway.settings.server import ServerSettings
from gateway.settings.tls import TlsSettings

if TYPE_CHECKING:
    from pathlib import Path

_SOME = "nothing would ever get through"
_MEMORY = "it is held in memory"
_QUIET = "proxies cut connections that stay quiet for minutes"
_CHATTY = "idle streams would cost more than busy ones"
_ONE_EVENT = "one event may take 256KiB"
_CENTURY = ("36500d", "that is a century; 0s means without end")


@dataclass(frozen=True)
class StoreSettings:
    """Where the log is kept, and how much of it."""

    url: str = setting(
        "",
        TEXT,
        "The log: sqlite:///relative/path, sqlite:////absolute/path, or postgresql://..., which "
        "then holds the keys, too; empty is log.db in the folder `data`.",
        check=check_store_url,
        secret=True,
    )
    table: str = setting(
        "",
        TEXT,
        "A table of yours in that PostgreSQL database, such as public.audit, whose rows become "
        "events, too; see deploy/postgresql.md. Empty is none.",
        check=check_table,
    )
    columns: Mapping[str, str] = setting(
        {},
        TABLE,
        "What makes each member of these events: a column, a path in a column of JSON, or = and a "
        'constant, as in { action = "verb", "actor.id" = "payload.user.id", category = "=app" }.',
    )
    table_mode: str = setting(
        "prepared",
        TEXT,
        "How new rows are told: prepared by `audit-gateway store prepare`, which misses none and "
        "waits for none, or read-only, which changes nothing and gives up both.",
        choices=("prepared", "read-only"),
    )
    retention_age: int = setting(
        "0s", DURATION, "Age at which events are deleted; 0s keeps them for ever.", most=_CENTURY
    )
    retention_bytes: int = setting(
        0,
        SIZE,
        "Size of the log beyond which its oldest events are deleted; 0 is no limit.",
        least=(0, "sizes are not negative"),
        most=("256TiB", "SQLite keeps no larger log; 0 is no limit"),
    )


@dataclass(frozen=True)
class RedisSettings:
    """What replicas share beside the store: limits, usage counters, wake-ups."""

    url: str = setting(
        "",
        TEXT,
        "Redis, such as redis://host/0 (also rediss, redis+sentinel, redis+cluster); empty limits "
        "and counts in each process, and keeps the counts in the folder `data`.",
        check=check_redis_url,
        secret=True,
    )


@dataclass(frozen=True)
class IngestSettings:
    """Limits of what comes in; beyond the queue the answer is 503 with Retry-After."""

    queue_events: int = setting(
        100_000,
        INTEGER,
        "Events that may wait to be written.",
        unit="events",
        least=(1, _SOME),
        most=(100_000_000, _MEMORY),
    )
    queue_bytes: int = setting(
        "64MiB",
        SIZE,
        "Bytes of events that may wait to be written.",
        least=("256KiB", _ONE_EVENT),
        most=("1TiB", _MEMORY),
    )
    max_request_bytes: int = setting(
        "8MiB",
        SIZE,
        "Largest body of a request, after decompression.",
        least=("256KiB", _ONE_EVENT),
        most=("4GiB", _MEMORY),
    )
    max_request_events: int = setting(
        10_000,
        INTEGER,
        "Most events in one request.",
        unit="events",
        least=(1, _SOME),
        most=(10_000_000, "a request is written in one transaction"),
    )


@dataclass(frozen=True)
class StreamSettings:
    """Live streams."""

    heartbeat: int = setting(
        "15s",
        DURATION,
        "Quiet time after which an SSE or NDJSON stream gets its cursor as a sign of life.",
        least=("1s", _CHATTY),
        most=("5m", _QUIET),
    )
    ping: int = setting(
        "20s",
        DURATION,
        "Time between two pings on a WebSocket.",
        least=("1s", _CHATTY),
        most=("5m", _QUIET),
    )
    flush_ms: int = setting(
        25,
        INTEGER,
        "Longest time that events wait under load to be joined into one write; 0 never waits.",
        unit="milliseconds",
        least=(0, "time does not run backwards"),
        most=(1000, "a live stream would no longer be live"),
    )
    buffer_bytes: int = setting(
        "128KiB",
        SIZE,
        "Unsent bytes after which a subscriber leaves the live group and reads from the store.",
        least=("4KiB", "every subscriber would always read from the store"),
        most=("64MiB", "every slow subscriber may take that much memory"),
    )
    retry_ms: int = setting(
        2000,
        INTEGER,
        "Reconnection time that SSE clients are told, before jitter.",
        unit="milliseconds",
        least=(100, "after a restart all clients would come back at once"),
        most=(600_000, "clients would stay away for longer than ten minutes"),
    )
    max_streams: int = setting(
        20_000,
        INTEGER,
        "Streams open at the same time, in each of the worker processes.",
        unit="streams",
        least=(1, _SOME),
        most=(1_000_000, "each takes a file descriptor and memory"),
    )
    max_age: int = setting(
        "0s",
        DURATION,
        "Lifetime of a stream, jittered, after which it ends with 4002; 0s is no limit.",
        most=_CENTURY,
    )


@dataclass(frozen=True)
class KeySettings:
    """Lifetimes of keys, and where the first one goes."""

    first_key: str = setting(
        "print",
        TEXT,
        "Where the first admin key goes: printed once, or, where what is printed ends up in a log, "
        "into the file first-admin-key of the data folder, which only the gateway's user can read.",
        choices=("print", "file"),
    )
    default_life: int = setting(
        "90d",
        DURATION,
        "Lifetime of a key that is made without one; 0s: each has to be made with one.",
    )
    max_life: int = setting(
        "90d",
        DURATION,
        "Longest lifetime that a key may be given.",
        least=("1s", "keys would expire before they can be used"),
        most=("3650d", "a key that lives longer than ten years is never replaced"),
    )
    max_overlap: int = setting(
        "7d",
        DURATION,
        "Longest time that a rotated key may go on working beside its successor.",
        most=("365d", "a rotated key that goes on for a year was not rotated"),
    )
    expiry_warnings: tuple[int, ...] = setting(
        ["30d", "14d", "7d", "1d"],
        LIST,
        "How long before its end a key and its streams are warned, once each.",
        check=check_durations,
    )


@dataclass(frozen=True)
class LogSettings:
    """What the program writes to standard error."""

    level: str = setting(
        "info",
        TEXT,
        "Least level that is written.",
        choices=("debug", "info", "warning", "error"),
    )
    format: str = setting(
        "text",
        TEXT,
        "Lines for people, or one JSON object a line for machines; both with time, level, worker, "
        "the code of an error and the id of a request.",
        choices=("text", "json"),
    )


class Given(NamedTuple):
    """A value that was set: as TOML with masked passwords, and its origin."""

    shown: str
    origin: str


@dataclass(frozen=True)
class Settings:
    """All settings, checked. `given`: those not left at their default."""

    data: Path = setting(  # noqa: RUF009 - `setting` returns a field
        "./audit-data",
        FOLDER,
        "Local folder of the gateway: log, keys, pepper. Relative to the working folder.",
    )
    server: ServerSettings = field(default_factory=ServerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    keys: KeySettings = field(default_factory=KeySettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    look: LookSettings = field(default_factory=LookSettings)
    consumers: ConsumerSettings = field(default_factory=ConsumerSettings)
    record: AccessLogSettings = field(default_factory=AccessLogSettings)
    watch: DetectionSettings = field(default_factory=DetectionSettings)
    formats: FormatSettings = field(default_factory=FormatSettings)
    destinations: DestinationSettings = field(default_factory=DestinationSettings)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    traces: TraceSettings = field(default_factory=TraceSettings)
    console: ConsoleSettings = field(default_factory=ConsoleSettings)
    log: LogSettings = field(default_factory=LogSettings)
    # Tables `[destinations.NAME]` as TOML has them; `gateway.runtime.declared` reads them.
    declared_destinations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    # Tables `[sources.NAME]`; `gateway.ingest.sources.catalog` reads them.
    declared_sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    given: Mapping[str, Given] = field(default_factory=dict, compare=False, repr=False)

    @property
    def on_postgres(self) -> bool:
        """Whether the log and the keys are in PostgreSQL."""
        return self.store.url.partition(":")[0] in POSTGRES

    @property
    def destinations_folder(self) -> Path:
        """`destinations.folder`, or else `destinations` in the folder `data`."""
        from pathlib import Path

        folder = self.destinations.folder
        return Path(folder) if folder else self.data / "destinations"

    @property
    def store_url(self) -> str:
        """`store.url`, or else the URL of `log.db` in the folder `data`."""
        return self.store.url or f"{SQLITE}{self.data / 'log.db'}"


SECTIONS: dict[str, Any] = {
    part.name: part.default_factory
    for part in fields(Settings)
    if part.name not in ("given", "declared_destinations", "declared_sources")
    and "setting" not in part.metadata
}
# Sections within sections, by their whole names.
SUBSECTIONS: dict[str, Any] = {"server.tls": TlsSettings, "console.oidc": OidcSettings}
TABLES: dict[str, Any] = {
    path: of
    for name, section in SECTIONS.items()
    for path, of in [
        (name, section), *((p, of) for p, of in SUBSECTIONS.items() if p.startswith(f"{name}."))
    ]
}  # fmt: skip
DECLARED: dict[str, Setting] = {
    prefix + part.name: part.metadata["setting"]
    for prefix, owner in [("", Settings), *((f"{name}.", of) for name, of in TABLES.items())]
    for part in fields(owner)
    if "setting" in part.metadata
}
# Pairs of which only one may be set.
NOT_BOTH = (
    ("server.pepper", "server.pepper_file"),
    ("server.log_secret", "server.log_secret_file"),
)
# Pairs of which the first may not exceed the second, and why.
NOT_ABOVE = (
    ("ingest.max_request_events", "ingest.queue_events", "a full request would never fit"),
    ("ingest.max_request_bytes", "ingest.queue_bytes", "a full request would never fit"),
    ("look.key_at_once", "look.at_once", "all keys together have fewer"),
    ("keys.default_life", "keys.max_life", "keys made without a lifetime would be refused"),
)
