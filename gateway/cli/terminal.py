"""What the commands print. Nothing of it is obeyed by the terminal: names, descriptions and reasons
may hold control characters, which would move the cursor or fake lines."""

from __future__ import annotations

import json

import click

from gateway.cli.event_text import printable, printable_json


def say(*lines: str, err: bool = False) -> None:
    """Print lines for people; what breaks a line within one is shown escaped."""
    click.echo("\n".join(map(printable, lines)), err=err)


def say_json(value: object, indent: int | None = None) -> None:
    """Print a value for programs."""
    click.echo(printable_json(json.dumps(value, indent=indent)))


def say_document(text: str) -> None:
    """Print a text of many lines."""
    click.echo("\n".join(map(printable, text.split("\n"))), nl=False)
