"""Addresses of Redis: one server, Sentinel or Cluster, told apart by the URL's scheme. Pure.

    redis://[user:password@]host[:6379][/db]
    redis+sentinel://[user:password@]host[:26379],host2[:26379]/service[/db]
    redis+cluster://[user:password@]host[:6379],host2[:6379]

`rediss` in place of `redis` means TLS, with the server's certificate and name
checked. Options behind `?`: `ca=/path/to/ca.pem`, and for Sentinel
`sentinel_user=` and `sentinel_password=`. What has reserved characters in it,
such as a password, is percent-encoded.
"""

from __future__ import annotations

from typing import Literal, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from gateway.errors import InvalidSetting

_PORT = 6379
_SENTINEL_PORT = 26379
_FORMS = (
    "write it like redis://host:6379/0, redis+sentinel://host:26379,host2/service "
    "or redis+cluster://host:6379,host2 (rediss... with TLS)"
)


class RedisAddress(msgspec.Struct, frozen=True):
    """Address of Redis, with the credentials for it."""

    kind: Literal["single", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    db: int = 0
    service: str = ""
    user: str | None = None
    password: str | None = None
    ca: str | None = None
    sentinel_user: str | None = None
    sentinel_password: str | None = None

    def __str__(self) -> str:
        """Address without secrets, for logs."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                         for host, port in self.hosts)  # fmt: skip
        kind = "" if self.kind == "single" else f"+{self.kind}"
        service = f"/{self.service}" if self.service else ""
        return f"redis{'s' * self.tls}{kind}://{hosts}{service}"


def parse_address(url: str) -> RedisAddress:
    """Parse an address. Raises `InvalidSetting` without the URL, which may hold a password."""
    scheme, separator, _ = url.partition("://")
    base, _, kind = scheme.lower().partition("+")
    if not separator or base not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster"):
        _refuse(f"unknown kind of address; {_FORMS}")
    try:
        parts = urlsplit(url)
    except ValueError:
        _refuse(f"not a URL; {_FORMS}")
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    hosts = tuple(
        _host(place, _SENTINEL_PORT if kind == "sentinel" else _PORT) for place in places.split(",")
    )
    path = [unquote(part) for part in parts.path.split("/") if part]
    service = ""
    if kind == "sentinel":
        if not path:
            _refuse("Sentinel needs the name of its service: redis+sentinel://host:26379/service")
        service = path.pop(0)
    elif not kind and len(hosts) > 1:
        _refuse("several hosts are for redis+sentinel:// or redis+cluster://")
    return RedisAddress(
        kind={"": "single", "sentinel": "sentinel", "cluster": "cluster"}[kind],  # type: ignore[arg-type]
        hosts=hosts,
        tls=base == "rediss",
        db=_database(path, kind),
        service=service,
        user=unquote(user) or None,
        password=unquote(password) or None,
        **_options(parts.query, kind),
    )


def _host(place: str, default_port: int) -> tuple[str, int]:
    host, port = place, ""
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            _refuse(f"an IPv6 address stands in brackets; {_FORMS}")
        port = port[1:]
    elif ":" in place:
        host, _, port = place.partition(":")
    if not host:
        _refuse(f"a host is missing; {_FORMS}")
    if port and not (port.isdecimal() and port.isascii() and 0 < int(port) < 65536):
        _refuse("a port is a number from 1 to 65535")
    return host, int(port) if port else default_port


def _database(path: list[str], kind: str) -> int:
    if not path:
        return 0
    if len(path) > 1 or not (path[0].isdecimal() and path[0].isascii() and len(path[0]) < 6):
        _refuse("what follows the last / is the number of a database")
    if kind == "cluster" and int(path[0]):
        _refuse("Redis Cluster has database 0 only")
    return int(path[0])


def _options(query: str, kind: str) -> dict[str, str]:
    known = ("ca", "sentinel_user", "sentinel_password") if kind == "sentinel" else ("ca",)
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in known:
            _refuse(f"unknown option {name[:32]!r}; there are {', '.join(known)}")
    return options


def _refuse(why: str) -> NoReturn:
    raise InvalidSetting(f"redis.url: {why}")
