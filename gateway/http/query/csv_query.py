"""Parameters of CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.errors import InvalidRequest
from gateway.formats.csv import CsvOptions, parse_columns

CSV = ("columns", "bom", "raw")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def csv_options(values: Mapping[str, Sequence[str]]) -> CsvOptions:
    """Options of CSV. Columns may be one value, or several."""
    options = CsvOptions(bom=_flag(values, "bom"), raw=_flag(values, "raw"))
    if "columns" not in values:
        return options
    return CsvOptions(parse_columns(",".join(values["columns"])), options.bom, options.raw)


def _flag(values: Mapping[str, Sequence[str]], name: str) -> bool:
    given = values.get(name, ("false",))
    if len(given) > 1 or given[0] not in _FLAGS:
        raise InvalidRequest(f"{name}: true or false, once", parameter=name)
    return _FLAGS[given[0]]
