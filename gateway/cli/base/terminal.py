"""Output of the commands. Control characters in names, descriptions and reasons are escaped: they
would move the cursor or fake lines."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from gateway.cli.base.event_text import printable, printable_json
from gateway.errors import GatewayError


def require_output() -> None:
    """Refuse to create a secret that is printed once if nothing can be printed."""
    if sys.stdout is None:
        raise GatewayError(
            "standard output is closed, and the key could not be printed; nothing was made"
        )


def require_open_output() -> None:
    """Raise `OSError` if output would be lost without an error."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")


@contextmanager
def naming_lost(key_id: str) -> Iterator[None]:
    """Name the key whose secret is lost if it could not be printed."""
    try:
        yield
    except OSError as error:
        raise GatewayError(
            f"the key {key_id} was made and could not be printed ({error.strerror}): revoke it "
            f"with `audit-gateway keys revoke {key_id}`, and make another"
        ) from None


def say(*lines: str, err: bool = False) -> None:
    """Print lines for people; line breaks within one are escaped."""
    click.echo("\n".join(map(printable, lines)), err=err)


def say_row(text: str) -> None:
    """Print a row of a list on one line: cut to the terminal, whole where there is none."""
    row = printable(text)
    if sys.stdout.isatty():
        row = fitted(row, shutil.get_terminal_size().columns)
    click.echo(row)


def say_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under the names of their columns, cut to the terminal as `say_row` does."""
    lines = [list(names), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            f"{cell}{' ' * (most - width(cell))}" for cell, most in zip(line, widths, strict=True)
        )
        say_row("  ".join(cells).rstrip())


def fitted(text: str, columns: int) -> str:
    """Text that takes at most so many columns; one that is cut ends with an ellipsis."""
    if width(text) <= columns:
        return text
    taken, kept = 0, ""
    for character in text:
        taken += width(character)
        if taken >= columns:
            break
        kept += character
    return f"{kept}\N{HORIZONTAL ELLIPSIS}"


def width(text: str) -> int:
    """Columns that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def say_strongly(line: str) -> None:
    """Print a line that stands out on a terminal."""
    click.echo(click.style(printable(line), bold=True))


def say_json(value: object, indent: int | None = None) -> None:
    import msgspec

    click.echo(printable_json(json.dumps(msgspec.to_builtins(value), indent=indent)))


def say_document(text: str) -> None:
    """Print a text of many lines."""
    click.echo("\n".join(map(printable, text.split("\n"))), nl=False)
