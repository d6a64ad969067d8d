"""Scopes: parts of the log, given by selectors.

The parameters of a stream and each grant of a key are scopes. Within one
member the patterns are alternatives; all members must hold. An empty tuple
means no restriction of that kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Protocol, TypeVar

import msgspec

from gateway.errors import InvalidRequest
from gateway.filters.alphabet import ALPHABETS, check_member_pattern
from gateway.filters.pattern import ANY, begins_with_wildcard, compile_patterns, is_literal

# By member: the separator of the segments of its values.
SEPARATORS = {member: alphabet.separator for member, alphabet in ALPHABETS.items()}
EQUALITY_MEMBERS = ("tenant", "category", "action", "outcome", "actor")
MAX_PATTERNS = 256
# Members with few values in a log, so that combinations repeat.
_FEW_VALUED = {"tenant", "category", "action", "outcome", "severity"}
_MOST_ANSWERS = 32
RESERVED = "gateway"
# Category of refused items, stored under their sender's tenant; member of `data` with the item.
REJECTED = f"{RESERVED}.rejected"
REJECTED_ITEM = "rejected_item"


class Described(Protocol):
    """Members that scopes test, of an event or a draft."""

    @property
    def tenant(self) -> str: ...
    @property
    def category(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def severity(self) -> int: ...
    @property
    def actor(self) -> str: ...
    @property
    def resources(self) -> str: ...


Test = Callable[[Described], bool]
Answer = TypeVar("Answer")


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Part of the log. Hashable; equal scopes hold the same events.

    `reserved`: patterns that begin with a wildcard match the categories `gateway.*` too. Never in a
    grant, always in a subscriber's own selectors, which only narrow.
    """

    tenant: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    actor: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()
    min_severity: int = 1
    reserved: bool = True

    def check(self) -> None:
        """Raise `InvalidRequest` naming the member that is malformed."""
        for member in (*SEPARATORS, "outcome"):
            patterns = getattr(self, member)
            if len(patterns) > MAX_PATTERNS:
                raise InvalidRequest(
                    f"{member}: {len(patterns)} values; at most {MAX_PATTERNS}", parameter=member
                )
            for pattern in patterns:
                try:
                    check_member_pattern(member, pattern)
                except InvalidRequest as error:
                    raise InvalidRequest(
                        f"{member}: {error.detail}", parameter=member, **error.members
                    ) from None
        if not 1 <= self.min_severity <= 6:
            raise InvalidRequest("min_severity: a number from 1 to 6", parameter="min_severity")

    def equality(self, member: str) -> frozenset[str] | None:
        """All values of the member in matching events; None if they cannot be listed."""
        patterns: tuple[str, ...] = getattr(self, member)
        if not patterns or not all(map(is_literal, patterns)):
            return None
        return frozenset(patterns)

    def members(self) -> set[str]:
        """Names of the event's attributes that the scope depends on."""
        names = {name for name in EQUALITY_MEMBERS if getattr(self, name)}
        if not self.reserved:
            names.add("category")
        if self.resource:
            names.add("resources")
        if self.min_severity > 1:
            names.add("severity")
        return names

    def compile(self) -> Test:
        """Test of whether an event is in the scope."""
        tests: list[Test] = []
        for member, on_member in _ON_MEMBER.items():
            patterns = getattr(self, member)
            if member == "category" and not self.reserved:
                tests.append(on_member(_unreserved(patterns)))
            elif patterns and ANY not in patterns:
                tests.append(on_member(compile_patterns(patterns, SEPARATORS[member])))
        if self.outcome:
            allowed = frozenset(self.outcome)
            tests.append(lambda event: event.outcome in allowed)
        if self.min_severity > 1:
            least = self.min_severity
            tests.append(lambda event: event.severity >= least)
        return all_of(tests)


# By member: the test of an event by a test of the member's value.
_ON_MEMBER: dict[str, Callable[[Callable[[str], bool]], Test]] = {
    "tenant": lambda test: lambda event: test(event.tenant),
    "category": lambda test: lambda event: test(event.category),
    "action": lambda test: lambda event: test(event.action),
    "actor": lambda test: lambda event: test(event.actor),
    "resource": lambda test: (
        lambda event: event.resources != "" and any(map(test, event.resources.split("\n")))
    ),
}


def _unreserved(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """Test of a category, of which wildcards match none that is reserved."""
    broad = [name for name in patterns if begins_with_wildcard(name)]
    by_name = compile_patterns((name for name in patterns if name not in broad), ".")
    if patterns and not broad:
        return by_name
    by_wildcard = compile_patterns(broad or (ANY,), ".")
    return lambda category: (
        by_name(category) or (by_wildcard(category) and not is_reserved(category))
    )


EVERYTHING = Scope()


def is_reserved(category: str) -> bool:
    """Whether a category is one of the gateway's own records."""
    return category == RESERVED or category.startswith(RESERVED + ".")


def all_of(tests: Sequence[Test]) -> Test:
    """Conjunction of tests, short-circuiting in order."""
    if not tests:
        return lambda event: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda event: first(event) and second(event)
    *before, last = tests
    head = all_of(before)
    return lambda event: head(event) and last(event)


def any_of(tests: Sequence[Test]) -> Test:
    """Disjunction of tests; never true if there are none."""
    if len(tests) == 1:
        return tests[0]
    return lambda event: any(test(event) for test in tests)


def remembered(ask: Callable[[Any], Answer], members: set[str]) -> Callable[[Any], Answer]:
    """Function that remembers the answers of `ask`, which depend on `members` only.

    It is `ask` itself unless all the members have few values."""
    if not members or not members <= _FEW_VALUED:
        return ask
    values_of = attrgetter(*members)
    answers: dict[Any, Answer] = {}

    def answered(event: Any) -> Answer:
        values = values_of(event)
        try:
            return answers[values]
        except KeyError:
            if len(answers) >= _MOST_ANSWERS:
                answers.clear()
            answer = answers[values] = ask(event)
            return answer

    return answered
