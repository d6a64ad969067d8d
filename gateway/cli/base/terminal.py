"""Output of the commands. Control characters in names, descriptions and reasons are escaped: they
would move the cursor or fake lines."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator
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


def say_json(value: object, indent: int | None = None) -> None:
    import msgspec

    click.echo(printable_json(json.dumps(msgspec.to_builtins(value), indent=indent)))


def say_document(text: str) -> None:
    """Print a text of many lines."""
    click.echo("\n".join(map(printable, text.split("\n"))), nl=False)
