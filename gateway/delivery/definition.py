"""Definition of a destination, as HTTP, settings and the command line have it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.access.keys.lifecycle import MAX_REASON
from gateway.clock import Duration, parse_duration, parse_rfc3339
from gateway.cursor import parse_cursor
from gateway.errors import InvalidRequest
from gateway.filters.expression import Filter, compile_filter
from gateway.filters.scope import Scope
from gateway.formats.names import FORMAT_NAMES
from gateway.json_members import Body, about

NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"
Name = Annotated[str, Meta(pattern=NAME, description="Small letters, digits, `.`, `_` and `-`.")]
_SHORT = re.compile(r"(\d{1,9})ms", re.ASCII)
_SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB)?", re.ASCII)
_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_TIME = about("Such as `500ms`, `1s`, `1m`.", pattern=r"^(\d{1,9}ms|(\d{1,9}[smhd])+)$")
Pause = Annotated[str, _TIME]
Size = Annotated[int | str, about("Bytes, or a text such as `1MiB`.")]
_Values = Annotated[str | list[str], about("One value, or a list; patterns as in streams.")]
SELECTORS = ("tenant", "category", "action", "outcome", "actor", "resource")
AnyMembers = TypeVar("AnyMembers", bound=msgspec.Struct)


class DestinationMembers(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """DestinationMembers of an object; others are refused, with their path."""


class DestinationSelect(DestinationMembers, frozen=True, kw_only=True):
    """What of the key's events is delivered: selectors and a filter as of streams."""

    tenant: _Values | UnsetType = UNSET
    category: _Values | UnsetType = UNSET
    action: _Values | UnsetType = UNSET
    outcome: _Values | UnsetType = UNSET
    actor: _Values | UnsetType = UNSET
    resource: _Values | UnsetType = UNSET
    min_severity: Annotated[int, Meta(ge=1, le=6)] = 1
    filter: str | UnsetType = UNSET

    def scope(self) -> Scope:
        """The selectors. Raises `InvalidRequest` with the path."""
        chosen: dict[str, Any] = {}
        for name in SELECTORS:
            value = getattr(self, name)
            if value is UNSET:
                continue
            values = (value,) if isinstance(value, str) else tuple(sorted(set(value)))
            if not values:
                raise invalid(
                    f"select.{name}", "an empty list selects nothing; leave it out to select all"
                )
            chosen[name] = values
        scope = Scope(**chosen, min_severity=self.min_severity)
        try:
            scope.check()
        except InvalidRequest as error:
            name = error.members.get("parameter", "")
            raise invalid(f"select.{name}", error.detail.removeprefix(f"{name}: ")) from None
        return scope

    def compiled_filter(self) -> Filter | None:
        """The filter. Raises `InvalidRequest` with the path."""
        if isinstance(self.filter, UnsetType):
            return None
        try:
            return compile_filter(self.filter)
        except InvalidRequest as error:
            raise invalid("select.filter", error.detail) from None


class DestinationBatch(DestinationMembers, frozen=True, kw_only=True):
    """When a batch is closed: at so many events or bytes, or so long after its first event. What is
    left out is as the type has it."""

    max_events: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET
    max_bytes: Size | UnsetType = UNSET
    max_wait: Pause | UnsetType = UNSET


class DestinationRetry(DestinationMembers, frozen=True, kw_only=True):
    """Pauses after failures: random up to `min`, doubled at each failure up to `max`."""

    min: Pause = "500ms"
    max: Pause = "60s"


class DestinationTimeout(DestinationMembers, frozen=True, kw_only=True):
    """How long a connection, and a request with its answer, may take."""

    connect: Pause = "5s"
    request: Pause = "30s"


class DestinationTls(DestinationMembers, frozen=True, kw_only=True):
    """Own authorities, a client certificate (its key is the secret `tls_key`) and the expected
    name. TLS is always verified."""

    ca: Annotated[str, about("Certificates in PEM.")] = ""
    cert: Annotated[str, about("A client certificate in PEM.")] = ""
    server_name: str = ""


class Definition(DestinationMembers, frozen=True, kw_only=True):
    """A destination as it is defined, without its secrets."""

    name: Name
    type: Annotated[str, about("The type of the receiver.")]
    key: Annotated[
        str,
        Meta(pattern="^[0-9A-Za-z]{12}$"),
        about("The id of the key whose events are delivered."),
    ]
    select: DestinationSelect = DestinationSelect()
    start: Annotated[
        str,
        about(
            "Where it begins when it is made: `now`, `start`, a cursor, a time "
            "or a duration such as `24h`."
        ),
    ] = msgspec.field(default="now", name="from")
    batch: DestinationBatch = DestinationBatch()
    retry: DestinationRetry = DestinationRetry()
    timeout: DestinationTimeout = DestinationTimeout()
    format: Annotated[
        str | UnsetType, about("Of the events; what is left out is as the type has it.")
    ] = UNSET
    compression: Annotated[Literal["gzip", "none"], about("Of requests.")] = "gzip"
    tls: DestinationTls = DestinationTls()
    plaintext: Annotated[
        bool, about("Whether it may be reached without TLS beyond the machine itself.")
    ] = False
    on_gap: Annotated[
        Literal["skip", "fail"],
        about("Whether to go on behind what retention has deleted, or to wait for a person."),
    ] = "skip"
    settings: Annotated[dict[str, Any], about("Settings of the type.")] = {}

    def check(self) -> None:
        """Raise `InvalidRequest` with the path of the first member that is wrong."""
        if self.name.endswith("\n"):
            # Which patterns overlook.
            raise invalid("name", "leave out the line break")
        self.select.scope()
        self.select.compiled_filter()
        for name in ("connect", "request"):
            if not 0 < seconds_of(getattr(self.timeout, name), f"timeout.{name}") <= 600:
                raise invalid(f"timeout.{name}", "more than 0, and at most 10m")
        if isinstance(self.format, str) and self.format not in FORMAT_NAMES:
            raise invalid("format", f"one of {', '.join(FORMAT_NAMES)}")
        least, most = self.retry_seconds()
        if not 0 < least <= most <= 3600:
            raise invalid("retry", "`min` is more than 0 and at most `max`, which is at most 1h")
        for name in ("max_bytes", "max_wait"):
            if (value := getattr(self.batch, name)) is not UNSET:
                read = size_of if name == "max_bytes" else seconds_of
                if not 0 < read(value, f"batch.{name}") <= (64 << 20 if read is size_of else 3600):
                    raise invalid(f"batch.{name}", "more than 0, and at most 64MiB or 1h")

    def retry_seconds(self) -> tuple[float, float]:
        """Least and most seconds of the first and of the longest pause."""
        return seconds_of(self.retry.min, "retry.min"), seconds_of(self.retry.max, "retry.max")

    def same_delivery(self, other: Definition) -> bool:
        """Whether the other sends the same events of the same key in the same format."""
        mine, theirs = (self.key, self.select, self.format), (other.key, other.select, other.format)
        return mine == theirs

    def same_receiver(self, other: Definition) -> bool:
        """Whether the other connects to the same host and port in the same way."""
        return _origin(self.settings) == _origin(other.settings)


def _origin(settings: Mapping[str, Any]) -> tuple[str, str]:
    parts = urlsplit(str(settings.get("url", "")))
    return parts.scheme, parts.netloc.lower()


def parse_definition(raw: Any) -> tuple[Definition, dict[str, str]]:
    """Definition and the secrets beside it, from decoded JSON or TOML. Raises `InvalidRequest` with
    the `path` of the member that is wrong."""
    if not isinstance(raw, dict):
        raise InvalidRequest("a destination is a JSON object", code="invalid_destination")
    secrets = parse_secrets(raw.get("secrets", {}))
    definition = parse_members({k: v for k, v in raw.items() if k != "secrets"}, Definition)
    definition.check()
    return definition, secrets


def parse_secrets(raw: Any) -> dict[str, str]:
    """Secrets by name. A reference to a file or variable is refused: whoever administers
    destinations could have any file of the gateway sent to an address of theirs."""
    if not isinstance(raw, dict):
        raise invalid("secrets", "an object of texts is needed")
    for name, value in raw.items():
        if isinstance(value, dict):
            raise InvalidRequest(
                f"secrets.{name[:64]}: a reference to a file or a variable counts in the "
                "configuration of the gateway only; send the value",
                code="secret_reference_refused",
                path=f"secrets.{name[:64]}",
            )
        if not isinstance(value, str) or not value:
            raise invalid(f"secrets.{name[:64]}", "a text is needed")
    return raw


def need_secrets(known: Collection[str], given: Collection[str]) -> None:
    """Raise for secrets that are set and not given anew: whoever changes where they are sent would
    have them, although nobody is shown them."""
    for name in sorted(set(known) - set(given)):
        raise InvalidRequest(
            f"secrets.{name}: it was given for another address; send it along with the new one",
            code="secrets_needed",
            path=f"secrets.{name}",
        )


def patched(definition: Definition, raw: Any) -> tuple[Definition, dict[str, str]]:
    """Definition after a JSON merge patch (RFC 7396), and the secrets that come with it."""
    if not isinstance(raw, dict):
        raise InvalidRequest("a change is a JSON object", code="invalid_destination")
    for name in ("name", "type", "from"):
        if name in raw:
            raise invalid(name, "it stays as it was made; make another destination")
    secrets = parse_secrets(raw.get("secrets", {}))
    before = msgspec.to_builtins(definition)
    changed = _merged(before, {k: v for k, v in raw.items() if k != "secrets"})
    after = parse_members(changed, Definition)
    after.check()
    return after, secrets


def _merged(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


_AT = re.compile(r" - at `\$\.?(?P<path>.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*?)`")


def parse_members(raw: Any, kind: type[AnyMembers], where: str = "") -> AnyMembers:
    """Object of a kind from decoded JSON. Raises `InvalidRequest` with the `path` of the member
    that is unknown, missing or wrong; `where` is the path of the object."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        at = _AT.search(text)
        base = ".".join(filter(None, (where, at["path"] if at else "")))
        if found := _UNKNOWN.match(text):
            path = ".".join(filter(None, (base, found["name"][:64])))
            raise invalid(path, "there is no such member") from None
        if found := _MISSING.match(text):
            path = ".".join(filter(None, (base, found["name"])))
            raise invalid(path, "it is required") from None
        raise invalid(base, _AT.sub("", text)) from None


def invalid(path: str, reason: str) -> InvalidRequest:
    """Error for the member at a path."""
    text = f"{path}: {reason}" if path else reason
    return InvalidRequest(text, code="invalid_destination", **({"path": path} if path else {}))


def seconds_of(text: str, path: str) -> float:
    """Seconds of a pause such as `500ms` or `1m`."""
    if found := _SHORT.fullmatch(text):
        return int(found[1]) / 1000
    try:
        return float(parse_duration(text))
    except InvalidRequest:
        raise invalid(path, "a pause such as 500ms, 1s or 1m is needed") from None


def size_of(value: int | str, path: str) -> int:
    """Bytes of a size such as `1MiB`."""
    found = _SIZE.fullmatch(str(value))
    if found is None:
        raise invalid(path, "a size such as 65536 or 1MiB is needed")
    return int(found[1]) * _UNITS[found[2]]


class Start(msgspec.Struct, frozen=True):
    """Where a destination begins: after a cursor, at a time in microseconds, or at an end."""

    after: str | None = None
    since: int | None = None
    head: bool = False


def parse_start(text: str, now: float, path: str = "from") -> Start:
    """Begin of a destination, or of a replay, from its text."""
    if text in ("now", "latest"):
        return Start(head=True)
    if text in ("start", "earliest"):
        return Start()
    try:
        return Start(since=parse_rfc3339(text))
    except ValueError:
        pass
    try:
        parse_cursor(text)
        return Start(after=text)
    except InvalidRequest:
        pass
    try:
        return Start(since=int((now - parse_duration(text)) * 1_000_000))
    except InvalidRequest:
        raise invalid(
            path, "now, start, a cursor, a time such as 2026-01-31T12:00:00Z, or a duration"
        ) from None


class NewDestinationBody(Definition, frozen=True, kw_only=True):
    """Body that makes a destination."""

    secrets: Annotated[dict[str, str], about("Given once, and never shown again.")] = {}


class ReplayBody(Body, frozen=True):
    """What to deliver a second time: a part of the log, or dead letters."""

    start: Annotated[str, about("A cursor, a time, a duration or `start`.")] = msgspec.field(
        default="", name="from"
    )
    to: Annotated[str, about("Its end, as `from`.")] = "now"
    dead_letters: Annotated[
        Literal["", "all"] | list[str], about("`all`, or a list of their ids.")
    ] = ""
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class SecretBody(Body, frozen=True):
    """New value of a secret."""

    value: Annotated[str, about("Never shown again.")]
    overlap: Annotated[
        Duration, about("For how long the old value counts, too, where the type can use two.")
    ] = "0s"
