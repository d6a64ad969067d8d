"""Alphabets of the members of events, to refuse patterns that no event can match.

A denial with such a pattern would hide nothing, a selector select nothing, without any error. The
alphabets follow `gateway.event`; patterns over resources also have no empty segments.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.errors import InvalidRequest
from gateway.event import (
    ACTION_CHARACTERS,
    CATEGORY_CHARACTERS,
    LONGEST_ACTION,
    LONGEST_CATEGORY,
    LONGEST_SHORT,
    LONGEST_TENANT,
    LONGEST_URN,
    OUTCOMES,
    TENANT_CHARACTERS,
    URN_CHARACTERS,
)
from gateway.filters.pattern import ANY, check_pattern, is_literal


class Alphabet(NamedTuple):
    """Alphabet of one member: separator of its segments, their characters, its greatest length.

    `rule` describes a segment in words; `gaps`: segments may be empty.
    """

    separator: str
    character: re.Pattern[str]
    longest: int
    rule: str
    gaps: bool = False


ALPHABETS = {
    "tenant": Alphabet(
        ".", re.compile(TENANT_CHARACTERS), LONGEST_TENANT,
        "a-z, 0-9, dot, underscore and hyphen", gaps=True,
    ),
    "category": Alphabet(
        ".", re.compile(CATEGORY_CHARACTERS), LONGEST_CATEGORY,
        "words of a-z, 0-9, _ and - with dots between",
    ),
    "action": Alphabet(
        ".", re.compile(ACTION_CHARACTERS), LONGEST_ACTION,
        "words of letters, digits, _ - : and / with dots between",
    ),
    # Events never hold half of a surrogate pair.
    "actor": Alphabet("/", re.compile("[^\ud800-\udfff]"), LONGEST_SHORT, "characters", gaps=True),
    "resource": Alphabet(
        "/", re.compile(URN_CHARACTERS), LONGEST_URN, "characters that can be printed"
    ),
}  # fmt: skip


def _ordinary(alphabet: Alphabet) -> re.Pattern[str]:
    """Expression that accepts most valid patterns, so that these are checked at once.

    It accepts segments that are not empty, whole wildcards, and `**` only at the end.
    """
    between = re.escape(alphabet.separator)
    segment = rf"(?:(?:(?![{between}*]){alphabet.character.pattern})++|\*(?!\*))"
    return re.compile(rf"(?:{segment}{between})*+(?:{segment}|\*\*)", re.ASCII)


_ORDINARY = {member: _ordinary(alphabet) for member, alphabet in ALPHABETS.items()}
# Scheme of a URI and the empty segment after it: `s3://bucket/key`, `file:///etc/passwd`.
_URI = re.compile(r"(?:file:///|[A-Za-z][A-Za-z0-9+.-]*://)", re.ASCII)


def check_member_pattern(member: str, pattern: str) -> None:
    """Raise `InvalidRequest` with the `column` (from 1) if no `member` can match `pattern`."""
    if member == "outcome":
        if pattern not in OUTCOMES:
            raise _invalid(f"{pattern!r} is none of {', '.join(OUTCOMES)}", 1)
        return
    alphabet = ALPHABETS[member]
    if len(pattern) <= alphabet.longest and _ORDINARY[member].fullmatch(pattern):
        return
    check_pattern(pattern, alphabet.separator)
    for column, character in enumerate(pattern, 1):
        if character not in ("*", alphabet.separator) and not alphabet.character.match(character):
            raise _invalid(
                f"{pattern!r} matches no {member}: {character!r} cannot be in one, which is made "
                f"of {alphabet.rule}{_advice(pattern, alphabet)}",
                column,
            )
    if not alphabet.gaps and (gap := _gap(pattern, alphabet.separator)):
        raise _invalid(
            f"{pattern!r} has an empty segment between {alphabet.separator!r}, and matches no "
            f"{member}; was something left empty there?",
            gap,
        )
    # `**` may stand for nothing; `*` is at least one character.
    least = len(pattern.removesuffix(alphabet.separator + ANY))
    if pattern != ANY and least > alphabet.longest:
        raise _invalid(
            f"{pattern[:32]!r}.. matches no {member}: none has more than {alphabet.longest} "
            "characters",
            alphabet.longest + 1,
        )


def can_be(member: str, value: str) -> bool:
    """Whether the `member` of an event can have this value."""
    if not is_literal(value):
        # Only these members can contain a star.
        return member in ("actor", "resource")
    try:
        check_member_pattern(member, value)
    except InvalidRequest:
        return member == "actor" and value == ""
    return True


def _gap(pattern: str, separator: str) -> int:
    """Column (from 1) of the first empty segment; 0 if there is none."""
    scheme = _URI.match(pattern) if separator == "/" else None
    start = scheme.end() if scheme else 0
    column = start + 1
    for segment in pattern[start:].split(separator):
        if not segment:
            return column
        column += len(segment) + 1
    return 0


def _advice(pattern: str, alphabet: Alphabet) -> str:
    def fits(text: str) -> bool:
        return all(
            one in ("*", alphabet.separator) or alphabet.character.match(one) for one in text
        )

    if pattern.strip() and fits(pattern.strip().lower()):
        return f"; did you mean {pattern.strip().lower()!r}?"
    if "," in pattern:
        return "; write several as a list, or give the parameter once for each"
    return ""


def _invalid(detail: str, column: int) -> InvalidRequest:
    return InvalidRequest(f"{detail} (column {column})", column=column)
