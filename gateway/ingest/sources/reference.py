"""Reference of sources, made of their definitions.

What is mapped, tables with their reasons, what is lost, and how the records get here. Pure.
"""

from __future__ import annotations

import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.ingest.mapping.compiler import Functions
from gateway.ingest.mapping.definition import GROUPS, SINGLE, TARGET

_INTRODUCTION = """# Reference of sources

<!-- Written by `audit-gateway sources reference`: change the definitions instead. -->

What each shipped source makes of its records, what of them is lost, and one way to get them here.
How sources work, and how to write your own, is in [sources.md](sources.md).

`$KEY` is a key with a grant of `ingest` on the category, `https://audit.example.org` your gateway.
Commands and settings of vendors are from their documentation, and were not run by us unless it says
so; that records of these kinds come in by `import` and `POST` is tested for each.

The whole record stays under `data`. "Lost" means that no member of the event has it: filters reach
it as `data.x` alone. Texts of more than 256 characters (1,024 for `reason`, `user_agent` and urns)
are cut in members.

Of a table the first row that tells something counts, exact values before those with `*`. An outcome
that no row tells is `unknown`; a severity that none tells is 1, for what failed 2, and for what was
denied 3.

"""
_NOT_RUN = "From the vendor's documentation; not run by us."
_WIDTH = 110
_AFTER = ("outcome", "severity")
Rows = Iterator[tuple[str, str, str]]


def page(texts: Mapping[str, str], functions: Functions) -> str:
    """The whole page, of definitions as TOML by name."""
    sections = [section(text, functions) for text in texts.values()]
    links = " · ".join(f"[{name}](#{name})" for name in texts)
    return f"{_INTRODUCTION}{links}\n\n" + "\n".join(sections).rstrip() + "\n"


def section(text: str, functions: Functions) -> str:
    """Section of one source, of its definition as TOML."""
    return "\n".join(_Section(tomllib.loads(text), functions).lines()) + "\n"


class _Section:
    def __init__(self, content: Mapping[str, Any], functions: Functions) -> None:
        self._content = content
        self._event: Mapping[str, Any] = content["event"]
        self._notes: Mapping[str, str] = content.get("notes", {})
        self._functions = functions

    def lines(self) -> Iterator[str]:
        content = self._content
        title = content.get("title", content["name"])
        version = f", version {content['version']}" if "version" in content else ""
        reference = content.get("documentation")
        yield f"## {content['name']}"
        yield ""
        yield f"{title}{version}. " + (f"[Reference]({reference})" if reference else "")
        yield ""
        yield from self._members()
        yield from self._table("outcome")
        yield from self._table("severity")
        if "lost" in self._notes:
            yield _paragraph("Lost", self._notes["lost"])
            yield ""
        if "recipe" in self._notes:
            yield _paragraph("How to get it here", self._notes.get("run", _NOT_RUN))
            yield ""
            yield self._notes["recipe"].strip()
            yield ""

    def _members(self) -> Iterator[str]:
        yield "| member | from |"
        yield "| --- | --- |"
        for member in SINGLE:
            if member in self._event and member not in _AFTER:
                yield _row(f"`{member}`", self._shown(self._event[member]) + self._missing(member))
            elif member == "id":
                yield _row("`id`", "a digest of the record")
        for group, names in GROUPS.items():
            for name in names:
                if name in self._event.get(group, {}):
                    yield _row(f"`{group}.{name}`", self._shown(self._event[group][name]))
        for target in self._targets():
            yield _row("`targets`", target)
        if skip := self._content.get("skip"):
            yield _row("skipped", f"`{skip}`")
        if envelopes := self._content.get("envelopes"):
            yield _row("envelopes besides the shared ones", ", ".join(f"`{e}`" for e in envelopes))
        yield ""

    def _missing(self, member: str) -> str:
        return {"id": ", else a digest of the record", "tenant": ", else that of the import"}.get(
            member, ""
        )

    def _targets(self) -> Iterator[str]:
        given = self._event.get("targets", [])
        for target in given if isinstance(given, list) else [given]:
            if isinstance(target, str):
                yield f"`{target}`, in the native form"
            elif "function" in target:
                yield self._function(target["function"])
            else:
                each = f"for each of `{target['each']}`: " if "each" in target else ""
                found = (f"{name} {self._shown(target[name])}" for name in TARGET if name in target)
                yield each + "; ".join(found)

    def _table(self, member: str) -> Iterator[str]:
        given = self._event.get(member)
        reason = self._notes.get(member)
        if given is None and reason is None:
            return
        if given is not None:
            yield f"| {member} from | value | {member} |"
            yield "| --- | --- | --- |"
            for place, value, result in self._rows(given):
                yield f"| {_cell(place)} | {_cell(value)} | {result} |"
            yield ""
        if reason is not None:
            yield _paragraph(member.capitalize(), reason)
            yield ""

    def _rows(self, given: Any) -> Rows:
        """What is looked at in turn; the first that tells something counts."""
        if isinstance(given, str):
            yield self._shown(given), "any", "as it is"
            return
        if isinstance(given, list):
            given = {"any": given}
        if "const" in given:
            yield "all", "any", str(given["const"])
            return
        if "any" in given and not {"table", "present"} & given.keys():
            for one in given["any"]:
                yield from self._rows(one)
        else:
            place = self._place(given)
            table = given.get("table", {})
            by_result: dict[Any, list[str]] = {}
            for key, result in table.items():
                by_result.setdefault(result, []).append(f"`{key}`")
            for result, keys in by_result.items():
                yield place, ", ".join(keys), str(result)
                place = ""
            if "present" in given:
                yield place, "any other" if table else "any", str(given["present"])
            elif not table:
                yield place, "any", "as it is"
        if "absent" in given:
            yield "none of these", "", str(given["absent"])

    # Values in words

    def _shown(self, given: Any) -> str:
        if isinstance(given, str):
            return f"`{given}`"
        if isinstance(given, list):
            return ", else ".join(self._shown(one) for one in given)
        if "const" in given:
            return f"always `{given['const']}`"
        words = self._place(given)
        table = {key: to for key, to in given.get("table", {}).items() if to != ""}
        if table:
            words += ": " + ", ".join(f"`{key}` is `{to}`" for key, to in table.items())
        if "present" in given:
            words += f", if {'another' if table else 'it'} is there `{given['present']}`"
        if "absent" in given:
            words += f", else `{given['absent']}`"
        return words

    def _place(self, given: Mapping[str, Any]) -> str:
        if "function" in given:
            words = self._function(given["function"])
        elif "join" in given:
            paths = given["join"] if isinstance(given["join"], list) else [given["join"]]
            words = ", ".join(f"`{path}`" for path in paths) + " together"
        else:
            words = self._shown(given.get("path", given.get("template", given.get("any"))))
        return f"{words} ({_CONVERTED[given['as']]})" if given.get("as") in _CONVERTED else words

    def _function(self, name: str) -> str:
        """First sentence of what a function says of itself."""
        said = " ".join((self._functions[name].__doc__ or name).split())
        return said.partition(". ")[0].rstrip(".")


_CONVERTED = {
    "lower": "in lower case", "slug": "as words with hyphens", "dotted": "with dots",
    "parent": "without its last word", "json": "as JSON", "ip": "if it is an address",
}  # fmt: skip


def _paragraph(title: str, words: str) -> str:
    return textwrap.fill(
        f"**{title}.** {words.strip()}", _WIDTH, break_long_words=False, break_on_hyphens=False
    )


def _row(member: str, words: str) -> str:
    return f"| {member} | {_cell(words)} |"


def _cell(words: str) -> str:
    return words.replace("|", "\\|")
