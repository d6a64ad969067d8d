"""Text of an access review: Markdown, HTML and CSV from the same cells. Pure.

Whatever stands in names, purposes and reasons stays text: Markdown and HTML escape it, CSV puts a
`'` before what a spreadsheet would take for a formula. All formats come in parts, one a row.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from gateway.formats.csv import csv_text
from gateway.oversight.report.rows import AccessReview, Section, cells, sections
from gateway.oversight.review.document_text import html_text, markdown_text

_TITLE = "Access review"
_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;"
    "color:#111;background:#fff}"
    "table{border-collapse:collapse;width:100%}td,th{border:1px solid #999;padding:.2rem .5rem;"
    "text-align:left;vertical-align:top}td{overflow-wrap:anywhere;min-width:5rem}"
    "dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.2rem 1rem;"
    "margin:0 0 1rem;padding:.5rem;border:1px solid #999;break-inside:avoid}"
    "dl div{overflow-wrap:anywhere}dt{font-weight:600;font-size:.85em}dd{margin:0}"
    ".wide{grid-column:1/-1}"
    "@media print{body{font-size:9px;max-width:none;margin:0}@page{margin:12mm}"
    "thead{display:table-header-group}tr{break-inside:avoid}}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# What a browser may do with the page: show it, with its own style.
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
# Sections of rows with many members, which are written one below the other.
_UPRIGHT = ("review", "keys")
# Members of theirs that take a line for themselves.
_SENTENCES, _WIDE = ("scope", "not_shown", "rows_sha256", "says"), ' class="wide"'


def to_markdown(review: AccessReview) -> Iterator[str]:
    """CommonMark with tables."""
    yield f"# {_TITLE}\n"
    for section in sections(review):
        yield f"\n## {section.title}\n\n"
        if not section.rows:
            yield "None.\n"
        elif section.name in _UPRIGHT:
            for row in section.rows:
                pairs = zip(section.labels, cells(row), strict=True)
                yield "".join(f"- {name}: {markdown_text(text)}\n" for name, text in pairs)
                yield "\n" if section.name == "review" else "\n---\n\n"
        else:
            yield _columns(section.labels) + _columns("---" for _ in section.labels)
            for row in section.rows:
                yield _columns(map(markdown_text, cells(row)))


def _columns(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |\n"


def to_html(review: AccessReview) -> Iterator[str]:
    """A whole page, in English, without scripts and external resources, that can be printed."""
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{_TITLE}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_TITLE}</h1>\n"
    )
    for section in sections(review):
        yield f'<section id="{section.name}">\n<h2>{html_text(section.title)}</h2>\n'
        yield from _html_rows(section)
        yield "</section>\n"
    yield "</body>\n</html>\n"


def _html_rows(section: Section) -> Iterator[str]:
    if not section.rows:
        yield "<p>None.</p>\n"
    elif section.name in _UPRIGHT:
        for row in section.rows:
            triples = zip(section.names, section.labels, cells(row), strict=True)
            inner = "".join(
                f"<div{_WIDE if name in _SENTENCES else ''}>"
                f"<dt>{html_text(label)}</dt><dd>{html_text(text)}</dd></div>\n"
                for name, label, text in triples
            )
            yield f"<dl>\n{inner}</dl>\n"
    else:
        head = "".join(f'<th scope="col">{html_text(name)}</th>' for name in section.labels)
        yield f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
        for row in section.rows:
            yield f"<tr>{''.join(f'<td>{html_text(text)}</td>' for text in cells(row))}</tr>\n"
        yield "</tbody>\n</table>\n"


def to_csv(review: AccessReview) -> Iterator[str]:
    """RFC 4180: one table, whose first column names the section of each row; a column for each
    member of any section."""
    names = list(dict.fromkeys(name for one in sections(review) for name in one.names))
    yield _line(["section", *names])
    for section in sections(review):
        places = [names.index(name) for name in section.names]
        for row in section.rows:
            line = [""] * len(names)
            for place, text in zip(places, cells(row), strict=True):
                line[place] = text
            yield _line([section.name, *line])


def _line(texts: Iterable[str]) -> str:
    return ",".join(map(csv_text, texts)) + "\r\n"


def to_json(review: AccessReview) -> Iterator[str]:
    """The report as one JSON object, a row on each line."""
    before = "{"
    for section in sections(review):
        yield f'{before}"{section.name}":'
        if section.name == "review":
            yield msgspec.json.encode(section.rows[0]).decode()
        else:
            comma = "[\n"
            for row in section.rows:
                yield comma + msgspec.json.encode(row).decode()
                comma = ",\n"
            yield "\n]" if section.rows else "[]"
        before = ",\n"
    yield "}\n"


class ReviewFormat(msgspec.Struct, frozen=True):
    """A format: media type, suffix of files, and function to its parts."""

    kind: str
    suffix: str
    write: Callable[[AccessReview], Iterator[str]]


FORMATS: Mapping[str, ReviewFormat] = {
    "markdown": ReviewFormat("text/markdown", "md", to_markdown),
    "html": ReviewFormat("text/html", "html", to_html),
    "csv": ReviewFormat("text/csv", "csv", to_csv),
    "json": ReviewFormat("application/json", "json", to_json),
}
