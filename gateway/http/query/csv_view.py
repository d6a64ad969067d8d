"""CSV through the view of a key: which columns it may have, and what makes the rows."""

from __future__ import annotations

from gateway.access.policy.decision import View
from gateway.access.policy.hidden_members import dropping, hidden_in_all
from gateway.errors import Forbidden, InvalidRequest
from gateway.formats.csv import CsvOptions, csv_encoder
from gateway.formats.format import Format
from gateway.http.query.query import Query
from gateway.wire.csv_body import CsvBody


def csv_of(query: Query, view: View) -> tuple[CsvOptions, Format]:
    """Options and format of the rows of a query; `view` is bound to the log.

    Raises `Forbidden` for a column that the key sees in no event, and `InvalidRequest` for what CSV
    has no place for.
    """
    options = query.csv or CsvOptions()
    if query.format not in (None, "native"):
        raise InvalidRequest(
            "format: the columns of CSV are members of the native event; leave format out",
            code="unsupported_format",
            parameter="format",
        )
    if query.consumer is not None:
        raise InvalidRequest(
            "consumer: CSV has no place for what a consumer is told; read it as NDJSON",
            parameter="consumer",
        )
    hidden = hidden_in_all(view, query.wanted, query.filter, options.columns)
    if hidden:
        raise Forbidden(
            "the grants of this key hide these columns in every event: "
            f"{', '.join(hidden)}; leave them out of columns=",
            code="hidden_by_mask",
            columns=list(hidden),
        )
    encode = csv_encoder(options, dropping(view, options.columns))
    return options, Format("csv", False, encode)


def csv_body(query: Query, view: View, *, chunked: bool) -> CsvBody:
    """Body of an export. Raises as `csv_of` does, and `InvalidRequest` where a client could not see
    that it was cut."""
    if not chunked:
        raise InvalidRequest(
            "over HTTP/1.0 a file that was cut looks whole: ask for CSV over HTTP/1.1 (a proxy may "
            "have to be told to), or for NDJSON, whose last line tells",
            code="http_1_1_needed",
        )
    return CsvBody(*csv_of(query, view))


def not_csv() -> InvalidRequest:
    """Refusal of options of CSV for an answer that is none."""
    return InvalidRequest(
        "columns, bom and raw are about CSV; send Accept: text/csv with them (a stream has to end, "
        "with follow=false)",
        parameter="columns",
    )
