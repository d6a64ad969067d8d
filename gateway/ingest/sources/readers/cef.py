"""ArcSight's Common Event Format, one line of text.

Source: Micro Focus, "ArcSight Common Event Format Implementation Standard": a header of seven parts
with `\\|` and `\\\\`, an extension of `key=value` with `\\=`, `\\\\`, `\\n` and `\\r`.
"""

from __future__ import annotations

import re
from typing import Any

PREFIX = "CEF:"
_HEADER = re.compile(r"CEF:\s?(\d{1,3}(?:\.\d{1,3})?)\|" + r"((?:[^|\\]|\\.)*+)\|" * 6, re.DOTALL)
_PARTS = ("version", "vendor", "product", "device_version", "class_id", "name", "severity")
_KEY = re.compile(r"(?:\A|(?<=\s))([A-Za-z0-9_.\[\]-]{1,128})=", re.ASCII)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_LINE_BREAKS = {"n": "\n", "r": "\r"}
_LABEL = "Label"


def cef_members(text: str) -> dict[str, Any] | None:
    """Parts of the header, `extension` by key, and `labels`: values of custom keys by their label.

    None if the text is no CEF.
    """
    header = _HEADER.match(text)
    if header is None:
        return None
    members: dict[str, Any] = {
        name: _plain(value) for name, value in zip(_PARTS, header.groups(), strict=True)
    }
    extension = _extension(text[header.end() :])
    labels = {
        label: extension[name.removesuffix(_LABEL)]
        for name, label in extension.items()
        if name.endswith(_LABEL) and name.removesuffix(_LABEL) in extension
    }
    return members | {"extension": extension, "labels": labels}


def _extension(text: str) -> dict[str, str]:
    keys = list(_KEY.finditer(text))
    ends = [*(key.start() for key in keys[1:]), len(text)][: len(keys)]
    return {
        key[1]: _plain(text[key.end() : end].strip()) for key, end in zip(keys, ends, strict=True)
    }


def _plain(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPE.sub(lambda found: _LINE_BREAKS.get(found[1], found[1]), value)
