"""Many small cases in one test, where a test for each would cost more than what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Case = TypeVar("Case")


def check_each(cases: Iterable[Case], check: Callable[[Case], None]) -> None:
    """Check all of the cases; the failure names each that fails."""
    checked, failures = 0, []
    for checked, case in enumerate(cases, start=1):  # noqa: B007
        try:
            check(case)
        except Exception as failure:
            failure.add_note(f"the case: {case}")
            failures.append(failure)
    assert checked, "without cases nothing is checked"
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {checked} cases", failures)


def every(cases: Iterable[Case]) -> Callable[[Callable[[Case], None]], Callable[[], None]]:
    """Make one test of the check of a case:

    @every(MODULES)
    def test_imports_go_downwards_only(module: str) -> None:
    """
    known = list(cases)

    def decorate(check: Callable[[Case], None]) -> Callable[[], None]:
        def test() -> None:
            check_each(known, check)

        # Not `wraps`: pytest would take the case for a fixture.
        test.__name__, test.__qualname__ = check.__name__, check.__qualname__
        test.__module__, test.__doc__ = check.__module__, check.__doc__
        return test

    return decorate
