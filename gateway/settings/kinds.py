"""Kinds of settings: declarations, readers and checks of values.

A reader takes what TOML holds (or plain text, from the environment) and returns what the program
holds, or raises ValueError with the reason. Modules that only some values need are imported there,
since `audit-gateway --help` imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.network import Network

SQLITE = "sqlite:///"
POSTGRES = ("postgresql", "postgres")
_SIZE_UNITS = {None: 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_TYPES = {bool: "true or false", int: "a number", float: "a fraction", list: "a list"}


class Kind(NamedTuple):
    """Type of a setting. `from_text` converts plain text to what TOML would hold."""

    name: str
    unit: str
    read: Callable[[object], Any]
    from_text: Callable[[str], object] = str


class Setting(NamedTuple):
    """Declaration of a setting. `least` and `most`: `(value as in TOML, why)`, both allowed.

    `adds`: a list that only allows more, so that an empty one is meaningful.
    """

    default: object
    kind: Kind
    help: str
    unit: str
    least: tuple[object, str] | None
    most: tuple[object, str] | None
    choices: tuple[str, ...]
    check: Callable[[Any], Any] | None
    secret: bool
    adds: bool

    def read(self, raw: object) -> Any:
        """Value that the program holds for `raw`. Raises ValueError with the reason."""
        value = self.kind.read(raw)
        if self.choices and value not in self.choices:
            raise ValueError(f"{raw!r} is not one of {', '.join(self.choices)}")
        if self.least is not None and value < self.kind.read(self.least[0]):
            raise ValueError(f"{raw} is below {self.least[0]}: {self.least[1]}")
        if self.most is not None and value > self.kind.read(self.most[0]):
            raise ValueError(f"{raw} is above {self.most[0]}: {self.most[1]}")
        return self.check(value) if self.check else value


def setting(
    default: object,
    kind: Kind,
    about: str,
    *,
    unit: str = "",
    least: tuple[object, str] | None = None,
    most: tuple[object, str] | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], Any] | None = None,
    secret: bool = False,
    adds: bool = False,
) -> Any:
    """Dataclass field that declares a setting.

    `secret`: the value may hold a password, which is masked wherever it is shown.
    """
    declared = Setting(
        default, kind, about, unit or kind.unit, least, most, choices, check, secret, adds
    )
    return field(
        default_factory=lambda: declared.read(default),
        repr=not secret,
        metadata={"setting": declared},
    )


def masked(text: str) -> str:
    """URL with `***` for each password in its authority or parameters; `***` for other secrets."""
    return _masked_url(text) if ":" in text or not text else "***"


def _masked_url(url: str) -> str:
    url = re.sub(r"(://[^:@/?#]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&#]*", r"\1***", url)


def _unlike(wanted: str, raw: object) -> ValueError:
    shown = repr(raw) if isinstance(raw, str) else _TYPES.get(type(raw), "a table or a date")
    return ValueError(f"must be {wanted}, not {shown}")


def _read_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise _unlike("text in quotes", raw)
    if not raw.isprintable():
        raise ValueError("holds a character that cannot be printed")
    return raw


def _read_folder(raw: object) -> Path:
    from pathlib import Path

    if not (text := _read_text(raw)):
        raise ValueError("is empty; name a folder")
    return Path(text)


def _read_integer(raw: object) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise _unlike("a whole number", raw)
    return raw


def _read_boolean(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise _unlike("true or false", raw)
    return raw


def _read_duration(raw: object) -> int:
    from gateway.clock import parse_duration

    if not isinstance(raw, str):
        raise _unlike('a duration in quotes such as "30s", "15m", "24h" or "30d"', raw)
    try:
        return parse_duration(raw)
    except InvalidRequest as error:
        raise ValueError(error.detail) from None


def _read_size(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    match = re.fullmatch(r"([0-9]{1,18})([KMGT]iB)?", raw) if isinstance(raw, str) else None
    if match is None:
        raise _unlike('a size such as "64KiB", "32MiB", "10GiB" or a number of bytes', raw)
    return int(match[1]) * _SIZE_UNITS[match[2]]


def _read_list(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list | tuple):
        raise _unlike("a list", raw)
    return tuple(_read_text(item) for item in raw)


def _read_table(raw: object) -> Mapping[str, str]:
    """Texts by name. The TOML key `a.b = ".."`, a table in a table, becomes the name `a.b`."""
    if not isinstance(raw, dict):
        raise _unlike('a table such as { action = "verb", "actor.id" = "who" }', raw)
    found: dict[str, str] = {}
    for name, value in raw.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": text for inner, text in _read_table(value).items()}
        else:
            try:
                found[name] = _read_text(value)
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
    return found


def _json_if_any(text: str) -> object:
    import json

    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(
            'must be JSON in the environment, such as {"action": "verb", "actor.id": "who"}'
        ) from None


def _number_if_one(text: str) -> object:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text


def _true_or_false(text: str) -> object:
    return {"true": True, "false": False}.get(text, text)


def _split(text: str) -> object:
    return [part.strip() for part in text.split(",") if part.strip()]


TEXT = Kind("text", "", _read_text)
FOLDER = Kind("folder", "", _read_folder)
INTEGER = Kind("integer", "", _read_integer, _number_if_one)
BOOLEAN = Kind("true or false", "", _read_boolean, _true_or_false)
DURATION = Kind("duration", "", _read_duration)
SIZE = Kind("size", "bytes", _read_size, _number_if_one)
LIST = Kind("list of text", "", _read_list, _split)
TABLE = Kind("table of text", "", _read_table, _json_if_any)


def check_host(host: str) -> str:
    """Host name or address, without a port."""
    if ":" in host:
        from ipaddress import IPv6Address

        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError(
                f"{host!r} is no address; the port is set apart, IPv6 is written like ::1"
            ) from None
    if not host or " " in host or "/" in host:
        raise ValueError("must be a host name or an address; 0.0.0.0 is every IPv4 interface")
    return host


def check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Web origins (RFC 6454) as browsers send them: lower case, no path, no default port."""
    lowered = tuple(origin.lower() for origin in origins)
    for origin in lowered:
        if origin == "*":
            raise ValueError('"*" would let every web site open streams; list the origins')
        match = re.fullmatch(
            r"(https?)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?", origin
        )
        if match is None:
            raise ValueError(f"{origin!r} is no origin; write https://host or https://host:port")
        if match.groups() in (("http", "80"), ("https", "443")):
            raise ValueError(f"{origin!r}: leave out the default port, as browsers do")
    return lowered


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Host names in lower case, without ports."""
    for name in names:
        if re.fullmatch(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]+\]", name.lower()) is None:
            raise ValueError(f"{name!r} is no host name; write audit.example, without a port")
    return tuple(name.lower().removesuffix(".") for name in names)


def check_networks(networks: tuple[str, ...]) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses."""
    from ipaddress import IPv4Network, IPv6Network, collapse_addresses

    from gateway.network import parse_network

    parsed = []
    for text in networks:
        network = parse_network(text)
        if not network.prefixlen:
            raise ValueError(
                f"{text!r} would let every client choose its address; name the proxies"
            )
        parsed.append(network)
    together: tuple[Network, ...] = (
        *collapse_addresses(one for one in parsed if isinstance(one, IPv4Network)),
        *collapse_addresses(one for one in parsed if isinstance(one, IPv6Network)),
    )
    if not all(one.prefixlen for one in together):
        raise ValueError(
            "they are all addresses together, and every client would choose its own; name the "
            "proxies"
        )
    return tuple(parsed)


def check_durations(durations: tuple[str, ...]) -> tuple[int, ...]:
    """Durations as seconds, longest first."""
    return tuple(sorted({_read_duration(text) for text in durations}, reverse=True))


def check_redis_url(url: str) -> str:
    """Empty, or the address of a Redis, of its Sentinels or of its cluster."""
    if url and not re.match(r"rediss?(\+sentinel|\+cluster)?://(?:[^/]*@)?[^/@:?#]", url):
        raise ValueError(
            "is no address of a Redis; write redis://host/0, rediss://.., "
            "redis+sentinel://host,host/service or redis+cluster://host,host"
        )
    return url


def check_table(name: str) -> str:
    """Empty, or the name of a table as SQL writes it, with or without a schema."""
    part = r'(?:[A-Za-z_][A-Za-z0-9_$]*|"(?:[^"]|"")+")'
    if name and not re.fullmatch(rf"{part}(\.{part})?", name):
        raise ValueError(
            f"{name!r} is no name of a table; write it like audit.events, or with quotes as in SQL "
            """where SQL needs them: 'audit."Trail"'"""
        )
    return name


def check_secret(text: str) -> str:
    """Empty, or 64 hexadecimal digits. Errors never repeat it."""
    if text and not re.fullmatch(r"[0-9a-f]{64}", text, re.ASCII):
        raise ValueError("must be 64 hexadecimal digits, as `openssl rand -hex 32` prints them")
    return text


def check_peppers(text: str) -> str:
    """Empty, one secret, or several with their states. Errors never repeat it."""
    several = r"(?:coming|current|previous|leaked) [0-9a-f]{64}"
    if re.fullmatch(rf"{several}(?:, ?{several})*", text, re.ASCII):
        return text
    try:
        return check_secret(text)
    except ValueError as error:
        raise ValueError(
            f"{error}; of several: `current <digits>, previous <digits>`, the newest first"
        ) from None


def check_store_url(url: str) -> str:
    """Empty, or the URL of a store that has an adapter. Errors never repeat the URL."""
    if not url:
        return url
    how = f"write {SQLITE}relative/path, {SQLITE}/absolute/path or postgresql://user@host/database"
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://", url)
    if scheme is None:
        raise ValueError(f"is no URL; {how}")
    if scheme[1] in POSTGRES:
        if not url[scheme.end() :].strip(":@/?& "):
            # From a template with empty variables; it would mean any database on this machine.
            raise ValueError(f"names neither a host nor a database; {how}")
        return url
    if scheme[1] != "sqlite":
        raise ValueError(
            f"there is no adapter for {scheme[1]}://, only for sqlite:// and postgresql://; {how}"
        )
    path = url.removeprefix(SQLITE)
    if path == url or not path.strip("/") or path == ":memory:" or re.search(r"[?#]", path):
        raise ValueError(f"must name a file, without parameters; {how}")
    return url
