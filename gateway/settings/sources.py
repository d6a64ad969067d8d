"""Sources of settings: TOML file, environment, flags.

Each yields what it was given, unchecked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import InvalidSetting

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "AUDIT_GATEWAY_"
# Variables of `import` and `tail`, which a server may have in its environment too.
_OF_CLIENTS = frozenset({"AUDIT_GATEWAY_KEY", "AUDIT_GATEWAY_PROFILES"})


class Raw(NamedTuple):
    """Setting as given. `is_text`: the value is text whatever the kind of the setting."""

    path: str
    value: object
    origin: str
    is_text: bool = False
    is_variable: bool = False
    hint: str = ""


def env_name(path: str) -> str:
    """Environment variable of a setting: `AUDIT_GATEWAY_SERVER__PORT` for `server.port`."""
    return PREFIX + path.replace(".", "__").upper()


def from_file(config: Path, sections: Collection[str]) -> Iterator[Raw]:
    """Settings of a TOML 1.0 file; `origin` is `file:line`, or the file if no line is found."""
    import tomllib

    try:
        text = config.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidSetting(f"{config}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidSetting(f"{config}:{line}: is not UTF-8") from None
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        raise _syntax_error(config, text, str(error)) from None
    yield from _of_table(document, sections, lambda *paths: _place(config, text, *paths))


def _of_table(
    table: Mapping[str, object],
    sections: Collection[str],
    place: Callable[..., str],
    within: tuple[str, ...] = (),
) -> Iterator[Raw]:
    """Settings of a table and of the sections in it. `within`: its path, and those around it."""
    for name, value in table.items():
        path = f"{within[0]}.{name}" if within else name
        if path not in sections:
            yield Raw(path, value, place(path, *within))
        elif isinstance(value, dict):
            yield from _of_table(value, sections, place, (path, *within))
        else:
            origin = place(path, *within)
            raise InvalidSetting(
                f"{path}: is a section, write [{path}] ({origin})", setting=path, origin=origin
            )


def from_environment(environ: Mapping[str, str]) -> Iterator[Raw]:
    """Settings of the variables that begin with `AUDIT_GATEWAY_`, sorted by name."""
    hint = ""
    if PREFIX + "SERVICE_HOST" in environ:
        hint = (
            "Kubernetes adds such variables for a service named audit-gateway: "
            "set enableServiceLinks to false in the pod"
        )
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in _OF_CLIENTS:
            tail = name.removeprefix(PREFIX)
            path = tail.lower().replace("__", ".")
            exact = path if env_name(path) == name else tail
            yield Raw(exact, environ[name], f"environment variable {name}", True, True, hint)


def from_flags(flags: Mapping[str, object]) -> Iterator[Raw]:
    """Settings of the flags; None stands for a flag that was not given."""
    for path, value in flags.items():
        if value is not None:
            plain = os.fspath(value) if isinstance(value, os.PathLike) else value
            yield Raw(path, plain, "flag", isinstance(plain, str))


def _syntax_error(config: Path, text: str, message: str) -> InvalidSetting:
    place = re.search(r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$", message)
    if place is None:
        return InvalidSetting(f"{config}: is not TOML: {message}")
    line = place[1] or str(text.count("\n") + 1)
    return InvalidSetting(f"{config}:{line}: is not TOML: {message[: place.start()]}")


def _place(config: Path, text: str, *paths: str) -> str:
    """`file:line` of the first of `paths` that a line sets or opens.

    The parser keeps no positions. Searching the lines finds all settings but those in inline
    tables, for which `paths` ends with the section.
    """
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        bare = re.sub(r"[\s\"']", "", line)
        if header := re.match(r"\[+([^\]]+)\]", bare):
            section = header[1] + "."
            lines.setdefault(header[1], number)
        elif assigned := re.match(r"([^=#]+)=", bare):
            lines.setdefault(section + assigned[1], number)
    return next((f"{config}:{lines[path]}" for path in paths if path in lines), str(config))
