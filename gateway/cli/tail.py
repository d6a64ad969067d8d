"""`audit-gateway tail`: watch events as they come in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from gateway.cli.base.event_text import event_parts, printable_json
from gateway.cli.base.terminal import say
from gateway.cli.client.options import DEFAULT_URL, read_key

INTERRUPTED = 130

_EXAMPLES = """\b
Examples:
  audit-gateway tail
  audit-gateway tail --category 'auth.*' --outcome denied --since 15m
  audit-gateway tail --filter 'severity >= 4 && data.bytes > 1000000'
  audit-gateway tail --from start --no-follow --json > events.ndjson
  audit-gateway tail --after 8kq2m9x4ty-00000000000000012345

\b
Exit codes: 0 complete, 2 usage, 3 the key was refused or lost its rights,
5 the gateway cannot be reached. A lost connection is taken up again where it
broke.
"""


def _selector(name: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(f"--{name}", multiple=True, metavar="PATTERN", help=what)


@click.command("tail", epilog=_EXAMPLES)
@_selector("tenant", "Only these tenants. Each of these options may repeat.")
@_selector("category", "Only these categories; `auth.*` and `auth.**` match by segment.")
@_selector("action", "Only these actions.")
@_selector("outcome", "Only these outcomes: success, failure, denied, unknown.")
@_selector("actor", "Only these actors, by id.")
@_selector("resource", "Only events on these resources, such as `k8s:prod/ns/pay/**`.")
@click.option("--min-severity", type=click.IntRange(1, 6), help="Only this severity and above.")
@click.option("--filter", metavar="EXPRESSION", help="Only what a CEL expression is true for.")
@click.option("--since", metavar="TIME", help="Begin at a time, or so long ago: 15m, 24h.")
@click.option("--from", "from", type=click.Choice(("start", "now")), help="Begin there.")
@click.option("--after", metavar="CURSOR", help="Begin behind a cursor.")
@click.option("--limit", type=click.IntRange(min=1), help="End after so many events.")
@click.option(
    "--no-follow",
    "follow",
    flag_value=False,
    default=None,
    help="End at the newest event instead of waiting.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the events as NDJSON.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Address of the gateway.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that holds the key; else the variable AUDIT_GATEWAY_KEY.",
)
def tail_command(as_json: bool, url: str, key_file: Path | None, **selected: Any) -> None:
    """Show events as they come in, one per line.

    What the key may see and the options select is shown. Everything beside
    the events goes to standard error.
    """
    # Imported here: `--help` need not wait for it.
    from gateway.cli.client.stream_client import StreamClient

    parameters = {name: value for name, value in selected.items() if value not in (None, ())}
    client = StreamClient(
        url, read_key(key_file), parameters, notice=lambda text: say(text, err=True)
    )
    show = _printer(as_json)
    try:
        with closing(client.events()) as events:
            for event in events:
                show(event)
    except KeyboardInterrupt:
        go_on = f"; go on with --after {client.cursor}" if client.cursor else ""
        say("", f"stopped{go_on}", err=True)
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader closed the pipe (`tail | head`). Python would complain at exit otherwise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printer(as_json: bool) -> Callable[[bytes], None]:
    """Function that prints one event, given as JSON."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    if as_json:
        return lambda event: click.echo(printable_json(event.decode()))

    import msgspec

    decode = msgspec.json.Decoder(dict[str, Any]).decode
    if not sys.stdout.isatty():
        return lambda event: say(" ".join(text for text, _ in event_parts(decode(event))))

    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def show(event: bytes) -> None:
        line = Text(" ").join(Text(text, style) for text, style in event_parts(decode(event)))
        console.print(line, soft_wrap=True)

    return show
