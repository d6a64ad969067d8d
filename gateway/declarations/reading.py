"""Files of declarations, read into one set: TOML, JSON, and YAML with the extra `yaml`. Pure.

A member that stands twice is refused with the names of both files.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.declarations.declared import TABLES
from gateway.errors import InvalidRequest
from gateway.json_members import refuse_repeated

CODE = "invalid_declaration"
MOST_BYTES = 4 * 1024 * 1024
_LEFT_OUT = {
    "policies": "policies cannot be declared; `audit-gateway doctor` and the filters of the list "
    "of keys show what they would say",
    "viewers": "viewers cannot be declared; what a viewer may do stands in its ticket",
}


class SetOfFiles:
    """The members of a set as several files have them, and in which file each object stands."""

    def __init__(self) -> None:
        self.members: dict[str, Any] = {}
        self._origins: dict[str, str] = {}

    def add(self, file: str, members: Mapping[str, Any]) -> None:
        """Add what one file has. Raises `InvalidRequest` for what stands in another already."""
        for name, value in members.items():
            if name in TABLES and isinstance(value, dict):
                table = self.members.setdefault(name, {})
                if not isinstance(table, dict):
                    raise invalid(f"it is a table in {file}", name, self._origins.get(name, ""))
                for one, declared in value.items():
                    self._once(f"{name}.{one}", file)
                    table[one] = declared
                self._origins.setdefault(name, file)
            elif name == "$schema":
                continue
            elif name == "set" and self.members.get("set", value) == value:
                self.members["set"] = value
                self._origins["set"] = file
            elif name == "set":
                other = self._origins["set"]
                raise invalid(f"it is {self.members['set']!r} in {other}", "set", file)
            else:
                self._once(name, file)
                self.members[name] = value

    def file_of(self, path: str) -> str:
        """The file in which the member at a path stands; "" if it is in none."""
        table, _, rest = path.partition(".")
        found = [
            name for name in self._origins
            if name.startswith(f"{table}.") and _begins(rest, name.partition(".")[2])
        ]  # fmt: skip
        longest = max(found, key=len, default=table)
        return self._origins.get(longest, "")

    def _once(self, path: str, file: str) -> None:
        if path in self._origins:
            raise invalid(f"it stands in {self._origins[path]}, too; declare it once", path, file)
        self._origins[path] = file


def read_set(files: Iterable[tuple[str, bytes]]) -> SetOfFiles:
    """One set from files by name. Raises `InvalidRequest` with the `file` and the `path` of what is
    wrong."""
    merged, size = SetOfFiles(), 0
    for name, content in files:
        size += len(content)
        if size > MOST_BYTES:
            raise invalid(f"all files together have at most {MOST_BYTES} bytes", "", name)
        members = _decoded(name, content)
        if not isinstance(members, dict):
            raise invalid(
                "a table of `set`, `roles`, `keys` and `destinations` is needed", "", name
            )
        for one, why in _LEFT_OUT.items():
            if one in members:
                raise invalid(why, one, name)
        merged.add(name, members)
    return merged


def invalid(reason: str, path: str = "", file: str = "", **members: Any) -> InvalidRequest:
    """Error for a member of a file."""
    text = ": ".join(filter(None, (file, path, reason)))
    named = {name: value for name, value in (("path", path), ("file", file)) if value}
    return InvalidRequest(text, code=CODE, **named, **members)


def _begins(path: str, name: str) -> bool:
    """Whether a path leads to the object of that name, or into it."""
    return path == name or path.startswith((f"{name}.", f"{name}["))


def _decoded(name: str, content: bytes) -> Any:
    kind = name.rpartition(".")[2].lower()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise invalid(f"it is not UTF-8: {error.reason} at byte {error.start}", "", name) from None
    try:
        if kind == "toml":
            return tomllib.loads(text)
        if kind == "json":
            decoded = orjson.loads(text)
            json.loads(text, object_pairs_hook=refuse_repeated)
            return decoded
    except InvalidRequest as error:
        raise invalid(error.detail, "", name) from None
    except (ValueError, RecursionError) as error:
        raise invalid(f"it is no {kind.upper()}: {error}", "", name) from None
    if kind in ("yaml", "yml"):
        return _decoded_yaml(name, text)
    raise invalid("the name of a file ends with .toml, .json or .yaml", "", name)


def _decoded_yaml(name: str, text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise invalid(
            "YAML needs the extra: pip install 'audit-gateway[yaml]'; or write it as TOML or JSON",
            "", name,
        ) from None  # fmt: skip

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Loader that refuses repeated members, and aliases, which could stand for very much."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not read; write it out")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            refuse_repeated([(str(self.construct_object(one, deep=True)), None)
                             for one, _ in node.value])  # fmt: skip
            return super().construct_mapping(node, deep)

    # Dates would be objects of Python.
    Loader.yaml_implicit_resolvers = {
        first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader)
    except InvalidRequest as error:
        raise invalid(error.detail, "", name) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise invalid(f"it is no YAML: {' '.join(str(error).split())}", "", name) from None
