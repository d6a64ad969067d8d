"""Search in the text of events: words that must and must not occur in their values.

A text is words separated by blanks; all must occur. `"a phrase"` is one word with its blanks, and
`-word` must not occur. A word occurs where it stands within one value, whatever the case: letters
of ASCII are equal to letters of ASCII alone.

It looks at decoded values of the event as a key sees it: strings, whole numbers of up to 64 bits as
they are written, `true` and `false`. It does not look at names of members, at numbers with a
fraction or an exponent, at `cursor`, nor at what the gateway declares about masks. A masked value
is none: no word occurs in it, nor in the `***` that stands there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import InvalidRequest
from gateway.filters.expression import Undecided

MOST_WORDS = 8
MOST_CHARACTERS = 256
MOST_MEMBERS = 64
_BLANKS = " \t\r\n"
# Members whose values are not the event's, but say where it stands and what was hidden.
_DECLARED = frozenset(("cursor", "masked", "pseudonymized"))
# Members that may be looked at alone, and their own members; None: any, "": no others.
_MEMBERS: dict[str, frozenset[str] | None] = {
    **dict.fromkeys(
        ("id", "time", "recorded_at", "tenant", "category", "action", "outcome", "severity",
         "reason"),
        frozenset(),
    ),
    "actor": frozenset(("type", "id", "name", "key_id")),
    "source": frozenset(("service", "ip", "port", "user_agent")),
    "targets": frozenset(("urn", "type", "id", "name")),
    "request": frozenset(("id", "trace_id")),
    "data": None,
}  # fmt: skip
_TOKEN = re.compile(rf'(-?)(?:"([^"]*)"(?![^{_BLANKS}])|([^{_BLANKS}]+))')
# Steps of about 0.1 us that it takes to look at one value, and at so many characters for one word.
_STEPS_PER_VALUE = 3
_CHARACTERS_PER_STEP = 256
_FOLDED_PER_STEP = 2

Members = tuple[tuple[str, ...], ...]


class _Folding(dict[int, str | int]):
    """Characters without their case: no character of ASCII is equal to another than ASCII."""

    def __missing__(self, code: int) -> str | int:
        for folded in (chr(code).casefold(), chr(code).lower()):
            if code < 128 or not any(map(str.isascii, folded)):
                break
        else:
            folded = chr(code)
        self[code] = folded
        return folded


_FOLDING = _Folding()
_FOLDED_AT_MOST = 65_536


def fold(text: str) -> str:
    """Text without its case."""
    if text.isascii():
        return text.lower()
    if len(_FOLDING) > _FOLDED_AT_MOST:
        _FOLDING.clear()
    return text.translate(_FOLDING)


class TextQuery(msgspec.Struct, frozen=True):
    """Words without their case, sorted, that must occur (`all_of`) and must not (`none_of`), in
    these members of an event, or anywhere if there are none. Equal queries find the same."""

    all_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()
    members: Members = ()

    def matches(self, event: Mapping[str, Any]) -> bool:
        """Whether a decoded event (as of `orjson.loads`), as a key sees it, has the words."""
        return self.matches_at_cost(event)[0]

    def matches_at_cost(
        self, event: Mapping[str, Any], most: int | None = None
    ) -> tuple[bool, int]:
        """Whether the event has the words, and the steps that it took to look. Raises `Undecided`
        if that would be more than `most`."""
        values = values_of(event, self.members, most and most // _STEPS_PER_VALUE)
        # No word holds a NUL: none occurs across two values.
        text = "\0".join(values)
        words = len(self.all_of) + len(self.none_of)
        steps = len(values) * _STEPS_PER_VALUE + len(text) * words // _CHARACTERS_PER_STEP
        if not text.isascii():
            steps += len(text) // _FOLDED_PER_STEP
        if most is not None and steps > most:
            raise Undecided
        folded = fold(text)
        found = all(word in folded for word in self.all_of) and not any(
            word in folded for word in self.none_of
        )
        return found, steps

    @property
    def needles(self) -> tuple[str, ...]:
        """Words of ASCII that stand in the JSON of each event that has them as they are, letters in
        either case, unless it holds a backslash."""
        return tuple([word for word in self.all_of if word.isascii() and _PLAIN(word)])


# JSON has these behind a backslash, always or as its writer likes.
_PLAIN = re.compile(r'[^"\\/\x00-\x1f\x7f]+\Z').match


def parse_text(text: str | None, members: str | None) -> TextQuery | None:
    """Query of the parameters `text` and `text_in`; None without. Raises `InvalidRequest`."""
    if text is None:
        if members is not None:
            raise InvalidRequest(
                "text_in: this says where text= is looked for; send text= with it",
                parameter="text_in",
            )
        return None
    all_of, none_of = _words(text)
    return TextQuery(
        tuple(sorted(all_of)), tuple(sorted(none_of)), () if members is None else _paths(members)
    )


def _words(text: str) -> tuple[set[str], set[str]]:
    if len(text) > MOST_CHARACTERS:
        raise _invalid(f"at most {MOST_CHARACTERS} characters, not {len(text)}")
    if "\0" in text:
        raise _invalid("a NUL character is in no word")
    all_of: set[str] = set()
    none_of: set[str] = set()
    at, count = 0, 0
    while at < len(text):
        if text[at] in _BLANKS:
            at += 1
            continue
        token = _TOKEN.match(text, at)
        assert token is not None
        hyphen, phrase, word = token.groups()
        if phrase is None and (word.startswith('"') or not word):
            raise _invalid(
                'a phrase ends with a quotation mark, and a blank stands behind it: "a phrase"'
            )
        wanted = word if phrase is None else phrase
        if not wanted.strip(_BLANKS):
            raise _invalid("a phrase needs a word between its quotation marks")
        (none_of if hyphen else all_of).add(fold(wanted))
        at, count = token.end(), count + 1
    if not count:
        raise _invalid("at least one word is needed; leave it out to look for nothing")
    if count > MOST_WORDS:
        raise _invalid(f"at most {MOST_WORDS} words, not {count}; a phrase counts as one")
    return all_of, none_of


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest(f"text: {detail}", parameter="text")


def _paths(members: str) -> Members:
    paths = []
    for path in members.split(","):
        root, *rest = path.split(".")
        inner = _MEMBERS.get(root, frozenset())
        known = root in _MEMBERS and (
            inner is None or not rest or (len(rest) == 1 and rest[0] in inner)
        )
        if not known or "" in rest:
            raise InvalidRequest(
                f"text_in: {path[:64]!r} is no member of events; there are "
                + ", ".join(_MEMBERS)
                + ", and what is in them, such as actor.name or data.note",
                parameter="text_in",
            )
        paths.append((root, *rest))
    if len(paths) > MOST_MEMBERS:
        raise InvalidRequest(f"text_in: at most {MOST_MEMBERS} members", parameter="text_in")
    return tuple(sorted(set(paths)))


def values_of(
    event: Mapping[str, Any], members: Members = (), most: int | None = None
) -> list[str]:
    """Values of an event that may be looked at, as text, within some members of it, or all. Raises
    `Undecided` if there are many more than `most`."""
    found: list[str] = []
    hidden = event.get("masked")
    masked = {tuple(path.split(".")) for path in hidden} if hidden else None
    if members:
        for path in members:
            for at, value in _at(event, path):
                _collect(value, at, masked, found, most)
        return found
    for name, value in event.items():
        if name not in _DECLARED:
            _collect(value, (name,), masked, found, most)
    return found


def _at(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """Values at a path, through lists."""
    values = [value]
    for name in path:
        below: list[Any] = []
        while values:
            one = values.pop()
            if type(one) is list:
                values += one
            elif isinstance(one, Mapping) and name in one:
                below.append(one[name])
        values = below
    return [(path, one) for one in values]


def _collect(
    value: Any,
    path: tuple[str, ...],
    masked: set[tuple[str, ...]] | None,
    found: list[str],
    most: int | None,
) -> None:
    """Add the values in a value, without what is at a masked path or below one."""
    if masked is not None and any(path[:length] in masked for length in range(1, len(path) + 1)):
        return
    waiting: list[tuple[tuple[str, ...], Any]] = [(path, value)]
    while waiting:
        path, value = waiting.pop()
        kind = type(value)
        if kind is str:
            found.append(value)
        elif kind is dict:
            _check_room(len(found) + len(waiting) + len(value), most)
            if masked is None:
                waiting += [(path, one) for one in value.values()]
            else:
                for name, one in value.items():
                    below = (*path, name)
                    if below not in masked:
                        waiting.append((below, one))
        elif kind is list:
            _check_room(len(found) + len(waiting) + len(value), most)
            waiting += [(path, one) for one in value]
        elif kind is bool:
            found.append("true" if value else "false")
        elif kind is int:
            found.append(str(value))


def _check_room(values: int, most: int | None) -> None:
    if most is not None and values > most:
        raise Undecided
