"""How many examples and rounds tests try: few in an ordinary run, many in a thorough one.

`make test-thorough` sets `TEST_EXAMPLES=thorough`. Use it for whatever is random or repeated:

    @settings(max_examples=examples(500))
    for _ in range(examples(40, least=5)):
"""

from __future__ import annotations

import os

THOROUGH = os.environ.get("TEST_EXAMPLES") == "thorough"


def examples(many: int, *, least: int = 10, share: int = 5) -> int:
    """That many in a thorough run, else a fifth of them or less, but not fewer than `least`."""
    return many if THOROUGH else max(min(least, many), many // share)
