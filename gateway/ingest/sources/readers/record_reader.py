"""Readers: how lines of text become the records that definitions take values from. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

# Member of every record that was read from text: the text itself.
LINE = "line"
# Member that functions see besides: when the record is read, in seconds since 1970.
RECEIVED_AT = "received_at"


class RecordReader(NamedTuple):
    """`record` makes the record of one text, None if it is none of this kind; it never raises.

    `goes_on(line, open)` tells whether a record goes on behind a line, with `open` what it said of
    the line before: a record may have line breaks within quotes.
    """

    record: Callable[[str], dict[str, Any] | None]
    goes_on: Callable[[bytes, bool], bool] = lambda line, is_open: False
