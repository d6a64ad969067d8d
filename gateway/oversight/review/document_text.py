"""Text of documents: blocks as Markdown (CommonMark with tables) and as HTML. Pure.

Texts in blocks come from strangers and never become markup. Characters that are invisible, or that
turn the direction of writing, are shown as their escapes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence

from gateway.oversight.review.document import Block

# What begins markup within a line, or makes links of addresses.
_MARKUP = re.compile(r"[\\`*_\[\]<>&|~!$#]|://|@|(?<=www)\.", re.IGNORECASE)
_TICKS = re.compile(r"`+")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2rem .6rem;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}"
    "pre{background:#eee;color:#000;padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}"
)
# What a browser may do with the page: show it.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def visible(text: str) -> str:
    r"""The text with every character that cannot be seen as it is in JSON, such as `\u202e`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def to_markdown(blocks: Sequence[Block]) -> str:
    return "\n".join(map(_markdown, blocks))


def _markdown(block: Block) -> str:
    if block.kind == "table":
        rows = [f"| {markdown_text(name)} | {markdown_text(value)} |" for name, value in block.rows]
        return "\n".join(["| | |", "| --- | --- |", *rows, ""])
    if block.kind == "code":
        lines = [visible(line) for line in block.rows]
        longest = max((len(run) for line in lines for run in _TICKS.findall(line)), default=0)
        fence = "`" * max(3, longest + 1)
        return "\n".join([f"{fence}json", *lines, fence, ""])
    if block.kind == "list":
        return "\n".join([*(f"- {markdown_text(item)}" for item in block.rows), ""])
    mark = {"title": "# ", "heading": "## "}.get(block.kind, "")
    return f"{mark}{_line(block.rows[0])}\n"


def _line(text: str) -> str:
    """A line of its own, whose first characters must not begin a list, a rule or a heading."""
    escaped = markdown_text(text).strip() or "(empty)"
    return re.sub(r"\A(\d*)([-+=.):]|\.)", r"\1\\\2", escaped)


def markdown_text(text: str) -> str:
    """Text within a line or a cell of Markdown."""
    return _MARKUP.sub(_backslashed, visible(text))


def _backslashed(match: re.Match[str]) -> str:
    return "\\" + match[0]


def to_html(blocks: Sequence[Block]) -> str:
    """A whole page, in English, without scripts and external resources."""
    title = next(block.rows[0] for block in blocks if block.kind == "title")
    body = "\n".join(map(_html, blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    if block.kind == "table":
        rows = [
            f'<tr><th scope="row">{html_text(name)}</th><td>{html_text(value)}</td></tr>'
            for name, value in block.rows
        ]
        return "\n".join(["<table>", *rows, "</table>"])
    if block.kind == "list":
        return "\n".join(["<ul>", *(f"<li>{html_text(item)}</li>" for item in block.rows), "</ul>"])
    tag = {"title": "h1", "heading": "h2", "text": "p", "code": "pre"}[block.kind]
    return "\n".join(f"<{tag}>{html_text(row)}</{tag}>" for row in block.rows)


def html_text(text: str) -> str:
    """Text within an element or attribute of HTML."""
    return html.escape(visible(text), quote=True)
