"""Tests of decoded records by conditions, as data that other processes can be told. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from gateway.ingest.mapping.compiler import Test, compile_test
from gateway.ingest.mapping.path import Condition, Member


class ConditionTest(msgspec.Struct, frozen=True):
    """Whether a record fulfils a condition; `ignore_case`: its outermost names are in any case."""

    condition: Condition
    ignore_case: bool = False

    def __call__(self, record: dict[str, Any]) -> bool:
        if self.ignore_case:
            record = {name.lower(): value for name, value in record.items()}
        return bool(_compiled(self.condition, self.ignore_case)(record))

    def names(self) -> tuple[tuple[str, ...], ...]:
        """The outermost names that a record has which fulfils it, by alternative."""
        return tuple(
            tuple(
                dict.fromkeys(
                    step.name.lower() if self.ignore_case else step.name
                    for term in terms
                    for step in term.path.steps[:1]
                    if not term.negated and isinstance(step, Member)
                )
            )
            for terms in self.condition
        )


@lru_cache(256)
def _compiled(condition: Condition, ignore_case: bool) -> Test:
    return compile_test(condition, ignore_case)
