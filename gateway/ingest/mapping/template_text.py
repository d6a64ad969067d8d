"""Texts with fields, such as `k8s:{cluster|"-"}[/ns/{namespace}]/{+path}`. Pure.

    template = *( text | field | "[" *( text | field ) "]" | "{{" | "}}" | "[[" | "]]" )
    field    = "{" ["+"] alternative *( "|" alternative ) [ ":" conversion ] "}"

An alternative is a path or a string; the first that is there counts. `+` keeps slashes. A part in
brackets is left out if one of its fields is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from gateway.ingest.mapping.definition import OptionalPart, Template, TemplateField
from gateway.ingest.mapping.path import InvalidPath, Path, parse_path
from gateway.ingest.mapping.values import CONVERSIONS

_TOKEN = re.compile(r'\{\{|\}\}|\[\[|\]\]|\{((?:[^{}"]|"(?:[^"\\]|\\.)*")*)\}|[{}\[\]]')
_CONVERTED = re.compile(r"(.*):([a-z]+)", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_STRING_OR_BAR = re.compile(r'"(?:[^"\\]|\\.)*"|\|')


def parse_template(text: str) -> Template:
    """Template of a text. Raises `InvalidPath`."""
    parts: list[str | TemplateField | OptionalPart] = []
    optional: list[str | TemplateField] | None = None
    end = 0
    for found in _TOKEN.finditer(text):
        current = parts if optional is None else optional
        current.append(text[end : found.start()])
        end = found.end()
        token = found[0]
        if found[1] is not None:
            current.append(_field(found[1]))
        elif token in ("{{", "}}", "[[", "]]"):
            current.append(token[0])
        elif token == "[" and optional is None:
            optional = []
        elif token == "]" and optional is not None:
            parts.append(OptionalPart(tuple(part for part in optional if part != "")))
            optional = None
        else:
            raise InvalidPath(f"{text!r}: {token} without its other; write {token * 2} for itself")
    if optional is not None:
        raise InvalidPath(f"{text!r}: [ without its other; write [[ for itself")
    parts.append(text[end:])
    return Template(tuple(part for part in parts if part != ""))


def _field(text: str) -> TemplateField:
    whole, text = text.startswith("+"), text.removeprefix("+")
    converted = _CONVERTED.fullmatch(text)
    convert = converted[2] if converted else None
    if convert is not None and convert not in CONVERSIONS:
        raise InvalidPath(f"{convert!r} is no conversion; there are {', '.join(CONVERSIONS)}")
    parts = _alternatives(converted[1] if converted else text)
    return TemplateField(tuple(map(_alternative, parts)), whole, convert)


def _alternative(text: str) -> Path | str:
    if _STRING.fullmatch(text):
        value: str = json.loads(text)
        return value
    path = parse_path(text)
    if path.is_many:
        raise InvalidPath(f"{text!r} has several values")
    return path


def _alternatives(text: str) -> Iterator[str]:
    """Parts between bars, except those within strings."""
    begin = 0
    for found in _STRING_OR_BAR.finditer(text):
        if found[0] == "|":
            yield text[begin : found.start()].strip()
            begin = found.end()
    yield text[begin:].strip()
