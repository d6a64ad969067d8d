"""`audit-gateway review`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from gateway.cli.administration.target import CommandTarget, target_options
from gateway.cli.base.terminal import say, say_document

Command = TypeVar("Command", bound=Callable[..., None])
_CONDITIONS = ("owner", "role", "state", "tenant", "action", "managed_by")


def _condition(name: str, about: str) -> Callable[[Command], Command]:
    return click.option(f"--{name.replace('_', '-')}", name, multiple=True, help=about)


@click.command()
@click.option(
    "--format", "kind",
    type=click.Choice(["markdown", "html", "csv", "json"]), default="markdown", show_default=True,
    help="How to write it: the same rows in each.",
)  # fmt: skip
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="A file that does not exist yet.  [default: standard output]",
)  # fmt: skip
@click.option(
    "--since", default="90d", show_default=True,
    help="Begin of the period of usage, changes and looks.",
)  # fmt: skip
@_condition("owner", "Keys of this owner; may be repeated, as the others below.")
@_condition("role", "Keys that have this role.")
@_condition("state", "Keys in this state, such as active.")
@_condition("tenant", "Keys that may read or send events of this tenant.")
@_condition("action", "Keys that may do this.")
@_condition("managed_by", "Keys that this set declares.")
@target_options
def review(
    kind: str, output: Path | None, since: str, target: CommandTarget, **asked: object
) -> None:
    """Report who may see what, who looked at what, and what has changed.

    A row for each key that has not ended, or ended in the period: its owner, purpose and maker,
    what it may do, when it was used, and who has reviewed it last.
    """
    pairs = [("since", since)]
    for name in _CONDITIONS:
        values = asked[name]
        assert isinstance(values, tuple)
        pairs += [(name, str(value)) for value in values]
    if output is not None and output.exists():
        raise click.BadParameter(f"{output} is there already", param_hint="--output")
    body = target.reviews.report(kind, pairs)
    if output is None:
        say_document(body.decode().replace("\r\n", "\n"))
        return
    with output.open("xb") as file:
        file.write(body)
    say(f"{output}: {len(body)} bytes")
